"""The engine on Spark with very many sources: seconds a batch, and the bytes that go to the store and to each task.

    python -m bench.spark_sources SOURCES [BATCHES]

The store is given the clocks of so many sources in 4 partitions, all of them silent, in the form of the version that
kept them there (a later one takes them up). Then come batches of 20,000 records of sources chosen by chance, from a
spool, in one session of local[2]. Every record has a key that must not be repeated. Prints a line a batch, and JSON
with the medians after the first two: seconds, seconds of CPU (the JVM and Python), MB in the store's commit, MB of the
plan that each task gets, MB of files written.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any

import numpy as np
import orjson
import polars as pl

from bench.broker import cpu_of_tree, parts
from bench.support import say
from hackwatch import topics
from hackwatch.config import Settings
from hackwatch.spark.ingest import Ingest
from hackwatch.spark.service import run_spark
from hackwatch.spark.session import open_session
from hackwatch.store import open_store
from hackwatch.store.aggregates import WINDOWS_SCHEMA
from hackwatch.store.commits import EpochCommit

PARTITIONS, RECORDS, START = 4, 20_000, 1_700_000_040
RECORD = {
    "sequence": 17, "PID": 3081, "TRUN": 1, "TSLPI": 5, "TSLPU": 0, "POLI": "norm", "NICE": 0, "PRI": 120, "RTPR": 0,
    "CPUNR": 2, "Status": "-", "EXC": 0, "State": "S", "CPU": 0.04, "CMD": "apache2",
}  # fmt: skip


def seed(data: Path, sources: int) -> None:
    """A store in which all sources have been seen, as of START, one epoch ago."""
    names = [f"host-{number:07}.example.org" for number in range(sources)]
    newest = np.full(sources, START * 1_000_000)
    never = np.full(sources, -(2**62))
    partition = np.arange(sources) % PARTITIONS
    clocks = pl.DataFrame(
        {"partition": partition, "source": names, "newest": newest, "floor": never, "moved": np.zeros(sources)}
    )
    marks = pl.DataFrame({"source": names, "mark": newest - 20_000_000, "late": np.zeros(sources, np.int64)})
    partitions = [[number, START * 1_000_000, 0.0, False] for number in range(PARTITIONS)]
    skew = {"watched": [], "named": {}, "hour": [0, 0, 0.0]}
    small = {"elapsed": 0.0, "swept": 0.0, "looked": 0.0, "start": -(2**62), "partitions": partitions, "skew": skew}
    stream = {"topic": "process", "clocks": small, "crowded": False, "outliers": {}}
    state = {"stream": stream, "policy": {"suppressor": {"tallies": [], "recent": []}}, "since": {}}
    state |= {"spark_query": "spool", "batch": 0}
    states = {"state": orjson.dumps(state), "stream.clocks": ipc(clocks), "stream.sources": ipc(marks)}
    with open_store(data / "store.sqlite") as store:
        store.checkpoints.commit_epoch(
            "main/process", EpochCommit(1, 1, 0.0, {}, states, WINDOWS_SCHEMA.to_frame(), {}, time.time())
        )


def ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()


def fill(data: Path, sources: int, batches: int) -> int:
    """The topic; how many bytes a batch has."""
    chance = np.random.default_rng(1)
    writer = topics.open_writer(str(data / "spool" / "process"), PARTITIONS)
    size = 0
    for batch in range(batches):
        chosen = chance.integers(0, sources // PARTITIONS, RECORDS)
        size = 0
        for partition in range(PARTITIONS):
            mine = chosen[partition::PARTITIONS] * PARTITIONS + partition
            lines = [
                RECORD
                | {
                    "machine": f"host-{number:07}.example.org",
                    "ts": START + 1 + batch + place / RECORDS,
                    "uuid": f"{batch}-{partition}-{place}",
                }
                for place, number in enumerate(mine.tolist())
            ]
            payload = b"".join(orjson.dumps(line) + b"\n" for line in lines)
            writer.append_payload(payload)  # in turn to each partition
            size += len(payload)
    writer.close()
    return size


class Sizes:
    """What each batch sends and writes, and when it is done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commits: list[float] = []
        self.plans: list[float] = []
        self.files: list[float] = []
        self.done: list[float] = []
        self.cpu: list[float] = []
        self.before: set[tuple[str, int, int]] = set()
        make, commit = Ingest._plan, Ingest._commit

        def planned(query: Ingest, *given: Any) -> Any:
            from pyspark import cloudpickle  # with which Spark sends it

            plan = make(query, *given)
            sent: bytes = cloudpickle.dumps(plan)  # type: ignore[no-untyped-call,unused-ignore]  # it has no types
            self.plans.append(len(sent) / 1e6)
            return plan

        def committed(query: Ingest, *given: Any) -> None:
            commit(query, *given)
            found = query.context.checkpoints.latest("main/process")
            assert found is not None
            self.commits.append(sum(map(len, found.states.values())) / 1e6)
            self.files.append(self.written() / 1e6)
            self.done.append(time.monotonic())
            self.cpu.append(cpu_of_tree(os.getpid()))

        Ingest._plan, Ingest._commit = planned, committed  # type: ignore[method-assign,assignment]

    def written(self) -> int:
        """Bytes of new files beside the checkpoint."""
        paths = [path for path in self.folder.rglob("*") if path.is_file()]
        told = {(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths}
        new = sum(size for _, size, _ in told - self.before)
        self.before = told
        return new


def main() -> None:
    sources, batches = (int(given) for given in (*sys.argv[1:], *("100000", "12")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as base:
        data = Path(base) / "data"
        data.mkdir(mode=0o700)
        seed(data, sources)
        size = fill(data, sources, batches)
        spark: Mapping[str, Any] = {
            "master": "local[2]",
            "max_mib": size // (1 << 20) + 1,
            "jars": str(parts("spark") / "jars") if (parts("spark") / "jars").is_dir() else None,
            "conf": {"spark.driver.memory": "4g", "spark.ui.enabled": "false"},
        }
        settings = Settings(
            data=data,
            spark=spark,
            engine={"max_sources": 2_000_000},
            streams={"process": {"duplicates_key": "uuid"}, "memory": {"enabled": False}},
        )
        session = open_session(settings)
        sizes = Sizes(data / "spark")
        run_spark(settings, Event(), available_now=True, session=session)
        session.stop()
    seconds, cpu = (np.diff(values).tolist() for values in (sizes.done, sizes.cpu))
    for row in zip(seconds, cpu, sizes.commits[1:], sizes.plans[1:], sizes.files[1:], strict=True):
        say("{:.2f} s, CPU {:.2f} s, store {:.2f} MB, plan {:.2f} MB, files {:.2f} MB".format(*row))
    told = {"seconds": seconds[1:], "cpu": cpu[1:], "store_mb": sizes.commits[2:], "plan_mb": sizes.plans[2:]}
    told["files_mb"] = sizes.files[2:]
    print(json.dumps({"sources": sources} | {name: round(median(values), 3) for name, values in told.items()}))


if __name__ == "__main__":
    main()
