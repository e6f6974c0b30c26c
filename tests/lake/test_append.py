"""Appending: once, whole, durable before visible, readable by everybody."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hackwatch.errors import DataError, InternalError, ResourceError
from hackwatch.lake import Lake
from hackwatch.lake import files as lake_files
from tests.lake.support import EVERYWHERE, again, data_files, records, stored

SITES = ["here", "a b", "ü/%2F=x", "..", "__HIVE__", None]


def ids(lake: Lake, table: str = "t") -> list[int]:
    found: list[int] = lake.scan(table).select("id").collect()["id"].sort().to_list()
    return found


@EVERYWHERE
def test_an_epoch_is_appended_once(lake: Lake) -> None:
    assert lake.append("t", records(10), 1, "main")
    assert not lake.append("t", records(10), 1, "main")
    assert lake.append("t", records(5, first=10), 3, "main")
    assert not lake.append("t", records(5, first=10), 2, "main")
    assert lake.append("t", records(1, first=15), 1, "other")
    assert ids(lake) == list(range(16))
    assert (lake.last_epoch("t", "main"), lake.last_epoch("t", "other"), lake.last_epoch("t", "x")) == (3, 1, None)


@EVERYWHERE
def test_another_process_knows_what_was_appended(lake: Lake) -> None:
    lake.append("t", records(10), 4, "main")
    later = again(lake)
    assert later.last_epoch("t", "main") == 4
    assert not later.append("t", records(10), 4, "main")
    assert later.append("t", records(10, first=10), 5, "main")
    assert not lake.append("t", records(10), 5, "main")
    assert ids(lake) == list(range(20))


@EVERYWHERE
def test_no_rows_no_commit(lake: Lake) -> None:
    assert lake.append("t", records(0), 1, "main")
    assert lake.tables() == []
    assert lake.last_epoch("t", "main") is None


@EVERYWHERE
@pytest.mark.parametrize("site", SITES, ids=repr)
def test_every_reader_sees_the_same(lake: Lake, site: str | None) -> None:
    expected = pl.concat([records(20, site=site, days=3), records(20, first=20, site=site, days=2)]).sort("id")
    lake.append("t", expected[:20], 1, "main")
    lake.append("t", expected[20:], 2, "main")
    columns = expected.columns
    assert_frame_equal(lake.scan("t").collect().select(columns).sort("id"), expected)
    with duckdb.connect() as connection:
        connection.register("t", lake.dataset("t"))
        found = pl.DataFrame(pl.from_arrow(connection.sql("SELECT * FROM t ORDER BY id").to_arrow_table()))
    assert_frame_equal(found.select(columns).with_columns(pl.col("event_time").dt.convert_time_zone("UTC")), expected)
    pandas = lake.storage("t").table().to_pandas().sort_values("id")
    assert pandas["score"].tolist() == expected["score"].to_list()
    assert [list(rules) for rules in pandas["rules"]] == expected["rules"].to_list()


def test_no_site_leaves_the_folder(lake: Lake) -> None:
    for number, site in enumerate(SITES):
        lake.append("t", records(1, first=number, site=site), number + 1, "main")
    assert ids(lake) == list(range(len(SITES)))
    assert {path.parent.parent.parent for path in data_files(lake.path)} == {lake.path / "t"}


def test_folders_and_files_are_private(lake: Lake) -> None:
    lake.append("t", records(3), 1, "main")
    for path in [lake.path, *lake.path.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


# ---------------------------------------------------------------------- schema


@EVERYWHERE
def test_new_columns_join_the_table(lake: Lake) -> None:
    lake.append("t", records(2), 1, "main")
    lake.append("t", records(2, first=2).with_columns(pl.lit(7, pl.Int32).alias("extra")), 2, "main")
    lake.append("t", records(2, first=4), 3, "main")
    found = again(lake).scan("t").sort("id").collect()
    assert found["extra"].to_list() == [None, None, 7, 7, None, None]
    with duckdb.connect() as connection:
        connection.register("t", lake.dataset("t"))
        assert connection.sql("SELECT sum(extra), count(*) FROM t").fetchall() == [(14, 6)]


@EVERYWHERE
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("id").cast(pl.String), "id: Int64 in the table, String now"),
        (pl.col("score").cast(pl.Float64), "score: Float32 in the table, Float64 now"),
        (pl.lit(1).alias("Path"), "Path: differs from path only by case"),
    ],
    ids=["other type", "wider type", "other case"],
)
def test_columns_that_do_not_fit_are_refused(lake: Lake, change: pl.Expr, message: str) -> None:
    lake.append("t", records(2), 1, "main")
    with pytest.raises(DataError, match=message):
        lake.append("t", records(2).with_columns(change), 2, "main")
    assert lake.append("t", records(2, first=2), 2, "main")
    assert ids(lake) == [0, 1, 2, 3]
    assert len(stored(lake)) == 2


@EVERYWHERE
def test_columns_of_nothing_take_the_type_of_the_table(lake: Lake) -> None:
    nothing = [pl.lit(None).alias("path"), pl.lit(None).alias("unknown")]
    lake.append("t", records(1), 1, "main")
    lake.append("t", records(1, first=1).with_columns(nothing), 2, "main")
    found = lake.scan("t").sort("id").collect()
    assert found["path"].to_list() == ["cmd0", None]
    assert "unknown" not in found.columns


@pytest.mark.parametrize(
    "frame", [records(1).drop("date"), records(1).with_columns(pl.lit(b"x").alias("raw"))], ids=["no date", "binary"]
)
def test_frames_that_no_lake_can_hold_are_bugs(lake: Lake, frame: pl.DataFrame) -> None:
    with pytest.raises(InternalError):
        lake.append("t", frame, 1, "main")
    assert data_files(lake.path) == set()


# ---------------------------------------------------------------------- crashes and failures


def failing(times: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Fails for want of space the first few times."""
    left = iter(range(times))

    def call(*arguments: Any, **options: Any) -> Any:
        if next(left, None) is not None:
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    return call


