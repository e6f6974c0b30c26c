"""Kafka topics against a real broker: any range again and exactly, what is gone, what is strange, who may log in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from hackwatch import streams, topics
from hackwatch.config import KafkaSettings, Settings, StreamSettings
from hackwatch.errors import ConfigurationError, DataError, ResourceError
from hackwatch.spark.service import _with_topics
from hackwatch.streams.stream import Messages
from hackwatch.topics import open_writer
from hackwatch.topics.kafka.address import parse_address
from hackwatch.topics.kafka.admin import create_topic, describe_topic, topic_names
from hackwatch.topics.kafka.reader import LEAST_AHEAD, KafkaReader
from hackwatch.topics.kafka.writer import KafkaWriter
from tests.servers.kafka import PASSWORD, USER, Broker
from tests.third.support import SHOP, shop
from tests.topics.support import Settled, everything, lines, positions

__all__ = ["shop"]

pytestmark = pytest.mark.slow
_NUMBERS = count()
Open = Callable[..., KafkaReader]


@pytest.fixture
def topic(kafka: Broker) -> str:
    """The address of a new topic with one partition."""
    return kafka.create(f"kafka-{next(_NUMBERS)}")


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens readers, and closes them after the test."""
    readers: list[KafkaReader] = []

    def opening(url: str, **options: object) -> KafkaReader:
        readers.append(KafkaReader(parse_address(url), **options))  # type: ignore[arg-type] # passed on as they are
        return readers[-1]

    yield opening
    for reader in readers:
        reader.close()


def write(url: str, *messages: bytes, key: str | None = None, settings: KafkaSettings | None = None) -> None:
    writer = KafkaWriter(parse_address(url), settings)
    writer.append(messages, key=key)
    writer.close()


def produce(kafka: Broker, url: str, *values: bytes | None, transactions: str = "", **properties: str) -> None:
    """Past our own writer, as others do; `transactions`: c or a for each message, committed or aborted."""
    from confluent_kafka import Producer

    more = {"transactional.id": url} if transactions else {}
    client = Producer({"bootstrap.servers": kafka.address, **more, **properties})
    if transactions:
        client.init_transactions(30)
    for number, value in enumerate(values):
        if transactions:
            client.begin_transaction()
        client.produce(parse_address(url).topic, value, partition=0)
        client.flush()
        if transactions:
            (client.commit_transaction if transactions[number] == "c" else client.abort_transaction)(30)
    client.flush()


def ranged(reader: KafkaReader, start: int, end: int, max_bytes: int = 1 << 20) -> dict[int, bytes]:
    """Every message of [start, end) by its offset, read as recovery does: it must end."""
    found: dict[int, bytes] = {}
    while start < end:
        messages = reader.read(0, start, max_bytes=max_bytes, end=end)
        assert messages is not None, f"recovery takes it as lost: {start}"
        assert start < messages.next_offset <= end
        found.update(zip(messages.offsets.tolist(), messages.payload.split(b"\n")[:-1], strict=True))
        start = messages.next_offset
    return found


def waited(reader: KafkaReader, partition: int, start: int, max_bytes: int = 1 << 20) -> Messages:
    """What comes next, waited for."""
    end = time.monotonic() + 20
    while (messages := reader.read(partition, start, max_bytes=max_bytes)) is None:
        assert time.monotonic() < end
        time.sleep(0.005)
    return messages


# -- ranges ------------------------------------------------------------------------------------------------------


def test_any_ranges_in_any_order_equal_a_list(kafka: Broker, topic: str, opened: Open) -> None:
    """Jumps, repeats and steps of all sizes, against the messages as they were written."""
    written = [b"%d %s" % (number, b"x" * (number * 37 % 900)) for number in range(3000)]
    write(topic, *written)
    reader = opened(topic)

    @hypothesis.settings(max_examples=40)
    @hypothesis.given(
        st.lists(st.tuples(st.integers(0, 2999), st.integers(1, 400), st.integers(1, 100_000)), min_size=1, max_size=3)
    )
    def compare(ranges: list[tuple[int, int, int]]) -> None:
        for start, length, max_bytes in ranges:
            end = min(start + length, len(written))
            assert ranged(reader, start, end, max_bytes) == dict(enumerate(written[start:end], start))

    compare()


