"""Batches that tasks judge and the driver merges, with clocks and keys in files as with Spark, but without Spark."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import orjson
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
from hypothesis import strategies as st

from hackwatch.config import AlertSettings, EngineSettings, StreamSettings
from hackwatch.pipeline.core import Now
from hackwatch.pipeline.detection import Scored
from hackwatch.pipeline.options import StreamOptions
from hackwatch.pipeline.streamstate import StreamState
from hackwatch.spark.folder import Folder, LocalFolder
from hackwatch.spark.judging import Judge, known, merged
from hackwatch.spark.partitionfiles import PartitionFiles
from hackwatch.spark.plan import Plan, Report, Told, pack_told, read_told
from hackwatch.spark.statefiles import StateFiles
from hackwatch.streams.declarations import Aggregate, Count, Mean, Top
from hackwatch.streams.stream import DecodeOptions
from tests.families.host.scored import PROCESS, Record, run

__all__ = ["OPTIONS", "PARTITIONS", "Driver", "Round", "files_in", "joined", "judged", "rounds", "scored"]

BUSY = Aggregate("busy", "process", ("CMD",), (Count("rows"), Mean("pid", "PID"), Top("machines", "machine")), 60)
OPTIONS = StreamOptions(
    StreamSettings(duplicates_key="uuid"), EngineSettings(idle_seconds=5.0, max_sources=6), aggregates=(BUSY,)
)
PARTITIONS = 3


@dataclass(frozen=True)
class Round:
    """A batch: records by partition, cut into tasks and within a task into runs; the time after the one before."""

    records: dict[int, list[Record]]
    tasks: list[list[int]]
    run: int
    seconds: float
    waiting: list[int]


machines = st.sampled_from(["a", "b", "c", "d"])
records = st.builds(
    Record,
    st.one_of(st.integers(0, 400), st.integers(100_000, 100_200)),
    machine=machines,
    cmd=st.sampled_from(["x", "y"]),
    pid=st.integers(0, 3),
    suspect=st.booleans(),
    key=st.one_of(st.none(), st.sampled_from("klm")),
)


@st.composite
def rounds(draw: st.DrawFn, most: int = 4) -> list[Round]:
    made = []
    for _ in range(draw(st.integers(1, most))):
        chosen = {number: draw(st.lists(records, max_size=12)) for number in range(PARTITIONS)}
        owner = [draw(st.integers(0, 1)) for _ in range(PARTITIONS)]
        tasks = [[n for n in range(PARTITIONS) if owner[n] == task] for task in (0, 1)]
        waiting = draw(st.lists(st.integers(0, PARTITIONS - 1), unique=True, max_size=PARTITIONS))
        made.append(Round(chosen, tasks, draw(st.integers(1, 12)), draw(st.sampled_from([0.0, 1.0, 30.0])), waiting))
    return made


def scored(number: int, chosen: list[Record]) -> Scored:
    """Keys are of one partition each: those of several are told apart by the embedded engine alone."""
    mine = [replace(one, key=f"{one.key}{number}") if one.key else one for one in chosen]
    return run("process", mine, partition=number, keyed=True)


class Driver:
    """The driver's side of ingest: a stream's state, the files beside the checkpoint, and what the store has."""

    def __init__(self, folder: Folder, committed: bytes | None = None, options: StreamOptions = OPTIONS) -> None:
        """`committed`: what an earlier one has left; its aggregates are not taken up."""
        self.folder, self.options = folder, options
        self.state = StreamState(PROCESS, options, AlertSettings())
        self.files = PartitionFiles(StateFiles(folder, Sent))
        if committed is None:
            self.epoch = 0
            self.files.begin(self.state.clocks, {}, 0)
            self.committed = self._kept()
            return
        kept, self.committed = orjson.loads(committed), committed
        self.epoch = kept["epoch"]
        self.state.restore(kept["stream"], {}, ())
        self.files.restore(kept["files"], self.state.clocks, kept["stream"]["clocks"])

    def plan(self, now: Now) -> Plan:
        return Plan(
            stream="process", topic="t", site="local", epoch=self.epoch + 1, wall=now.wall, elapsed=now.elapsed,
            latest=0.0, options=self.options, decode=DecodeOptions(), known=known(self.state, self.files), shares={},
            shipped=cast("Any", None), suspects=False,
        )  # fmt: skip

    def judge(self, batch: Round, now: Now) -> tuple[pl.DataFrame, Told]:
        """What the tasks find."""
        plan, each = pickle.loads(pickle.dumps(self.plan(now))), list[pa.RecordBatch]()
        found = joined(in_tasks(plan, batch, each))
        return found, read_told(pa.Table.from_batches(each), plan)

    def take(self, batch: Round, now: Now) -> tuple[pl.DataFrame, Any]:
        """A batch, up to what comes before the commit."""
        found, told = self.judge(batch, now)
        marks = merged(self.state, told, now.elapsed, batch.waiting)
        self.epoch += 1
        self.files.folder.write(self.files.take(self.state.clocks, told.arrivals, told.keys, self.epoch))
        return found, marks

    def commit(self) -> None:
        self.committed = self._kept()

    def _kept(self) -> bytes:
        small, _ = self.state.snapshot(clocks=False)
        return orjson.dumps({"stream": small, "files": self.files.snapshot(), "epoch": self.epoch})

    def step(self, batch: Round, now: Now) -> tuple[pl.DataFrame, Any]:
        """A whole batch."""
        told = self.take(batch, now)
        self.commit()
        self.files.drop()
        return told

    def restarted(self) -> Driver:
        """Another one, which goes on from the last commit."""
        return Driver(self.folder, self.committed, self.options)


@dataclass
class Sent:
    """In place of a broadcast variable."""

    value: bytes

    def destroy(self) -> None:
        """Whoever reads it now has not been told in time."""
        del self.value


class FarFolder:
    """A folder that tasks do not see: what they read of it was sent to them."""

    def __init__(self, path: Path) -> None:
        self._folder = LocalFolder(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._folder, name)

    def __reduce__(self) -> str:
        raise AssertionError("it goes to no task")


@contextmanager
def files_in(*, far: bool = False) -> Iterator[Folder]:
    """A folder for the files."""
    with TemporaryDirectory() as name:
        yield cast("Folder", FarFolder(Path(name))) if far else LocalFolder(Path(name))


def in_tasks(plan: Plan, batch: Round, told: list[pa.RecordBatch]) -> Iterator[pl.DataFrame]:
    """The records of each task with what it has judged; what the tasks tell is added to `told`."""
    for task in batch.tasks:
        judge = Judge(plan, PROCESS)
        for number in task:
            frame = scored(number, batch.records[number]).records
            for start in range(0, len(frame), batch.run):
                part = frame[start : start + batch.run]
                late, repeated = judge.judge(part)
                judge.count(part.filter(pl.Series(~(late | repeated))))
                yield judged(part, late, repeated)
        told.append(pack_told(Report(), judge.found()))


def judged(frame: pl.DataFrame, late: Any, repeated: Any) -> Any:
    return frame.select("partition", "offset").with_columns(late=pl.Series(late), repeated=pl.Series(repeated))


def joined(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    schema = {"partition": pl.Int32(), "offset": pl.Int64(), "late": pl.Boolean(), "repeated": pl.Boolean()}
    return pl.concat([pl.DataFrame(schema=schema), *(frame.cast(schema) for frame in frames)]).sort(  # type: ignore[arg-type]
        "partition", "offset"
    )
