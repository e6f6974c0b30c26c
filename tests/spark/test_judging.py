"""What tasks judge and count by themselves, and the driver merges, is what the embedded engine finds. Without Spark.

Clocks and keys are in files as they are with Spark, in a folder that the tasks see, or sent to them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hackwatch.config import AlertSettings
from hackwatch.pipeline.core import Now
from hackwatch.pipeline.streamstate import StreamState
from tests.families.host.scored import PROCESS, Record
from tests.spark.rounds import OPTIONS, Driver, Round, files_in, joined, judged, rounds, scored


def embedded(state: StreamState, batch: Round, now: Now) -> tuple[pl.DataFrame, Any]:
    chosen = [scored(number, batch.records[number]).records for number in batch.records]
    whole = pl.concat(chosen)
    late, repeated = state.judge(whole, now)
    for aggregates in state.aggregates:
        aggregates.add(whole.filter(pl.Series(~(late | repeated))))
    marks = state.clocks.advance(now.elapsed, batch.waiting)
    return joined([judged(whole, late, repeated)]), marks


@given(rounds(), st.booleans())
def test_any_share_of_partitions_among_tasks_gives_what_the_embedded_engine_finds(
    batches: list[Round], far: bool
) -> None:
    theirs = StreamState(PROCESS, OPTIONS, AlertSettings())
    elapsed = 0.0
    with files_in(far=far) as place:
        driver = Driver(place)
        ours = driver.state
        for batch in batches:
            elapsed += batch.seconds
            now = Now(2e9, elapsed)
            found, marks = driver.step(batch, now)
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
    theirs = StreamState(PROCESS, OPTIONS, AlertSettings())
    with files_in() as place:
        driver = Driver(place)
        for step in (1.0, 2.0, 3.0):
            found, _ = driver.step(batch, Now(2e9, step))
            expected, _ = embedded(theirs, batch, Now(2e9, step))
            assert_frame_equal(found, expected)
            driver = driver.restarted()
    assert len(driver.state.clocks) == len(theirs.clocks) == OPTIONS.max_sources + 1
    assert driver.state.clocks.crowded
    assert np.array_equal(clocks_of(driver.state)["newest"], clocks_of(theirs)["newest"])