def test_ranges_with_offsets_that_no_message_has_end(kafka: Broker, topic: str, opened: Open) -> None:
    """Each transaction leaves a marker; what was aborted is not there."""
    produce(kafka, topic, b"one", b"no", b"two", b"three", b"no", transactions="cacca")
    expected = {0: b"one", 4: b"two", 6: b"three"}
    reader = opened(topic)
    for start in range(10):
        for end in range(start + 1, 11):
            found = ranged(reader, start, end)
            assert found == {at: value for at, value in expected.items() if start <= at < end}, (start, end)


def test_reading_on_passes_the_markers_so_that_nothing_seems_unread(kafka: Broker, topic: str, opened: Open) -> None:
    produce(kafka, topic, b"one", b"no", transactions="ca")
    reader = opened(topic)
    position, seen = 0, b""
    end = time.monotonic() + 20
    while position < 4:
        assert time.monotonic() < end
        if (messages := reader.read(0, position, max_bytes=100)) is not None:
            seen, position = seen + messages.payload, messages.next_offset
    assert (position, seen) == (4, b"one\n")
    reader.look()
    assert reader.end_offset(0) == 4


def test_what_retention_has_deleted_is_an_error_that_says_where_to_go_on(
    kafka: Broker, topic: str, opened: Open
) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    write(topic, *[b"%d" % number for number in range(20)])
    reader = opened(topic)
    assert ranged(reader, 5, 8) == {5: b"5", 6: b"6", 7: b"7"}
    admin = AdminClient({"bootstrap.servers": kafka.address})
    [deleted] = admin.delete_records([TopicPartition(parse_address(topic).topic, 0, 10)]).values()
    assert deleted.result(30).low_watermark == 10
    for another in (reader, opened(topic)):
        for end in (None, 6):
            with pytest.raises(DataError, match="retention") as error:
                Settled(another).read(0, 3, max_bytes=100, end=end)
            assert error.value.where is not None
            assert error.value.where.endswith("/0/3")
            assert "has 10 to 20" in str(error.value.next_step)
        assert another.start_offset(0) == 10
        assert list(ranged(another, 10, 20)) == list(range(10, 20))


def test_a_topic_made_anew_is_not_taken_for_the_old_one(kafka: Broker, topic: str, opened: Open) -> None:
    write(topic, b"a")
    with pytest.raises(DataError, match="another one by now"):
        Settled(opened(topic)).read(0, 17, max_bytes=100)


def test_what_waits_for_a_partition_that_nobody_reads_is_bounded(kafka: Broker, opened: Open) -> None:
    url = kafka.create(f"kafka-{next(_NUMBERS)}", 2)
    payload = b"y" * 999 + b"\n"
    writer = KafkaWriter(parse_address(url), KafkaSettings(properties={"compression.type": "none"}))
    for _ in range(16):
        for _ in range(2):
            writer.append_payload(payload * 1000)
    writer.close()
    reader = opened(url)
    other, position = waited(reader, 1, 0, max_bytes=100_000).next_offset, 0
    while position < 16_000:
        position = waited(reader, 0, position, max_bytes=100_000).next_offset
        assert reader.waiting_bytes(1) <= 2 * LEAST_AHEAD + (1 << 20)
    assert reader.waiting_bytes(1) > LEAST_AHEAD
    while other < 16_000:  # going on where it was, over the pause
        messages = waited(reader, 1, other, max_bytes=100_000)
        assert messages.offsets.tolist() == list(range(other, messages.next_offset))
        other = messages.next_offset


# -- strange messages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_messages_of_others_come_as_one_line_each(kafka: Broker, topic: str, opened: Open, codec: str) -> None:
    values = [None, b"", b'{\n  "a": 1\n}\n', b"\x00\xff\x01", b"[]", b"\n", b"z" * 3000]
    produce(kafka, topic, *values, **{"compression.type": codec})
    reader = opened(topic, longest_message=2000)
    expected = [b"", b"", b'{   "a": 1 } ', b"\x00\xff\x01", b"[]", b" ", b"z" * 2000]
    assert ranged(reader, 0, 7) == dict(enumerate(expected))


