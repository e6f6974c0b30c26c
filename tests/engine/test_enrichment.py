"""Enrichers in the engine: tables that change while it runs, states in offset order, and crashes in between."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from hackwatch.detect.detector import Detector
from hackwatch.errors import DataError, ResourceError
from hackwatch.runtime.lookups import LookupTables, read_table
from hackwatch.store import open_store
from hackwatch.streams.stream import DecodeOptions
from hackwatch.topics import open_reader
from tests.engine.processes import Folder, feed, until
from tests.engine.support import Crash, Crasher, House, Planted, PlantedSource, simulated_topics, work_off
from tests.third.enrichers import NTH, OWNER, register
from tests.third.shop import VISIT, shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")


@cache
def paths() -> list[str]:
    """Every page that the simulation shows."""
    topic = simulated_topics(3, 600)["visit"]
    runs = [topic.read(partition, 0, max_bytes=1 << 30) for partition in topic.partitions()]
    return sorted({name for run in runs if run for name in VISIT.decode(run, DecodeOptions()).records["path"]})


def write(path: Path, owner: str) -> str:
    """A table by which every page has this owner; its version."""
    draft = path.with_suffix(".draft")
    pl.DataFrame({"path": paths(), "owner": [owner] * len(paths())}).write_csv(draft)
    draft.replace(path)
    return read_table(path).version


def house(folder: Path, **more: Any) -> House:
    tables = {"owners": folder / "owners.csv"}
    return House(simulated_topics(3, 600), open_store(folder / "s.sqlite"), folder=folder, tables=tables, **more)


def test_columns_that_messages_do_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, OWNER, NTH)
    write(tmp_path / "owners.csv", "ann")
    where = house(tmp_path)
    work_off(where.engine(1))
    rows = where.lake.rows("visit").sort("partition", "offset")
    assert rows.columns[0] == "owner", "the order of the schema, not that of the making"
    assert set(rows["owner"]) == {"ann"}
    expected = rows.with_columns(pl.int_range(1, pl.len() + 1).over("partition", "client").alias("nth"))
    assert rows["nth"].to_list() == expected["nth"].to_list()
    assert where.told == []
    assert "owner" not in where.lake.rows("login").columns


def test_without_its_table_an_enricher_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, OWNER)
    where = House(simulated_topics(3, 600), open_store(tmp_path / "s.sqlite"), folder=tmp_path)
    work_off(where.engine(1))
    rows = where.lake.rows("visit")
    assert len(rows) > 100
    assert rows["owner"].null_count() == rows["nth"].null_count() == len(rows)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(3, 40, 4))
def test_a_replay_uses_the_logged_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, after: bool) -> None:
    """A table that changes between crash and recovery changes nothing of what was logged."""
    register(monkeypatch, OWNER, NTH)
    first = write(tmp_path / "owners.csv", "ann")
    where = house(tmp_path)
    with pytest.raises(Crash):
        work_off(where.engine(1, Crasher(at, after=after)))
    checkpoint = where.store.checkpoints.latest("main")
    logged = checkpoint.batches if checkpoint else ()
    second = write(tmp_path / "owners.csv", "bob")
    work_off(where.engine(2))
    rows = where.lake.rows("visit").sort("partition", "offset")
    for part in (part for entry in logged for part in entry.ranges if part.stream == "visit"):
        mine = rows.filter(pl.col("offset").is_between(part.start, part.end - 1), partition=part.partition)
        assert set(mine["owner"]) <= {"ann"}
    assert {entry.models["table:owners"] for entry in logged} <= {first}
    assert set(rows["owner"]) == ({"ann", "bob"} if at > 3 else {"bob"})
    counted = rows.with_columns(pl.int_range(1, pl.len() + 1).over("partition", "client").alias("nth"))
    assert rows["nth"].to_list() == counted["nth"].to_list(), "each record passed the counting enricher once"
    assert (tmp_path / "tables" / "owners" / f"{second}.csv").exists()


class Late(Planted):
    """Scores by a column that only a stateful enricher fills."""

    def score(self, records: pl.DataFrame) -> npt.NDArray[np.float32]:
        return np.where(records["nth"].to_numpy() % 5 == 0, np.float32(1), np.float32(0))


class LateSource(PlantedSource):
    def load(self, stream: str, version: str) -> Detector:
        return Late(stream) if stream == "visit" else super().load(stream, version)


def test_scores_may_depend_on_a_stateful_enricher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, NTH)
    where = house(tmp_path, source=LateSource())
    work_off(where.engine(1))
    rows = where.lake.rows("visit")
    assert rows["prediction"].to_list() == [int(nth % 5 == 0) for nth in rows["nth"]]


def test_an_enricher_that_fails_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("no")

    register(monkeypatch, replace(OWNER, apply=fails, tables=()), replace(NTH, build=fails))
    where = house(tmp_path)
    engine = where.engine(1)
    work_off(engine)
    engine.parts.models.refresh()
    engine.parts.models.refresh()
    rows = where.lake.rows("visit")
    assert rows["owner"].null_count() == rows["nth"].null_count() == len(rows) > 100
    assert [(notice.rule, notice.occurrence) for notice in where.told] == [
        ("enricher-failed", "owner"),
        ("enricher-failed", "nth"),
    ], "said once"


# -- tables ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, LookupTables, list[str]]:
    path, said = tmp_path / "owners.csv", list[str]()
    write(path, "ann")
    return path, LookupTables({"owners": path}, tmp_path / "kept", lambda name, error: said.append(str(error))), said


def kept(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "kept").rglob("*.csv")}


def test_a_copy_is_kept_until_another_version_was_used_and_committed(
    tmp_path: Path, tables: tuple[Path, LookupTables, list[str]]
) -> None:
    path, found, _ = tables
    assert found.refresh()
    first = found.current()["owners"].version
    found.used({"owners": first}, 1)
    second = write(path, "bob")
    assert found.refresh()
    found.used({"owners": first}, 2)  # it was in flight when the table changed
    found.committed(2)
    assert not found.refresh()
    assert kept(tmp_path) == {first, second}
    found.used({"owners": second}, 3)
    found.refresh()
    assert kept(tmp_path) == {first, second}, "epoch 3 is not committed"
    found.committed(3)
    found.refresh()
    assert kept(tmp_path) == {second}


def test_after_a_restart_all_copies_are_kept_until_something_new_is_committed(
    tmp_path: Path, tables: tuple[Path, LookupTables, list[str]]
) -> None:
    path, before, _ = tables
    before.refresh()
    first = before.current()["owners"].version
    second = write(path, "bob")
    later = LookupTables({"owners": path}, tmp_path / "kept", lambda name, error: None)
    later.refresh()
    later.committed(7)
    later.refresh()
    exactly = later.exactly({"owners": first})["owners"]
    assert (exactly.version, set(exactly.frame["owner"])) == (first, {"ann"})
    later.used({"owners": second}, 8)
    later.committed(8)
    later.refresh()
    assert kept(tmp_path) == {second}
    assert later.exactly({"owners": first})["owners"].version == second, "its copy is gone"


def test_a_file_that_is_no_table_leaves_the_old_one_and_is_said_once(
    tables: tuple[Path, LookupTables, list[str]],
) -> None:
    path, found, said = tables
    found.refresh()
    good = found.current()["owners"].version
    for content, number in ((b"\xff\xfe\x00a,b\n\x80", 1), (b"", 2)):
        path.write_bytes(content)
        for _ in range(3):
            assert not found.refresh()
        assert len(said) == number
    path.unlink()
    for _ in range(3):
        assert not found.refresh()
    assert len(said) == 3
    assert found.current()["owners"].version == good
    write(path, "bob")
    assert found.refresh()


def test_the_same_content_is_the_same_version(tables: tuple[Path, LookupTables, list[str]]) -> None:
    path, found, _ = tables
    found.refresh()
    version = found.current()["owners"].version
    os.utime(path, ns=(1, 1))
    assert not found.refresh()
    assert write(path, "ann") == version


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"a\n1\n", "files of the kind .txt"),
        ("a.parquet", b"a\n1\n", "not a table"),
        ("a.csv", b"", "not a table"),
        ("a.csv", b"a,b\n1\n1,2,3\n", "not a table"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says) as raised:
        read_table(tmp_path / name)
    assert name in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot read the table"):
        read_table(tmp_path / "a.csv")


def test_kinds_of_files(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    frame.write_csv(tmp_path / "a.csv")
    frame.write_csv(tmp_path / "a.tsv", separator="\t")
    frame.write_parquet(tmp_path / "a.parquet")
    assert all(read_table(tmp_path / f"a.{kind}").frame.equals(frame) for kind in ("csv", "tsv", "parquet"))


@pytest.mark.slow
def test_a_running_engine_takes_a_new_table_and_says_when_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, OWNER, NTH)
    table = tmp_path / "run" / "owners.csv"
    folder = Folder.make(tmp_path / "run", models=False, shop=True, more='[enrichment.tables]\nowners = "owners.csv"\n')

    def owned(owner: str) -> str:
        draft = table.with_suffix(".draft")
        draft.write_text("path,owner\n" + "".join(f"{name},{owner}\n" for name in names))
        draft.replace(table)
        return read_table(table).version

    feed(folder, 1000, seed=1)
    reader = open_reader(str(folder.spool("visit")))
    runs = [reader.read(partition, 0, max_bytes=1 << 30) for partition in reader.partitions()]
    names = sorted({name for run in runs if run for name in VISIT.decode(run, DecodeOptions()).records["path"]})
    owned("ann")
    kept = folder.data / "tables" / "main" / "owners"
    with folder.service():
        until(folder.worked_off, "the first part is committed")
        second = owned("bob")
        until(lambda: (kept / f"{second}.csv").exists(), "the new table is used")
        feed(folder, 1000, seed=2)
        until(folder.worked_off, "the second part is committed")
        until(lambda: [path.stem for path in kept.iterdir()] == [second], "the first copy is gone")
        table.write_bytes(b"")

        def titles() -> list[str]:
            with folder.store() as store:
                return [alert.title for alert in store.triage.alerts(limit=10_000) if alert.rule == "table-refused"]

        until(titles, "the alert")
    assert titles() == [f"The table owners cannot be used, going on with version {second}"]
    rows = folder.lake.scan("visit").collect()
    assert set(rows["owner"].drop_nulls()) == {"ann", "bob"}
    counted = rows.group_by("partition", "client").agg(pl.col("nth").n_unique() == pl.len())
    assert counted["nth"].all()
