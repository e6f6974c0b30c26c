"""Windows on Spark in two ways: state of Spark, or partial aggregates of the tasks that the driver merges.

    python -m bench.spark_windows [ROWS] [BATCHES]

The same rows of 50 machines, from the same files, one file a batch, in one warm session of local[2]:

- `transformWithState`: grouped by machine, in Pandas, with Spark's state in RocksDB and its watermark;
- `merged`: each task counts partial states of the aggregate, the driver merges them, as hackwatch does.

Prints the seconds of each batch, and JSON with the records a second after the first one.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

# Only the extras `bench` and `spark` install pyspark, so the type checker may find it or not.
from pyspark.sql import SparkSession
from pyspark.sql.streaming.stateful_processor import StatefulProcessor

from hackwatch import streams
from hackwatch.pipeline.aggregates import Aggregates
from hackwatch.streams.declarations import windows_of

MACHINES, SECONDS, START = 50, 120, 1_700_000_040
OUT = "machine string, start bigint, records bigint, suspects bigint, distinct bigint"
ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"


class Windows(StatefulProcessor):  # type: ignore[misc,unused-ignore]  # its base has no type if it is not installed
    """The windows of a machine in Spark's state: counts, and the identities of suspects."""

    def init(self, handle: Any) -> None:
        self.counts = handle.getMapState("counts", "start bigint", "records bigint, suspects bigint")
        self.seen = handle.getMapState("seen", "start bigint, identity string", "there boolean")

    def handleInputRows(self, key: Any, rows: Iterator[Any], timers: Any) -> Iterator[Any]:
        import pandas as pd  # type: ignore[import-untyped,unused-ignore]  # it ships no types

        changed: dict[int, tuple[int, int]] = {}
        for frame in rows:
            for start, mine in frame.groupby(frame.time // 1_000_000 // SECONDS * SECONDS):
                start = int(start)
                before = self.counts.getValue((start,)) if self.counts.containsKey((start,)) else (0, 0)
                suspects = mine[mine.prediction == 1]
                for identity in suspects.identity.unique():
                    self.seen.updateValue((start, identity), (True,))
                changed[start] = (before[0] + len(mine), before[1] + len(suspects))
                self.counts.updateValue((start,), changed[start])
        yield pd.DataFrame(
            [(key[0], start, *counts, 0) for start, counts in changed.items()],
            columns=["machine", "start", "records", "suspects", "distinct"],
        )

    def close(self) -> None:
        """Nothing is open."""


def write(folder: Path, rows: int, batches: int) -> None:
    chance = np.random.default_rng(1)
    for batch in range(batches):
        time_ = (START + batch * 60 + np.sort(chance.uniform(0, 60, rows))) * 1e6
        frame = pl.DataFrame(
            {
                "machine": [f"m{n}" for n in chance.integers(0, MACHINES, rows)],
                "identity": [f"cmd_{n}" for n in chance.integers(0, 5000, rows)],
                "time": time_.astype(np.int64),
                "prediction": (chance.uniform(0, 1, rows) < 0.02).astype(np.int8),
            }
        )
        for part in (0, 1):
            frame[part::2].write_parquet(folder / f"{batch:03}-{part}.parquet")


def counted(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A task: the partial states of its rows."""
    stream = streams.get("process")
    aggregates = Aggregates(windows_of(stream, SECONDS), stream)
    for batch in batches:
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        named = frame.with_columns(
            pl.col("time").cast(pl.Datetime("us", "UTC")).alias("event_time"), pl.col("identity").alias("CMD_PID")
        )
        aggregates.add(named)
    sink = pa.BufferOutputStream()
    table = aggregates.snapshot().to_arrow(compat_level=pl.CompatLevel.oldest())
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    yield pa.record_batch({"frame": pa.array([sink.getvalue().to_pybytes()], pa.binary())})


def merged(state: Aggregates, seconds: list[float], frame: Any, number: int) -> None:
    for content in frame.mapInArrow(counted, "frame binary").toArrow()["frame"].to_pylist():
        state.merge(pl.read_ipc_stream(content))
    state.take_changes()
    state.snapshot()
    seconds.append(time.monotonic())


def taken(seconds: list[float], frame: Any, number: int) -> None:
    frame.toArrow()
    seconds.append(time.monotonic())


def run(spark: SparkSession, source: Any, act: Any, mode: str, folder: Path) -> None:
    query = (
        source.writeStream.outputMode(mode)
        .option("checkpointLocation", str(folder))
        .foreachBatch(act)
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()


def read(spark: SparkSession, folder: Path) -> Any:
    schema = "machine string, identity string, time bigint, prediction tinyint"
    return spark.readStream.schema(schema).option("maxFilesPerTrigger", 2).parquet(str(folder))


def main() -> None:
    rows, batches = (int(given) for given in (*sys.argv[1:], *("100000", "8")[len(sys.argv) - 1 :]))
    conf = {"spark.sql.shuffle.partitions": "2", "spark.sql.streaming.stateStore.providerClass": ROCKSDB}
    builder = SparkSession.builder.master("local[2]").appName("windows")
    for name, value in {**conf, "spark.ui.enabled": "false", "spark.log.level": "ERROR"}.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "rows"
        folder.mkdir()
        write(folder, rows, batches)
        stream = streams.get("process")
        found = {}
        state, first = Aggregates(windows_of(stream, SECONDS), stream), list[float]()
        run(spark, read(spark, folder), partial(merged, state, first), "append", Path(base) / "merged")
        source = read(spark, folder).selectExpr("*", "timestamp_micros(time) AS event_time")
        kept = source.withWatermark("event_time", "620 seconds").groupBy("machine")
        second = list[float]()
        windows = kept.transformWithStateInPandas(Windows(), OUT, "Update", "None")
        run(spark, windows, partial(taken, second), "update", Path(base) / "state")
        for name, moments in (("merged", first), ("transformWithState", second)):
            steps = np.diff(moments)
            print(name, [round(float(step), 2) for step in steps])
            found[name] = round(rows / float(np.median(steps)))
        print(json.dumps(found))
    spark.stop()


if __name__ == "__main__":
    main()