@pytest.mark.parametrize("name", ["open", "fsync", "link"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_full_disk_leaves_nothing_half_done(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, name: str, times: int
) -> None:
    lake.append("t", records(3), 1, "main")
    errors: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(times, getattr(os, name)))
        while len(errors) <= times:
            try:
                lake.append("t", records(3, first=3), 2, "main")
                break
            except ResourceError as error:
                errors.append(str(error))
    assert 1 <= len(errors) <= times
    assert all("free space" in error for error in errors)
    assert ids(lake) == [0, 1, 2, 3, 4, 5]
    assert lake.last_epoch("t", "main") == 2
    assert not list(lake.path.rglob("*.tmp"))


def test_a_commit_whose_folder_could_not_be_made_durable_is_not_repeated(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.append("t", records(3), 1, "main")
    real = lake_files.sync_folder

    def fail(folder: Path) -> None:
        if folder.name == "_delta_log":
            raise OSError(5, "Input/output error")
        real(folder)

    monkeypatch.setattr(lake_files, "sync_folder", fail)
    with pytest.raises(ResourceError):
        lake.append("t", records(3, first=3), 2, "main")
    monkeypatch.undo()
    assert not lake.append("t", records(3, first=3), 2, "main")
    assert ids(lake) == [0, 1, 2, 3, 4, 5]


_CRASH = """
import os, sys
from pathlib import Path
from hackwatch.lake import Lake, files
from tests.lake.support import records
real = os.link
def link(source, target):
    if sys.argv[2] == "after":
        real(source, target)
    os._exit(9)
os.link = link
Lake(Path(sys.argv[1])).append("t", records(3, first=3), 2, "main")
"""


@pytest.mark.parametrize(("moment", "repeated"), [("before", True), ("after", False)])
def test_a_crash_around_the_commit(lake: Lake, moment: str, repeated: bool) -> None:
    lake.append("t", records(3), 1, "main")
    arguments = [sys.executable, "-c", _CRASH, str(lake.path), moment]
    assert subprocess.run(arguments, cwd=Path(__file__).parents[2], check=False).returncode == 9
    assert ids(lake) == ([0, 1, 2] if repeated else [0, 1, 2, 3, 4, 5])
    assert lake.append("t", records(3, first=3), 2, "main") is repeated
    assert ids(lake) == [0, 1, 2, 3, 4, 5]


def test_an_entry_is_durable_before_it_is_visible(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    durable: set[int] = set()
    sync, link = os.fsync, os.link

    def watched_sync(descriptor: int) -> None:
        sync(descriptor)
        durable.add(os.fstat(descriptor).st_ino)

    def watched_link(source: Path, target: Path) -> None:
        assert os.stat(source).st_ino in durable
        for path in data_files(lake.path):
            assert {path.stat().st_ino, path.parent.stat().st_ino, path.parent.parent.stat().st_ino} <= durable
        link(source, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "link", watched_link)
    for epoch in (1, 2):
        lake.append("t", records(3, first=epoch * 3, days=2), epoch, "main")
    assert (lake.path / "t" / "_delta_log").stat().st_ino in durable


def test_a_damaged_log_is_a_data_error(lake: Lake) -> None:
    lake.append("t", records(3), 1, "main")
    (lake.path / "t" / "_delta_log" / f"{1:020d}.json").write_text('{"add": ')
    with pytest.raises(DataError, match="cannot be read"):
        lake.append("t", records(3), 2, "main")


# ---------------------------------------------------------------------- several writers, long logs

_WRITER = """
import sys
from pathlib import Path
from hackwatch.lake import Lake
from tests.lake.support import records
lake, site, first = Lake(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
for epoch in range(1, 31):
    assert lake.append("t", records(10, first=first + epoch * 10, site=site), epoch, site)
"""


@pytest.mark.slow
def test_processes_append_and_compact_at_once(lake: Lake) -> None:
    places = [("a", 0), ("b", 1000), ("c", 2000)]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(lake.path), site, str(first)], cwd=Path(__file__).parents[2]
        )
        for site, first in places
    ]
    joined = 0
    while any(writer.poll() is None for writer in writers):
        if "t" in lake.tables():
            joined += lake.compact("t").removed
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert ids(lake) == sorted(first + number for _, first in places for number in range(10, 310))
    assert joined + lake.compact("t").removed > 0
    assert [lake.last_epoch("t", site) for site, _ in places] == [30, 30, 30]


