"""The spool on disk: what is private, torn, too long, full, missing or lost."""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hackwatch import topics
from hackwatch.errors import ConfigurationError, DataError, ResourceError
from hackwatch.testing import FakeClock
from hackwatch.topics import Durability, open_reader, open_writer, spool_folder
from hackwatch.topics.segments import Tail, segment_path
from hackwatch.topics.spool import SpoolReader, SpoolWriter
from tests.topics.support import everything, lines, positions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "visit"


def writer(folder: Path, segment_bytes: int = 64 << 20, durability: Durability = "none") -> SpoolWriter:
    return SpoolWriter(folder, partitions=1, durability=durability, segment_bytes=segment_bytes)


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "p00000").glob("*.ndjson"))


@pytest.mark.parametrize("url", ["{}", "spool:{}"])
def test_an_address_is_a_folder(folder: Path, url: str) -> None:
    assert spool_folder(url.format(folder)) == folder


@pytest.mark.parametrize("url", ["nats://host/topic", "s3:bucket", "", "spool:"])
def test_other_addresses_say_what_is_supported(url: str) -> None:
    with pytest.raises(ConfigurationError, match="spool:PATH"):
        open_reader(url)


def test_everything_is_private_to_its_owner(folder: Path) -> None:
    before = os.umask(0)
    try:
        with_files = writer(folder)
        with_files.append([b"x"])
        SpoolReader(folder).commit({0: 2})
    finally:
        os.umask(before)
    for path in [folder.parent, folder, *folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_segments_are_named_by_position_and_join_without_gaps(folder: Path) -> None:
    out = writer(folder, segment_bytes=10)
    for message in (b"aaaa", b"bbbb", b"cc", b"a message longer than a segment", b"d"):
        out.append([message])
    assert [(int(path.stem), path.stat().st_size) for path in segments(folder)] == [(0, 10), (10, 3), (13, 32), (45, 2)]


def test_the_first_writer_fixes_the_number_of_partitions(folder: Path) -> None:
    assert SpoolWriter(folder, partitions=3).partitions == 3
    assert SpoolWriter(folder, partitions=5).partitions == 3
    assert list(SpoolReader(folder).partitions()) == [0, 1, 2]


def test_a_reader_may_come_before_the_topic(folder: Path) -> None:
    reader = SpoolReader(folder)
    assert (list(reader.partitions()), reader.end_offset(0), reader.read(0, 0, max_bytes=10)) == ([], 0, None)
    reader.commit({})
    out = writer(folder)
    assert (list(reader.partitions()), reader.read(0, 0, max_bytes=10)) == ([0], None)
    out.append([b"x"])
    assert lines(reader) == [b"x"]


def test_two_writers_take_turns_across_segments(folder: Path) -> None:
    one, two = writer(folder, segment_bytes=20), writer(folder, segment_bytes=20)
    for number in range(30):
        (one, two)[number % 2].append([b"message %d" % number])
    assert lines(SpoolReader(folder)) == [b"message %d" % number for number in range(30)]


def test_threads_share_a_writer(folder: Path) -> None:
    out = writer(folder, segment_bytes=500)

    def write(who: int) -> None:
        for number in range(200):
            out.append([b"%d-%d" % (who, number)])

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lines(SpoolReader(folder))) == sorted(b"%d-%d" % (who, n) for who in range(4) for n in range(200))


# --- what a crash leaves


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (b'{"torn":', [b"a", b'{"torn":', b"b"]),
        (b"whole\n", [b"a", b"whole", b"b"]),
        (b"whole\n{torn", [b"a", b"whole", b"{torn", b"b"]),
        (b"\0\0\0", [b"a", b"\0\0\0", b"b"]),
    ],
    ids=["torn line", "whole line", "whole and torn", "zeros after a power cut"],
)
def test_what_a_dead_writer_left_is_ended_with_a_newline(folder: Path, left: bytes, expected: list[bytes]) -> None:
    writer(folder).append([b"a"])
    watching = SpoolReader(folder)
    assert lines(watching) == [b"a"]
    with segments(folder)[0].open("ab") as file:
        file.write(left)
    assert lines(watching) == [b"a"], "an append that was never published must not be seen"
    writer(folder).append([b"b"])
    assert lines(watching) == expected
    assert lines(SpoolReader(folder)) == expected


