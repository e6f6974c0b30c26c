"""What earlier versions left on Spark: a correlation of 0.1, killed at its worst moment; clocks in the store."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import polars as pl
import pytest

from hackwatch import streams
from hackwatch.errors import InternalError
from hackwatch.lake import Lake
from hackwatch.pipeline.core import Now, serialise
from hackwatch.pipeline.correlation import Correlator
from hackwatch.pipeline.detection import SCORED
from hackwatch.pipeline.options import StreamOptions
from hackwatch.pipeline.streamstate import new_clocks
from hackwatch.store import open_store
from hackwatch.streams.stream import POSITION
from tests.engine.processes import Folder, Outcome, feed
from tests.families.host.scored import START
from tests.servers.spark import missing

pytest.importorskip("pyspark")

from hackwatch.spark.folder import LocalFolder
from hackwatch.spark.partitionfiles import PartitionFiles
from hackwatch.spark.querycheckpoint import QueryCheckpoint
from hackwatch.spark.statefiles import StateFiles, keys_name
from hackwatch.spark.upgrade import Before
from tests.spark.support import SPARK, assert_same, on_spark, work_off_embedded
from tests.spark.test_correlate import ATTACKS, NAMES, Place, suspects

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Times of suspects, epoch by epoch; ingest has committed two of the three, the third is in the lake.
TIMES = {"process": [[0.0, 40.0], [60.0], [90.0]], "memory": [[1.0], [62.0, 41.0], [91.0, 63.0]]}
COMMITTED = 2
#: When Spark's query wrote what it found: in a batch that was done, in one that was not.
DONE, UNFINISHED = 500.0, 600.0
#: Pairs (process, memory) that it wrote, and when; rows of the third epoch were there to be read.
WRITTEN = {(0.0, 1.0): DONE, (60.0, 63.0): DONE, (60.0, 41.0): UNFINISHED, (90.0, 91.0): UNFINISHED}


def expected() -> list[tuple[float, float]]:
    one, other = ([t for epoch in TIMES[name] for t in epoch] for name in NAMES)
    return sorted((t, s) for t in one for s in other if abs(t - s) < ATTACKS.seconds)


def moment(seconds: float) -> pl.Expr:
    return pl.lit(datetime.fromtimestamp(seconds, UTC))


def leave(place: Place) -> None:
    """A lake, a store and a checkpoint as version 0.1 left them."""
    lake, frames = Lake(place.path / "lake"), {}
    for name in NAMES:
        found = [suspects(name, {"m": times}, epoch) for epoch, times in enumerate(TIMES[name], 1)]
        for epoch, rows in enumerate(found, 1):
            columns = {"late": False, "topic": "topic", "site": "local"}
            whole = rows.with_columns(
                *(pl.lit(value).alias(column) for column, value in columns.items()),
                pl.lit(epoch, pl.Int64).alias("epoch"),
                moment(400.0 + epoch).alias("processing_time"),
                pl.col("event_time").dt.date().alias("date"),
            )
            lake.append(name, whole, epoch, "before")
        frames[name] = pl.concat(found)
    carried = pl.Schema({**POSITION, **SCORED})
    both = Correlator(ATTACKS, streams.get("process"), streams.get("memory"), carried)
    pairs = both.step(frames["process"], frames["memory"])
    for number, written in enumerate((DONE, UNFINISHED), 1):
        times = pl.DataFrame([one for one, at in WRITTEN.items() if at == written], list(NAMES), orient="row")
        seconds = [(pl.col(f"{name}_event_time").dt.epoch("us") / 1e6 - START).alias(name) for name in NAMES]
        rows = pairs.with_columns(seconds).join(times, on=NAMES, how="semi").drop(NAMES)
        assert len(rows) == len(times)
        stamp = moment(written)
        placed = rows.with_columns(
            stamp.alias("processing_time"), stamp.dt.date().alias("date"), pl.lit("local").alias("site")
        )
        lake.append("attacks", placed, number, "before")
    with open_store(place.path / "store.sqlite") as store:
        checkpoint = QueryCheckpoint(store.checkpoints, "main", "attacks")
        first = checkpoint.begin(0, "query", Now(DONE, 0.0), {})
        assert first is not None
        checkpoint.commit(first, {}, DONE)
        checkpoint.begin(1, "query", Now(UNFINISHED, 0.0), {})
    offsets = LocalFolder(place.path / "offsets")
    offsets.prepare()
    offsets.write("0", b'v1\n{"batchWatermarkMs":0}\n{}')
    for name, side in place.sides.items():
        side.before = Before(streams.get(name), "topic", "local", COMMITTED, 400.0)
        side.committed, side.since = COMMITTED, {ATTACKS.name: COMMITTED}


def test_what_a_killed_query_of_spark_left_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kill of the new version at one of its first calls comes on top of it."""
    place = Place(tmp_path / "calm")
    monkeypatch.setattr("hackwatch.spark.correlate.open_folder", lambda *_: LocalFolder(place.path / "offsets"))
    leave(place)
    finish(place)
    calls = place.kills.calls
    assert calls > 4
    for at in range(1, calls + 1):
        place = Place(tmp_path / str(at))
        leave(place)
        place.kills.at, place.kills.after = at, at % 2 == 0
        finish(place)


