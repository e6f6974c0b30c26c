"""Compaction, vacuum and statistics: fewer files, the same rows, nothing in use deleted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hackwatch.lake import Lake, maintenance
from hackwatch.lake.background import Maintenance, maintain
from hackwatch.lake.log import TableLog
from hackwatch.lake.maintenance import Compaction
from tests.lake.support import EVERYWHERE, data_files, records

DAY = 24 * 3600


def fill(lake: Lake, epochs: int, *, rows: int = 10, days: int = 1) -> pl.DataFrame:
    frames = [records(rows, first=epoch * rows, days=days) for epoch in range(epochs)]
    for epoch, frame in enumerate(frames, 1):
        lake.append("t", frame, epoch, "main")
    return pl.concat(frames)


def age(folder: Path, seconds: float) -> None:
    """Make all files older than they are."""
    for path in data_files(folder):
        os.utime(path, (time.time() - seconds,) * 2)


@EVERYWHERE
def test_compaction_joins_and_changes_no_row(lake: Lake) -> None:
    expected = fill(lake, 12, days=2)
    before = lake.statistics("t")
    done = lake.compact("t")
    after = lake.statistics("t")
    assert (before.files, after.files, done.removed, done.added, done.rows) == (24, 2, 24, 2, 120)
    assert (done.bytes_before, done.bytes_after) == (before.bytes, after.bytes)
    assert (before.rows, after.rows, after.partitions) == (120, 120, 2)
    assert_frame_equal(lake.scan("t").sort("id").collect().select(expected.columns), expected)
    assert lake.compact("t") == Compaction()
    assert lake.last_epoch("t", "main") == 12


@EVERYWHERE
def test_joined_rows_keep_the_order_of_their_epochs(lake: Lake) -> None:
    fill(lake, 15)
    lake.compact("t")
    assert lake.scan("t").collect()["id"].to_list() == list(range(150))


@EVERYWHERE
def test_columns_that_came_later_are_null_before(lake: Lake) -> None:
    lake.append("t", records(2), 1, "main")
    lake.append("t", records(2, first=2).with_columns(pl.lit(7).alias("extra")), 2, "main")
    lake.compact("t")
    assert lake.scan("t").sort("id").collect()["extra"].to_list() == [None, None, 7, 7]


def test_files_stop_at_the_target(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    fill(lake, 8)
    lake.target_bytes = lake.statistics("t").bytes // 2
    lake.compact("t")
    assert lake.statistics("t").files in (2, 3)
    assert lake.scan("t").select(pl.len()).collect().item() == 80


def test_a_growing_partition_is_not_rewritten_for_every_crumb(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.append("t", records(50_000), 1, "main")
    for epoch in (2, 3):
        lake.append("t", records(2, first=100_000 + epoch * 2), epoch, "main")
    assert lake.compact("t").removed == 2
    monkeypatch.setattr(maintenance, "_SETTLED_SECONDS", -1.0)
    assert lake.compact("t").removed == 2
    assert lake.statistics("t").files == 1


@EVERYWHERE
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("days", [1, 3])
def test_what_another_rewrote_is_not_added_twice(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, days: int, checkpointed: bool
) -> None:
    """Neither the files at hand nor those of partitions that are joined after; also if the log had to be read again."""
    expected = fill(lake, 4, days=days)
    real = maintenance._rewrite

    def slow(sources: Any, target: str, log: TableLog) -> tuple[int, int, str]:
        lake.storage("t").table().optimize.compact()
        if checkpointed:
            lake.storage("t").table().create_checkpoint()
        return real(sources, target, log)

    monkeypatch.setattr(maintenance, "_rewrite", slow)
    assert lake.compact("t") == Compaction()
    assert_frame_equal(lake.scan("t").sort("id").collect().select(expected.columns), expected)


@EVERYWHERE
def test_an_append_during_compaction_stays(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(lake, 4)
    real = maintenance._rewrite

    def slow(sources: Any, target: str, log: TableLog) -> tuple[int, int, str]:
        assert lake.append("t", records(10, first=40), 5, "main")
        return real(sources, target, log)

    monkeypatch.setattr(maintenance, "_rewrite", slow)
    assert lake.compact("t").removed == 4
    assert lake.scan("t").sort("id").collect()["id"].to_list() == list(range(50))


def test_one_process_at_a_time_compacts(lake: Lake) -> None:
    fill(lake, 4)
    with lake.storage("t").alone() as alone:
        assert alone
        assert lake.compact("t") == Compaction()
    assert lake.compact("t").removed == 4


def test_a_failed_compaction_leaves_no_file(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(lake, 4)
    before = data_files(lake.path)

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Exception, match="No space left"):
        lake.compact("t")
    assert data_files(lake.path) == before


def test_vacuum_deletes_only_what_nobody_has_used_for_long(lake: Lake) -> None:
    expected = fill(lake, 4)
    place = next(iter(data_files(lake.path))).parent
    (place / "part-0000000009-crashed.parquet").write_bytes(b"half")
    age(lake.path, 8 * DAY)
    (place / "part-0000000010-writing.parquet").write_bytes(b"being written")
    lake.compact("t")
    # The compacted files are old, but were in use a moment ago: a reader may still be at work on them.
    assert [Path(path).name for path in lake.vacuum("t", dry_run=True)] == ["part-0000000009-crashed.parquet"]
    assert len(data_files(lake.path)) == 4 + 1 + 2
    assert len(lake.vacuum("t")) == 1
    lake.retention_hours = 0
    assert len(lake.vacuum("t")) == 5
    assert len(data_files(lake.path)) == 1
    assert_frame_equal(lake.scan("t").sort("id").collect().select(expected.columns), expected)


@EVERYWHERE
@pytest.mark.parametrize("site", ["a b", "ü/%2F=x"])
def test_odd_sites_are_compacted_and_vacuumed(lake: Lake, site: str) -> None:
    for epoch in (1, 2):
        lake.append("t", records(5, first=epoch * 5, site=site), epoch, "main")
    lake.compact("t")
    lake.retention_hours = 0
    assert len(lake.vacuum("t")) == 2
    assert lake.scan("t").sort("id").collect()["id"].to_list() == list(range(5, 15))


@EVERYWHERE
def test_statistics_tell_the_table(lake: Lake) -> None:
    fill(lake, 3, days=2)
    found = lake.statistics("t")
    assert (found.table, found.rows, found.files, found.small_files, found.version) == ("t", 30, 6, 6, 2)
    assert (str(found.oldest), str(found.newest)) == ("2031-05-01", "2031-05-02")
    assert found.columns["rules"] == "List(String)"


# ---------------------------------------------------------------------- in the background


@dataclass(frozen=True)
class Settings:
    compact_minutes: float


def finished(upkeep: Maintenance) -> None:
    while upkeep.running:
        time.sleep(0.02)


@EVERYWHERE
def test_maintenance_runs_when_due_and_worthwhile(lake: Lake) -> None:
    upkeep = Maintenance(lake, Settings(compact_minutes=1))
    fill(lake, 20)
    assert [upkeep.run_due(now) for now in (0.0, 59.0, 60.0, 61.0)] == [False, False, True, False]
    finished(upkeep)
    assert lake.statistics("t").files == 1
    assert not upkeep.run_due(200.0), "nothing new, though the joined files wait for vacuum"
    for epoch in range(21, 41):
        lake.append("t", records(10, first=epoch * 10), epoch, "main")
    assert upkeep.run_due(300.0)
    upkeep.close()


def test_maintenance_can_be_off(lake: Lake) -> None:
    upkeep = Maintenance(lake, Settings(compact_minutes=0))
    fill(lake, 20)
    assert not any(upkeep.run_due(now) for now in (0.0, 1e6))


def test_maintenance_stops_with_the_engine(lake: Lake) -> None:
    fill(lake, 20)
    upkeep = Maintenance(lake, Settings(compact_minutes=1))
    upkeep.run_due(0.0)
    assert upkeep.run_due(60.0)
    upkeep.close()
    assert not upkeep.running
    assert lake.scan("t").select(pl.len()).collect().item() == 200


def test_one_broken_table_does_not_stop_the_others(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    fill(lake, 4)
    lake.append("broken", records(1), 1, "main")
    (lake.path / "broken" / "_delta_log" / f"{1:020d}.json").write_text("{")
    assert maintain(lake, vacuum=True) == 1
    assert "broken" in capsys.readouterr().err
    assert lake.statistics("t").files == 1


_CRASH = """
import os, sys
from pathlib import Path
from hackwatch.lake import Lake
def link(*_):
    os._exit(9)
os.link = link
Lake(Path(sys.argv[1])).compact("t")
"""


def test_a_killed_compaction_is_swept_up(lake: Lake) -> None:
    expected = fill(lake, 4)
    assert subprocess.run([sys.executable, "-c", _CRASH, str(lake.path)], check=False).returncode == 9
    assert len(data_files(lake.path)) == 5
    assert_frame_equal(lake.scan("t").sort("id").collect().select(expected.columns), expected)
    age(lake.path, 8 * DAY)
    assert len(lake.vacuum("t")) == 1
    assert lake.compact("t").removed == 4
