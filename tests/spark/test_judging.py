"""What tasks judge and count by themselves, and the driver merges, is what the embedded engine finds. Without Spark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hackwatch.config import AlertSettings, EngineSettings, StreamSettings
from hackwatch.pipeline.core import Now
from hackwatch.pipeline.detection import Scored
from hackwatch.pipeline.options import StreamOptions
from hackwatch.pipeline.streamstate import StreamState
from hackwatch.spark.judging import Judge, known, merged
from hackwatch.spark.plan import Plan, Report, pack_told, read_told
from hackwatch.streams.base import DecodeOptions
from hackwatch.streams.declarations import Aggregate, Count, Mean, Top
from tests.pipeline.support import PROCESS, Record, run

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
def rounds(draw: st.DrawFn) -> list[Round]:
    made = []
    for _ in range(draw(st.integers(1, 4))):
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


def plan_of(state: StreamState, keys: dict[int, bytes], now: Now) -> Plan:
    return Plan(
        stream="process", topic="t", site="local", epoch=1, wall=now.wall, elapsed=now.elapsed, latest=0.0,
        options=OPTIONS, decode=DecodeOptions(), known=known(state, keys), shares={}, shipped=cast("Any", None),
        suspects=False,
    )  # fmt: skip


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


def on_spark(state: StreamState, keys: dict[int, bytes], batch: Round, now: Now) -> tuple[pl.DataFrame, Any]:
    plan, each = plan_of(state, keys, now), list[pa.RecordBatch]()
    found = joined(in_tasks(plan, batch, each))
    told = read_told(pa.Table.from_batches(each), plan)
    keys |= told.keys
    marks = merged(state, told, now.elapsed, batch.waiting)
    return found, marks


def embedded(state: StreamState, batch: Round, now: Now) -> tuple[pl.DataFrame, Any]:
    chosen = [scored(number, batch.records[number]).records for number in batch.records]
    whole = pl.concat(chosen)
    late, repeated = state.judge(whole, now)
    for aggregates in state.aggregates:
        aggregates.add(whole.filter(pl.Series(~(late | repeated))))
    marks = state.clocks.advance(now.elapsed, batch.waiting)
    return joined([judged(whole, late, repeated)]), marks


def joined(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    schema = {"partition": pl.Int32(), "offset": pl.Int64(), "late": pl.Boolean(), "repeated": pl.Boolean()}
    return pl.concat([pl.DataFrame(schema=schema), *(frame.cast(schema) for frame in frames)]).sort(  # type: ignore[arg-type]
        "partition", "offset"
    )


@given(rounds())
def test_any_share_of_partitions_among_tasks_gives_what_the_embedded_engine_finds(batches: list[Round]) -> None:
    ours, theirs = (StreamState(PROCESS, OPTIONS, AlertSettings()) for _ in range(2))
    keys: dict[int, bytes] = {}
    elapsed = 0.0
    for batch in batches:
        elapsed += batch.seconds
        now = Now(2e9, elapsed)
        found, marks = on_spark(ours, keys, batch, now)
        expected, same = embedded(theirs, batch, now)
        assert_frame_equal(found, expected)
        assert marks == same
        for one, other in zip(ours.aggregates, theirs.aggregates, strict=True):
            closed = [sorted(map(str, each.close(marks.moved))) for each in (one, other)]
            assert closed[0] == closed[1]
            places = [*one.aggregate.keys, "source", "start"]
            assert_frame_equal(one.take_changes().sort(places), other.take_changes().sort(places))
    assert ours.clocks.late_sources() == theirs.clocks.late_sources()
    small, same = (state.clocks.snapshot()[0] for state in (ours, theirs))
    assert {**small, "skew": None} == {**same, "skew": None}, "whose clock is wrong is seen by what came just before"
    assert_frame_equal(clocks_of(ours), clocks_of(theirs))


def clocks_of(state: StreamState) -> pl.DataFrame:
    return state.clocks.snapshot()[1]["clocks"].sort("partition", "source")


def test_sources_beyond_the_limit_share_a_clock_on_both() -> None:
    batch = Round({0: [Record(t, machine=f"m{t}") for t in range(20)]}, [[0]], 5, 1.0, [])
    states = [StreamState(PROCESS, OPTIONS, AlertSettings()) for _ in range(2)]
    for step in (1.0, 2.0):
        found, _ = on_spark(states[0], {}, batch, Now(2e9, step))
        expected, _ = embedded(states[1], batch, Now(2e9, step))
        assert_frame_equal(found, expected)
    assert len(states[0].clocks) == len(states[1].clocks) == OPTIONS.engine.max_sources + 1
    assert states[0].clocks.crowded
    assert np.array_equal(clocks_of(states[0])["newest"], clocks_of(states[1])["newest"])