def finish(place: Place) -> None:
    place.work()
    for name, side in place.sides.items():
        side.before = None
        side.add({"m": TIMES[name][COMMITTED]}, 200.0)
    place.work()
    assert [pair[1:] for pair in place.pairs()] == expected()
    assert sum(count for _, _, _, count, *_ in place.alerts()) == len(expected()) - told()


def told() -> int:
    """Pairs of which version 0.1 had told: their alerts are in its store."""
    return sum(at == DONE for at in WRITTEN.values())


# -- clocks and keys that were in the store ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_what_was_in_the_store_goes_into_files(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """Of the version that kept clocks and keys there. `killed`: the first start after it fails before its commit."""
    embedded, sparkling = (Folder.make(tmp_path / name, more=more) for name, more in (("calm", ""), ("run", SPARK)))
    for part in (1, 2):
        for folder in (embedded, sparkling):
            feed(folder, 3000, seed=part)
        work_off_embedded(embedded)
        if part == 2:
            put_into_store(sparkling)
            if killed:
                with monkeypatch.context() as patch:
                    patch.setattr(QueryCheckpoint, "commit", lambda *_, **__: cut_off())
                    with pytest.raises(InternalError):
                        on_spark(sparkling, spark)
        on_spark(sparkling, spark)
    found = Outcome.of(sparkling)
    assert_same(found, Outcome.of(embedded))
    assert found.accounting["late"].sum() > 20
    assert found.accounting["duplicate"].sum() > 20
    with sparkling.store() as store:
        for name in NAMES:
            kept = store.checkpoints.latest(f"main/{name}")
            assert kept is not None
            assert not [part for part in kept.states if part.startswith("keys.") or part in OF_CLOCKS]
            assert len(list(files_of(sparkling, name).glob("clocks.*"))) == 2


OF_CLOCKS = ("stream.clocks", "stream.sources")


def cut_off() -> None:
    raise InternalError("the process ends here")


def files_of(folder: Folder, stream: str) -> Path:
    return folder.data / "spark" / "main" / f"state-{stream}"


def put_into_store(folder: Folder) -> None:
    """State as that version left it: clocks and keys are parts in the store, and there are no files."""
    path = folder.data / "store.sqlite"
    for name in NAMES:
        place = files_of(folder, name)
        with open_store(path) as store:
            found = store.checkpoints.latest(f"main/{name}")
        assert found is not None
        kept, files = orjson.loads(found.states["state"]), PartitionFiles(StateFiles(LocalFolder(place), bytes))
        clocks = new_clocks(StreamOptions())
        files.restore(kept.pop("files"), clocks, kept["stream"]["clocks"])
        parts = serialise({f"stream.{part}": frame for part, frame in clocks.snapshot()[1].items()})
        keys = {f"keys.{n}": files.folder.read(keys_name(n, epoch)) for n, epoch in files.keys.items()}
        assert keys
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executemany(
                "INSERT OR REPLACE INTO state VALUES (?, ?, ?, 0, ?)",
                [
                    (f"main/{name}", found.epoch, *part)
                    for part in {**parts, **keys, "state": orjson.dumps(kept)}.items()
                ],
            )
        shutil.rmtree(place)
