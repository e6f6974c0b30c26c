"""What every topic must do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from hackwatch.errors import DataError
from hackwatch.testing import MemoryTopic
from hackwatch.topics import TopicReader, TopicWriter, open_reader, open_writer
from hackwatch.topics.kafka.reader import KafkaReader
from tests.servers.kafka import Broker
from tests.topics.support import Settled, everything, lines, positions


@dataclass
class Made:
    """A topic under test; `reopen` gives a fresh reader, as after a restart."""

    writer: TopicWriter
    reader: TopicReader
    reopen: Callable[[], TopicReader]


def _spool(folder: Path, partitions: int, segment_bytes: int = 64 << 20) -> Made:
    url = str(folder / "topic")
    writer = open_writer(url, partitions, segment_bytes=segment_bytes)
    return Made(writer, open_reader(url), lambda: open_reader(url))


def _memory(_folder: Path, partitions: int) -> Made:
    topic = MemoryTopic("topic", partitions)
    return Made(topic, topic, lambda: topic)


def _kafka(broker: Broker, partitions: int) -> Made:
    url = broker.url(f"contract-{next(_NUMBERS)}")
    writer = open_writer(url, partitions, "always", topic="topic")

    def read() -> TopicReader:
        reader = open_reader(url, topic="topic")
        assert isinstance(reader, KafkaReader)
        _OPENED.append(reader)
        return Settled(reader)

    return Made(writer, read(), read)


_NUMBERS = count()
_OPENED: list[KafkaReader] = []
KINDS: dict[str, Callable[[Path, int], Made]] = {
    "spool": _spool,
    "spool of tiny segments": lambda folder, partitions: _spool(folder, partitions, segment_bytes=40),
    "memory": _memory,
}
Maker = Callable[[int], Made]


@pytest.fixture(params=[*KINDS, pytest.param("kafka", marks=pytest.mark.slow)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    if request.param == "kafka":
        yield partial(_kafka, request.getfixturevalue("kafka"))
        while _OPENED:
            _OPENED.pop().close()
    else:
        yield partial(KINDS[request.param], tmp_path)


MESSAGES = [b'{"a":1}', b"", b"[]", "ünïcode \u2028".encode(), b"\xff\x00 not text", b"x" * 5000]


def test_messages_come_back_as_they_were_in_order(make: Maker) -> None:
    made = make(1)
    made.writer.append(MESSAGES)
    made.writer.append_payload(b"one\ntwo\n")
    assert lines(made.reader) == [*MESSAGES, b"one", b"two"]


@pytest.mark.parametrize("max_bytes", [1, 7, 8, 9, 64, 5001, 1 << 20])
def test_how_much_is_read_at_a_time_changes_nothing(make: Maker, max_bytes: int) -> None:
    made = make(1)
    made.writer.append(MESSAGES * 3)
    assert positions(made.reader, max_bytes=max_bytes) == positions(made.reader)


def test_offsets_ascend_and_any_of_them_is_a_place_to_start(make: Maker) -> None:
    made = make(1)
    for message in MESSAGES:
        made.writer.append([message])
    found = positions(made.reader)
    assert list(found) == sorted(found)
    for number, offset in enumerate(found):
        assert list(positions(made.reader, start=offset).values()) == MESSAGES[number:]


def test_nothing_past_the_end_that_was_asked_for(make: Maker) -> None:
    made = make(1)
    made.writer.append([b"a", b"bb", b"ccc"])
    second = list(positions(made.reader))[1]
    messages = made.reader.read(0, 0, max_bytes=1 << 20, end=second)
    assert messages is not None
    assert (messages.payload, messages.next_offset, len(messages)) == (b"a\n", second, 1)
    assert made.reader.read(0, second, max_bytes=1 << 20, end=second) is None


def test_a_range_reads_the_same_again_after_more_was_written_and_after_a_restart(make: Maker) -> None:
    made = make(1)
    made.writer.append([b"a", b"bb"])
    first = made.reader.read(0, 0, max_bytes=1 << 20)
    assert first is not None
    made.writer.append([b"c"] * 9)
    for reader in (made.reader, made.reopen()):
        again = reader.read(0, 0, max_bytes=1 << 20, end=first.next_offset)
        assert again is not None
        assert (again.payload, again.offsets.tolist(), again.next_offset) == (
            first.payload,
            first.offsets.tolist(),
            first.next_offset,
        )


def test_an_empty_topic_gives_nothing_until_something_comes(make: Maker) -> None:
    made = make(1)
    assert made.reader.read(0, 0, max_bytes=100) is None
    assert (made.reader.start_offset(0), made.reader.end_offset(0)) == (0, 0)
    made.writer.append([])
    made.writer.append_payload(b"")
    assert made.reader.read(0, 0, max_bytes=100) is None
    made.writer.append([b"x"])
    assert lines(made.reader) == [b"x"]


def test_end_offset_is_where_the_last_read_leads(make: Maker) -> None:
    made = make(1)
    made.writer.append([b"x"] * 10)
    position = 0
    while messages := made.reader.read(0, position, max_bytes=4):
        position = messages.next_offset
    assert position == made.reader.end_offset(0)


def test_a_key_keeps_to_one_partition_and_without_one_all_are_used(make: Maker) -> None:
    made = make(3)
    for number in range(9):
        made.writer.append([b"keyed %d" % number], key="client-4")
    assert sorted(len(lines(made.reader, partition)) for partition in made.reader.partitions()) == [0, 0, 9]
    for number in range(9):
        made.writer.append([b"any %d" % number])
    assert sorted(len(lines(made.reader, partition)) for partition in made.reader.partitions()) == [3, 3, 12]


def test_a_key_means_the_same_partition_for_every_writer_and_run(make: Maker) -> None:
    made = make(4)
    for key in ("4", "web-1", "ü"):
        made.writer.append([key.encode()], key=key)
    assert [lines(made.reader, partition) for partition in range(4)] == [[b"4", b"web-1"], ["ü".encode()], [], []]


def test_interleaved_writing_and_reading_loses_and_doubles_nothing(make: Maker) -> None:
    made = make(2)
    sent, got, position = [], list[bytes](), {0: 0, 1: 0}
    for number in range(200):
        sent.append(b"%d" % number)
        made.writer.append([sent[-1]])
        if number % 3 == 0:
            for partition in (0, 1):
                if messages := made.reader.read(partition, position[partition], max_bytes=8):
                    got += messages.payload.split(b"\n")[:-1]
                    position[partition] = messages.next_offset
    for partition in (0, 1):
        got += positions(made.reader, partition, start=position[partition]).values()
    assert sorted(got, key=int) == sent


@pytest.mark.parametrize("start", [5000, 1 << 40], ids=["a little", "far"])
def test_a_position_after_the_end_is_an_error_not_silence(make: Maker, start: int) -> None:
    made = make(1)
    made.writer.append([b"x"])
    with pytest.raises(DataError) as error:
        made.reader.read(0, start, max_bytes=100)
    assert f"topic/0/{start}" in str(error.value)
    assert error.value.next_step


def test_a_message_with_a_newline_inside_is_refused(make: Maker) -> None:
    made = make(1)
    with pytest.raises(DataError):
        made.writer.append([b"a\nb"])
    with pytest.raises(DataError):
        made.writer.append_payload(b"no end")
    assert everything(made.reader) == []


def test_commit_close_and_flush_can_be_called_at_any_time(make: Maker) -> None:
    made = make(1)
    made.writer.flush()
    made.writer.append([b"x"])
    made.reader.commit({0: made.reader.end_offset(0)})
    made.writer.flush()
    made.writer.close()
    made.reader.close()
    assert lines(made.reopen()) == [b"x"]
