"""What version 0.1 left of a correlation on Spark, killed at its worst moment: no pair is lost, none comes twice."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from hackwatch import streams
from hackwatch.lake import Lake
from hackwatch.pipeline.core import Now
from hackwatch.pipeline.correlation import Correlator
from hackwatch.pipeline.detection import SCORED
from hackwatch.store import open_store
from hackwatch.streams.base import POSITION
from tests.pipeline.support import START

pytest.importorskip("pyspark")

from hackwatch.spark.folder import LocalFolder
from hackwatch.spark.querycheckpoint import QueryCheckpoint
from hackwatch.spark.upgrade import Before
from tests.spark.test_correlate import ATTACKS, NAMES, Place, suspects

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
        checkpoint = QueryCheckpoint(store, "main", "attacks")
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
