"""What pruning may delete: whole segments that every reader has committed, oldest first, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hackwatch.config import Settings, SpoolSettings
from hackwatch.engine.service import inputs_of
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.testing import FakeClock
from hackwatch.topics import Retention
from hackwatch.topics.retention import Pruned, read_committed, retention_of
from hackwatch.topics.spool import SpoolReader, SpoolWriter
from tests.third.support import shop
from tests.topics.support import positions

__all__ = ["shop"]

HOUR = 3600.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path, clock: FakeClock) -> Path:
    """One partition, five segments of ten bytes, written an hour apart; the last one just now."""
    out = SpoolWriter(tmp_path, partitions=1, segment_bytes=10)
    for number in range(5):
        out.append([b"%09d" % number])
    for number, path in enumerate(sorted(tmp_path.rglob("*.ndjson"))):
        written = clock.wall() - HOUR * (4 - number)
        os.utime(path, (written, written))
    return tmp_path


def bases(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.rglob("*.ndjson"))


@pytest.mark.parametrize(
    ("committed", "retention", "kept"),
    [
        (None, Retention(max_bytes=0), [0, 10, 20, 30, 40]),
        (0, Retention(max_bytes=0), [0, 10, 20, 30, 40]),
        (9, Retention(max_bytes=0), [0, 10, 20, 30, 40]),
        (10, Retention(max_bytes=0), [10, 20, 30, 40]),
        (39, Retention(max_bytes=0), [30, 40]),
        (50, Retention(max_bytes=0), [40]),
        (50, Retention(max_bytes=50), [0, 10, 20, 30, 40]),
        (50, Retention(max_bytes=49), [10, 20, 30, 40]),
        (50, Retention(max_bytes=25), [30, 40]),
        (50, Retention(max_age_seconds=2.5 * HOUR), [20, 30, 40]),
        (20, Retention(max_age_seconds=0), [20, 30, 40]),
        (50, Retention(max_bytes=30, max_age_seconds=3.5 * HOUR), [20, 30, 40]),
        (50, Retention(), [0, 10, 20, 30, 40]),
    ],
    ids=[
        "nobody reads",
        "nothing committed",
        "one byte short of the first",
        "the first committed",
        "up to the middle of a segment",
        "the active segment stays",
        "just small enough",
        "one byte too large",
        "much too large",
        "too old",
        "too old but not committed",
        "too large and too old",
        "no limits",
    ],
)
def test_what_is_kept(
    folder: Path, clock: FakeClock, committed: int | None, retention: Retention, kept: list[int]
) -> None:
    reader = SpoolReader(folder, clock=clock)
    if committed is not None:
        reader.commit({0: committed})
    pruned = reader.prune(retention)
    assert bases(folder) == kept
    assert pruned == Pruned(5 - len(kept), 10 * (5 - len(kept)))
    assert reader.start_offset(0) == kept[0]
    assert list(positions(reader, start=kept[0])) == kept


def test_the_slowest_reader_counts(folder: Path) -> None:
    SpoolReader(folder, name="fast").commit({0: 50})
    slow = SpoolReader(folder, name="slow")
    slow.commit({0: 20})
    slow.prune(Retention(max_bytes=0))
    assert bases(folder) == [20, 30, 40]


def test_a_clock_that_stepped_back_makes_no_hole(folder: Path, clock: FakeClock) -> None:
    first = min(folder.rglob("*.ndjson"))
    os.utime(first, (clock.wall(), clock.wall()))
    reader = SpoolReader(folder, clock=clock)
    reader.commit({0: 50})
    reader.prune(Retention(max_age_seconds=1.5 * HOUR))
    assert bases(folder) == [0, 10, 20, 30, 40]


def test_reading_what_was_removed_says_where_and_what_next(folder: Path) -> None:
    reader, late = SpoolReader(folder), SpoolReader(folder)
    assert late.read(0, 0, max_bytes=10) is not None
    reader.commit({0: 50})
    reader.prune(Retention(max_bytes=0))
    with pytest.raises(DataError) as error:
        late.read(0, 10, max_bytes=10)
    assert error.value.where == f"{folder.name}/0/10"
    assert "oldest position kept is 40" in str(error.value)


def test_commit_prunes_now_and_then(folder: Path, clock: FakeClock) -> None:
    reader = SpoolReader(folder, retention=Retention(max_bytes=0), clock=clock)
    reader.commit({0: 10})
    assert bases(folder) == [10, 20, 30, 40]
    reader.commit({0: 20})
    assert bases(folder) == [10, 20, 30, 40]
    clock.advance(10)
    reader.commit({0: 20})
    assert bases(folder) == [20, 30, 40]


@pytest.mark.parametrize(
    ("gib", "hours", "expected"),
    [
        (1.5, 2.5, Retention(max_bytes=3 << 29, max_age_seconds=2.5 * HOUR)),
        (0, 2.5, Retention(max_bytes=None, max_age_seconds=2.5 * HOUR)),
        (1.5, 0, Retention(max_bytes=3 << 29, max_age_seconds=None)),
        (0, 0, Retention()),
    ],
)
def test_a_setting_of_0_keeps_everything(gib: float, hours: float, expected: Retention) -> None:
    assert retention_of(SpoolSettings(retention_gib=gib, retention_hours=hours)) == expected


def test_an_engine_told_to_keep_everything_deletes_nothing(folder: Path, shop: None) -> None:
    given = {"spool": {"retention_gib": 0, "retention_hours": 0}, "streams": {"visit": {"topic": str(folder)}}}
    sources = inputs_of(Settings.model_validate(given | {"data": folder / "data"}))
    sources["visit"].reader.commit({0: 50})
    for source in sources.values():
        source.reader.close()
    assert bases(folder) == [0, 10, 20, 30, 40]


def test_writing_goes_on_where_it_was_after_pruning(folder: Path) -> None:
    reader = SpoolReader(folder)
    reader.commit({0: 50})
    reader.prune(Retention(max_bytes=0))
    SpoolWriter(folder, segment_bytes=10).append([b"next"])
    assert positions(reader, start=40) == {40: b"000000004", 50: b"next"}


def test_committed_positions_are_kept_for_each_partition_and_reader(tmp_path: Path) -> None:
    SpoolWriter(tmp_path, partitions=2)
    reader = SpoolReader(tmp_path, name="site-a.main")
    reader.commit({0: 5})
    reader.commit({1: 7})
    assert dict(SpoolReader(tmp_path, name="site-a.main").committed()) == {0: 5, 1: 7}
    assert dict(SpoolReader(tmp_path, name="other").committed()) == {}


@pytest.mark.parametrize("name", ["", "../main", "a/b", "a b", "x" * 101])
def test_a_reader_cannot_be_called_so(tmp_path: Path, name: str) -> None:
    SpoolWriter(tmp_path)
    with pytest.raises(ConfigurationError):
        SpoolReader(tmp_path, name=name).commit({0: 1})


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"0": []}'])
def test_damaged_positions_stop_pruning(folder: Path, content: str) -> None:
    reader = SpoolReader(folder)
    reader.commit({0: 50})
    (folder / "committed-main.json").write_text(content)
    with pytest.raises(DataError, match=r"committed-main\.json"):
        reader.prune(Retention(max_bytes=0))
    with pytest.raises(DataError):
        read_committed(folder, "main")
    assert bases(folder) == [0, 10, 20, 30, 40]
