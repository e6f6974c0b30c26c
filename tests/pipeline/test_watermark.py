"""What is late, as a table: watermark = greatest event time seen before a record in its partition, minus 20 s."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.pipeline.watermark import NEVER, Watermarks
from tests.pipeline.cases import LATENESS

SECOND = 1_000_000


def seconds(*values: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([round(value * SECOND) for value in values], dtype=np.int64)


@pytest.mark.parametrize(("times", "late"), LATENESS.values(), ids=LATENESS)
@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one record a batch"])
def test_lateness(times: list[float], late: list[bool], at_once: bool) -> None:
    marks = Watermarks(20, 30)
    if at_once:
        found = marks.observe(0, seconds(*times), 0.0).tolist()
    else:
        found = [bool(marks.observe(0, seconds(time), 0.0)[0]) for time in times]
    assert found == late


def test_the_stream_waits_for_its_slowest_partition() -> None:
    marks = Watermarks(20, 30)
    marks.observe(0, seconds(100), 0)
    marks.observe(1, seconds(60), 0)
    assert marks.advance(0) == 40 * SECOND


def test_a_known_partition_without_records_holds_the_stream_back_until_it_is_idle() -> None:
    marks = Watermarks(20, 30)
    marks.know(1, 0)
    marks.observe(0, seconds(100), 0)
    assert marks.advance(29.9) == NEVER
    marks.observe(0, seconds(101), 29.9)
    assert marks.idle_due(30.0)
    assert marks.advance(30.0) == 81 * SECOND


def test_an_idle_partition_that_wakes_is_judged_by_the_stream_too() -> None:
    marks = Watermarks(20, 30)
    marks.observe(0, seconds(100), 0)
    marks.observe(1, seconds(100), 0)
    marks.observe(0, seconds(200), 40)
    assert marks.advance(40) == 180 * SECOND
    assert marks.observe(1, seconds(179, 181, 180), 41).tolist() == [True, False, False]
    assert marks.advance(41) == 180 * SECOND, "the watermark never goes back"


def test_all_idle_keeps_the_watermark() -> None:
    marks = Watermarks(20, 30)
    marks.observe(0, seconds(100), 0)
    assert (marks.advance(0), marks.idle) == (80 * SECOND, False)
    assert (marks.advance(1000), marks.idle) == (80 * SECOND, True)


def test_a_snapshot_restores_everything() -> None:
    marks, other = Watermarks(20, 30), Watermarks(20, 30)
    marks.observe(0, seconds(100), 3)
    marks.know(1, 5)
    marks.advance(34)
    other.restore(marks.snapshot())
    assert other.snapshot() == marks.snapshot()


@given(st.lists(st.integers(0, 200), min_size=1), st.lists(st.integers(1, 10), min_size=1))
def test_lateness_does_not_depend_on_the_batches(times: list[int], sizes: list[int]) -> None:
    whole = Watermarks(20, 30).observe(0, seconds(*times), 0.0).tolist()
    cut, marks, at, turn = [], Watermarks(20, 30), 0, 0
    while at < len(times):
        size = sizes[turn % len(sizes)]
        cut += marks.observe(0, seconds(*times[at : at + size]), 0.0).tolist()
        marks.advance(0.0)
        at, turn = at + size, turn + 1
    assert cut == whole