def test_a_message_of_many_megabytes_is_cut(kafka: Broker, opened: Open) -> None:
    url = kafka.create(f"kafka-{next(_NUMBERS)}", config={"max.message.bytes": str(32 << 20)})
    write(url, b"before")
    big = {"message.max.bytes": str(32 << 20), "compression.type": "none"}
    produce(kafka, url, b"w" * (20 << 20), **big)
    write(url, b"after")
    found = ranged(opened(url, longest_message=1 << 20), 0, 3, max_bytes=1000)
    assert found == {0: b"before", 1: b"w" * (1 << 20), 2: b"after"}


# -- partitions, groups ------------------------------------------------------------------------------------------


def test_new_partitions_appear_by_themselves(kafka: Broker, topic: str, opened: Open) -> None:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewPartitions

    reader = opened(topic)
    assert list(reader.partitions()) == [0]
    admin = AdminClient({"bootstrap.servers": kafka.address})
    [grown] = admin.create_partitions([NewPartitions(parse_address(topic).topic, 3)]).values()
    grown.result(30)
    end = time.monotonic() + 20
    while list(reader.partitions()) != [0, 1, 2]:
        assert time.monotonic() < end
        time.sleep(0.05)
    for number in range(3):
        write(topic, b"%d" % number)
    writer = open_writer(topic)
    writer.append([b"a"])
    writer.append([b"b"])
    writer.append([b"c"])
    writer.close()
    assert sorted(everything(Settled(reader))) == [b"0", b"1", b"2", b"a", b"b", b"c"]