def test_a_reader_that_comes_after_the_crash_adopts_what_was_left(folder: Path) -> None:
    writer(folder).append([b"a"])
    with segments(folder)[0].open("ab") as file:
        file.write(b"whole\n{torn")
    assert lines(SpoolReader(folder)) == [b"a", b"whole", b"{torn"]


@pytest.mark.parametrize("content", [b"", b"\0" * 24, b"garbage that is no tail"], ids=["empty", "zeros", "garbage"])
def test_a_lost_tail_is_made_anew_from_the_segments(folder: Path, content: bytes) -> None:
    out = writer(folder, segment_bytes=4)
    out.append([b"a"])
    out.append([b"bbb"])
    (folder / "p00000" / "tail").write_bytes(content)
    assert lines(SpoolReader(folder)) == [b"a", b"bbb"]
    out.append([b"c"])
    assert lines(SpoolReader(folder)) == [b"a", b"bbb", b"c"]


def test_positions_already_processed_are_not_given_out_again_after_a_power_cut(folder: Path) -> None:
    writer(folder).append([b"kept", b"lost", b"lost too"])
    reader = SpoolReader(folder)
    end = reader.end_offset(0)
    reader.commit({0: end})
    os.truncate(segments(folder)[0], 7)
    writer(folder).append([b"new"])
    assert positions(SpoolReader(folder), start=end) == {end: b"new"}
    assert lines(SpoolReader(folder)) == [b"kept", b"lo", b"\0" * (end - 9), b"new"]


def test_a_segment_that_became_shorter_is_an_error(folder: Path) -> None:
    out = writer(folder, segment_bytes=6)
    out.append([b"aa", b"bb"])
    out.append([b"cc"])
    os.truncate(segments(folder)[0], 3)
    reader = SpoolReader(folder)
    assert positions(reader, max_bytes=3, start=6) == {6: b"cc"}
    with pytest.raises(DataError, match="its end is missing"):
        reader.read(0, 3, max_bytes=100)


@pytest.mark.parametrize("made", [False, True], ids=["before it makes the segment", "before it writes to it"])
def test_a_writer_that_dies_while_it_begins_a_segment_leaves_no_overlap(folder: Path, made: bool) -> None:
    other = writer(folder, segment_bytes=10)
    other.append([b"aaaaaa"])
    tail = Tail(folder / "p00000", create=False)
    tail.publish(7, 7)
    if made:
        segment_path(folder / "p00000", 7).touch(0o600)
    other.append([b"b"])  # would fit into the old segment
    writer(folder, segment_bytes=10).append([b"c"])
    tail.close()
    assert positions(SpoolReader(folder)) == {0: b"aaaaaa", 7: b"b", 9: b"c"}


def test_a_tail_older_than_the_last_segment_is_not_believed(folder: Path) -> None:
    writer(folder).append([b"a"])
    segment_path(folder / "p00000", 2).touch(0o600)
    writer(folder).append([b"b"])
    assert positions(SpoolReader(folder)) == {0: b"a", 2: b"b"}
    assert [path.stat().st_size for path in segments(folder)] == [2, 2]


# --- long messages


@pytest.mark.parametrize("length", [99, 100, 101, 5000, 3 << 20])
def test_a_message_longer_than_the_longest_comes_cut_in_its_place(folder: Path, length: int) -> None:
    writer(folder).append([b"a", b"x" * length, b"b"])
    reader = SpoolReader(folder, longest_message=100)
    assert positions(reader, max_bytes=10) == {0: b"a", 2: b"x" * min(length, 100), 3 + length: b"b"}


def test_a_message_longer_than_asked_for_comes_whole(folder: Path) -> None:
    writer(folder).append([b"x" * (5 << 20), b"b"])
    assert [len(line) for line in lines(SpoolReader(folder), max_bytes=4096)] == [5 << 20, 1]