@EVERYWHERE
def test_long_logs_are_checkpointed_and_epochs_remembered(lake: Lake) -> None:
    lake.append("t", records(1, first=1000), 7, "old")
    for epoch in range(1, 131):
        assert lake.append("t", records(1, first=epoch), epoch, "main")
    storage = lake.storage("t")
    assert storage.exists("_delta_log/_last_checkpoint")
    storage.delete(f"_delta_log/{entry:020d}.json" for entry in range(90))
    later = again(lake)
    assert (later.last_epoch("t", "old"), later.last_epoch("t", "main")) == (7, 130)
    assert not later.append("t", records(1), 130, "main")
    assert len(ids(later)) == 131


def test_a_writer_that_slept_does_not_fill_a_gap(lake: Lake) -> None:
    lake.append("t", records(1), 1, "sleeper")
    busy = again(lake)
    for epoch in range(1, 121):
        busy.append("t", records(1, first=epoch), epoch, "main")
    log = lake.path / "t" / "_delta_log"
    for entry in range(90):
        (log / f"{entry:020d}.json").unlink()
    assert lake.append("t", records(1, first=500), 2, "sleeper")
    assert not (log / f"{1:020d}.json").exists()
    assert ids(lake) == [*range(121), 500]


def test_a_table_that_another_program_upgraded_is_left_alone(lake: Lake) -> None:
    lake.append("t", records(1), 1, "main")
    protocol = b'{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":[],"writerFeatures":[]}}\n'
    (lake.path / "t" / "_delta_log" / f"{1:020d}.json").write_bytes(protocol)
    with pytest.raises(ResourceError, match="writer version 7"):
        lake.append("t", records(1), 2, "main")


@EVERYWHERE
def test_an_unknown_table_is_a_data_error(lake: Lake) -> None:
    for ask in (lake.scan, lake.dataset, lake.statistics):
        with pytest.raises(DataError, match="no such table"):
            ask("nope")
    assert lake.last_epoch("nope", "main") is None