def test_a_topic_that_does_not_exist_is_empty_until_it_does(
    kafka: Broker, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    url = kafka.url(f"kafka-{next(_NUMBERS)}")
    reader = opened(url)
    assert list(reader.partitions()) == []
    assert (reader.read(0, 0, max_bytes=10), reader.start_offset(0), reader.end_offset(0)) == (None, 0, 0)
    assert [record.levelname for record in caplog.records if "does not exist yet" in record.message] == ["WARNING"]
    assert describe_topic(parse_address(url), KafkaSettings()).partitions == ()
    assert parse_address(url).topic not in topic_names(kafka.address, KafkaSettings()), "asking has not made it"
    write(url, b"now")
    end = time.monotonic() + 20
    while not reader.partitions():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert everything(Settled(reader)) == [b"now"]


def test_lag_tools_see_what_was_committed(kafka: Broker, topic: str, opened: Open) -> None:
    write(topic, *[b"x"] * 9)
    reader = opened(topic, group="seen")
    assert list(reader.partitions()) == [0]
    reader.commit({0: 4})
    end = time.monotonic() + 20
    while not (part := describe_topic(parse_address(topic), KafkaSettings(), ("seen",)).partitions[0]).committed:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert (part.committed, part.start, part.end) == ({"seen": 4}, 0, 9)
    reader.commit({0: 7})
    reader.close()
    status = describe_topic(parse_address(topic), KafkaSettings(), ("seen", "unseen"))
    assert status.partitions[0].committed == {"seen": 7}, "closing waits for the last positions"
    assert (status.kept_messages, status.unread_messages) == (9, 2)


# -- writing -----------------------------------------------------------------------------------------------------


def test_a_full_queue_makes_the_writer_wait_not_lose(kafka: Broker, topic: str, opened: Open) -> None:
    settings = KafkaSettings(properties={"queue.buffering.max.messages": 50})
    sent = [b"%d" % number for number in range(5000)]
    write(topic, *sent, settings=settings, key="k")
    assert lines(Settled(opened(topic))) == sent


def test_what_the_broker_refuses_is_an_error(kafka: Broker) -> None:
    url = kafka.create(f"kafka-{next(_NUMBERS)}", config={"max.message.bytes": "2000"})
    writer = KafkaWriter(parse_address(url), KafkaSettings(properties={"compression.type": "none"}))
    writer.append([b"x" * 5000])
    with pytest.raises(ResourceError, match=r"1 messages could not be delivered: .*too large"):
        writer.flush()
    writer.append([b"short"])
    writer.close()
    with pytest.raises(DataError, match="longer than the Kafka client sends"):
        writer.append([b"x" * (17 << 20)])


def test_what_was_not_delivered_in_time_is_an_error(kafka: Broker, topic: str) -> None:
    """As when brokers are gone for longer than message.timeout.ms: here the time is shorter than any answer takes."""
    settings = KafkaSettings(properties={"message.timeout.ms": 1, "linger.ms": 0})
    writer = KafkaWriter(parse_address(topic), settings)
    writer.append([b"x"] * 7)
    with pytest.raises(ResourceError, match="7 messages could not be delivered"):
        writer.flush()


def test_no_broker_is_an_error_at_once_for_writers(kafka: Broker) -> None:
    with pytest.raises(ResourceError, match="no Kafka broker answers"):
        open_writer("kafka://127.0.0.1:1/topic", kafka=KafkaSettings(properties={"socket.timeout.ms": 1000}))


def test_a_topic_is_made_as_asked_and_only_once(kafka: Broker) -> None:
    address = parse_address(kafka.url(f"kafka-{next(_NUMBERS)}"))
    create_topic(address, KafkaSettings(), partitions=3, replication=1, retention_hours=2.5)
    status = describe_topic(address, KafkaSettings())
    assert (len(status.partitions), status.replication, status.retention_hours) == (3, 1, 2.5)
    with pytest.raises(ConfigurationError, match="exists already"):
        create_topic(address, KafkaSettings(), partitions=3)
    with pytest.raises(ConfigurationError, match=r"replication factor.*\n  next: .*--replication"):
        create_topic(parse_address(kafka.url("other")), KafkaSettings(), partitions=1, replication=7)
    write(str(address), b"x")
    assert len(describe_topic(address, KafkaSettings()).partitions) == 3


# -- who may -----------------------------------------------------------------------------------------------------


def login(password: str) -> KafkaSettings:
    return KafkaSettings.model_validate(
        {
            "properties": {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN",
                "sasl.username": USER,
                "sasl.password": password,
            }
        }
    )


def test_the_right_password_opens_the_door(kafka: Broker, topic: str, opened: Open) -> None:
    url = f"kafka://{kafka.sasl_address}/{parse_address(topic).topic}"
    write(url, b"with a password", settings=login(PASSWORD))
    assert lines(Settled(opened(url, settings=login(PASSWORD)))) == [b"with a password"]


def test_a_wrong_password_is_said_and_not_shown(
    kafka: Broker, topic: str, opened: Open, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    url, wrong = f"kafka://{kafka.sasl_address}/{parse_address(topic).topic}", "guess-4711"
    said = []
    for use in (
        lambda: opened(url, settings=login(wrong)).partitions(),
        lambda: open_writer(url, kafka=login(wrong)),
        lambda: describe_topic(parse_address(url), login(wrong)),
    ):
        with pytest.raises(ResourceError, match="Kafka refuses the login") as error:
            use()
        said.append(str(error.value))
    assert "sasl.username" in said[0]
    printed = capfd.readouterr()
    assert wrong not in "".join([*said, caplog.text, printed.out, printed.err, repr(login(wrong))])


def test_positions_of_a_reader_do_not_depend_on_sizes(topic: str, opened: Open) -> None:
    write(topic, *[b"m" * (number % 50) for number in range(500)])
    reader = Settled(opened(topic))
    assert positions(reader, max_bytes=1) == positions(reader, max_bytes=1 << 20)


@pytest.mark.parametrize("present", [(), ("visit",), SHOP])
def test_spark_leaves_out_streams_whose_topic_is_not_there_unless_none_is(
    kafka: Broker, present: tuple[str, ...], tmp_path: Path, shop: None
) -> None:
    settings = Settings(
        data=tmp_path,
        streams={
            name: StreamSettings(topic=f"kafka://{kafka.address}/there-{len(present)}-{name}", enabled=name in SHOP)
            for name in streams.names()
        },
    )
    for name in present:
        write(settings.spool_url(name), b"{}")
    assert [topics.exists(settings.spool_url(name)) for name in SHOP] == [name in present for name in SHOP]
    read = [name for name, stream in _with_topics(settings).streams.items() if stream.enabled]
    assert sorted(read) == sorted(present or SHOP)
