"""Final values that stand out: cases, an oracle, restarts, and bounded memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hackwatch.alerts.observed import Outlier
from hackwatch.config import AlertSettings
from hackwatch.pipeline import outliers
from hackwatch.pipeline.aggregates import Closed
from hackwatch.pipeline.outliers import OutlierWatch
from hackwatch.streams.declarations import Outliers

DECLARED = Outliers("count", "anomalous-window", "{value} on {entity}")
USUAL = AlertSettings()


def closed(values: Sequence[float | None], *keys: Any) -> list[Closed]:
    return [Closed(keys, "m1", 120 * i, 120 * i + 120, {"count": value}) for i, value in enumerate(values)]


CASES = [  # values of one key in order, and the usual value at which the last one stands out (None: it does not)
    ([1, 1, 1, 1, 1, 8], 1.0),
    ([1, 1, 1, 1, 1, 7], None),  # 6 deviations of 1 above 1: not more
    ([1, 1, 1, 1, 8], None),  # too short a history
    ([0, 0, 0, 0, 0, 4], None),  # too few
    ([100, 100, 100, 100, 100, 160], None),  # Poisson noise: 6 times 10
    ([100, 100, 100, 100, 100, 161], 100.0),
    ([10, 20, 30, 40, 50, 118], None),  # 6 times 1.4826 times 10 above 30
    ([10, 20, 30, 40, 50, 119], 30.0),
    ([0.5, 0.5, None, 0.5, 0.5, 0.5, 6.6], 0.5),  # an interval without a value is none
    ([-9, -9, -9, -9, -9, 5], -9.0),
    ([1, 1, 1, 1, 1, 50, None], None),
]


@pytest.mark.parametrize(("values", "usual"), CASES)
def test_a_value_stands_out_against_the_history_of_its_key(values: list[float | None], usual: float | None) -> None:
    watch = OutlierWatch(DECLARED, USUAL)
    *before, last = closed(values, "m1")
    watch.look(before)
    outlier = None if usual is None else Outlier(DECLARED, "m1", last.start, last.end, last.values, usual)
    assert watch.look([last]) == ([] if outlier is None else [outlier])


def oracle(values: Sequence[int], options: AlertSettings) -> list[int]:
    """The places of the values that stand out."""
    found = []
    for place, value in enumerate(values):
        history = np.array(values[max(0, place - options.window_history) : place], dtype=float)
        if len(history) < options.window_warmup:
            continue
        usual = np.median(history)
        deviation = max(1.4826 * np.median(abs(history - usual)), usual**0.5, 1)
        if value >= options.window_minimum and value > usual + options.window_deviations * deviation:
            found.append(place)
    return found


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.one_of(st.integers(0, 3), st.integers(0, 60))), max_size=80),
    st.integers(0, 80),
)
@settings(max_examples=80, deadline=None)
def test_restarts_and_other_keys_change_nothing(intervals: list[tuple[str, int]], cut: int) -> None:
    options = AlertSettings(window_history=10, window_warmup=3, window_minimum=4, window_deviations=4.0)
    watch = OutlierWatch(DECLARED, options)
    all_closed = [Closed((key, None), "m1", i, i + 1, {"count": value}) for i, (key, value) in enumerate(intervals)]
    found = watch.look(all_closed[:cut])
    saved, watch = json.dumps(watch.snapshot()), OutlierWatch(DECLARED, options)
    watch.restore(json.loads(saved))
    found += watch.look(all_closed[cut:])
    for key in "ab":
        mine = [i for i, (name, _) in enumerate(intervals) if name == key]
        expected = [mine[place] for place in oracle([intervals[i][1] for i in mine], options)]
        assert [outlier.start for outlier in found if outlier.entity == key] == expected


def test_keys_beyond_the_limit_are_nobodys_but_all_rows_together_have_a_history() -> None:
    values = [1, 1, 1, 1, 1, 99]
    assert OutlierWatch(DECLARED, USUAL).look(closed(values, None, None)) == []
    assert len(OutlierWatch(DECLARED, USUAL).look(closed(values, "m1", None))) == 1
    assert len(OutlierWatch(DECLARED, USUAL).look(closed(values))) == 1


def test_made_up_keys_push_out_only_what_has_been_silent_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outliers, "HISTORIES_KEPT", 10)
    watch = OutlierWatch(DECLARED, USUAL)
    watch.look(closed([1] * 5, "silent"))
    watch.look(closed([1] * 5, "m1"))
    for number in range(50):
        watch.look(closed([1], f"made-up-{number}") + closed([1], "m1"))
        assert len(watch) <= 10
    assert watch.look(closed([60], "silent")) == []
    assert len(watch.look(closed([60], "m1"))) == 1