# --- a disk that refuses


@pytest.fixture
def small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_an_append_that_does_not_fit_leaves_nothing_behind(folder: Path) -> None:
    out, reader = writer(folder), SpoolReader(folder)
    out.append([b"x" * 8000])
    with pytest.raises(ResourceError) as error:
        out.append_payload(b"y" * 900 + b"\n" + b"z" * 5000 + b"\n")
    assert str(segments(folder)[0]) in str(error.value)
    assert "free some space" in str(error.value)
    assert segments(folder)[0].stat().st_size == 8001
    out.append([b"small"])
    assert [len(line) for line in lines(reader)] == [8000, 5]


def fill(out: SpoolWriter, kept: list[bytes]) -> None:
    """Append until the disk is full; `kept` gets what was accepted."""
    for number in range(1000):
        payload = b"%d\n" % number * 2000
        out.append_payload(payload)
        kept += payload.split(b"\n")[:-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_refuses_whole_appends_and_goes_on_once_there_is_space(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=256k tmpfs {disk} 2>/dev/null"):
        pytest.skip("this machine does not let us mount")
    try:
        out, kept = writer(disk / "topic", segment_bytes=40_000), list[bytes]()
        with pytest.raises(ResourceError, match="No space left"):
            fill(out, kept)
        with contextlib.closing(SpoolReader(disk / "topic")) as reader:
            assert lines(reader) == kept
            segments(disk / "topic")[0].unlink()
        out.append([b"after"])
        out.close()
        with contextlib.closing(SpoolReader(disk / "topic")) as reader:
            assert lines(reader)[-1] == b"after"
    finally:
        assert os.system(f"umount -l {disk}") == 0  # lazily: a failed test must not leave it behind


@pytest.mark.parametrize("what", ["segment", "tail"])
def test_an_unreadable_file_is_named(folder: Path, what: str) -> None:
    writer(folder).append([b"x"])
    broken = segments(folder)[0] if what == "segment" else folder / "p00000" / "tail"
    broken.rename(broken.with_suffix(".away"))
    broken.symlink_to(broken.with_suffix(".away"))  # refused as a permission is, for root too
    with pytest.raises(ResourceError) as error:
        SpoolReader(folder).read(0, 0, max_bytes=10)
    assert str(broken) in str(error.value)


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2, "partitions": 1}', '{"format": 1, "partitions": 0}'])
def test_a_topic_of_another_kind_is_not_touched(folder: Path, content: str) -> None:
    folder.mkdir(parents=True)
    (folder / "topic.json").write_text(content)
    for opened in (lambda: SpoolReader(folder).partitions(), lambda: writer(folder)):
        with pytest.raises(DataError, match=r"topic\.json"):
            opened()


# --- durability


@pytest.mark.parametrize(
    ("durability", "appends", "flushed"), [("none", 0, 0), ("interval", 2, 3), ("always", 6, 6)], ids=str
)
def test_when_data_are_forced_to_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, appends: int, flushed: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    clock = FakeClock()
    out = SpoolWriter(folder, partitions=1, durability=durability, clock=clock)
    for _ in range(6):  # every half second
        out.append([b"x"])
        clock.advance(0.5)
    assert len(calls) == appends
    out.flush()
    out.flush()
    assert len(calls) == flushed


def test_a_topic_by_its_address_from_both_ends(folder: Path) -> None:
    out = open_writer(f"spool:{folder}", 2)
    for number in range(4):
        out.append([b"%d" % number])
    reader = open_reader(str(folder))
    assert (reader.topic, everything(reader)) == ("visit", [b"0", b"2", b"1", b"3"])


def test_a_topic_exists_once_somebody_has_opened_it_to_write(tmp_path: Path) -> None:
    url = f"spool:{tmp_path / 'new'}"
    assert not topics.exists(url)
    topics.open_writer(url, 1, "none").close()
    assert topics.exists(url)
