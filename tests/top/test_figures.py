"""Figures at a glance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.top.figures import UNICODE, age, amount, columns, size, spark


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (987, "987"), (12_034, "12,034"), (99_999, "99,999"), (100_000, "100k"), (1_234_567, "1.23M"),
     (123_456_789, "123M"), (5.5e9, "5.5G"), (2e13, "20T")],
)  # fmt: skip
def test_amounts(number: float, shown: str) -> None:
    assert amount(number) == shown


@given(st.floats(0, 1e14))
def test_amounts_fit_in_six_cells(number: float) -> None:
    assert len(amount(number)) <= 6


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (20 << 20, "20 MiB"), (3 << 40, "3.07e+03 GiB")],
)
def test_sizes(number: float, shown: str) -> None:
    assert size(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (-3, "0 s"), (20.4, "20 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 d")],
)
def test_ages(seconds: float | None, shown: str) -> None:
    assert age(seconds) == shown


@pytest.mark.parametrize(
    ("values", "top", "shown"),
    [([0, 0], 0, "▁▁"), ([1, 100], 100, "▂█"), ([50], 100, "▅"), ([0.01, 0], 1000, "▂▁")],
    ids=["nothing", "least and most", "half", "anything shows"],
)
def test_sparks(values: list[float], top: float, shown: str) -> None:
    assert spark(values, top, UNICODE) == shown
    assert spark(values, top, UNICODE, wide=2) == "".join(mark * 2 for mark in shown)


def test_columns_hold_still_between_their_edges() -> None:
    """A source that is sampled every 5 s shows a flat line, whenever one looks."""
    start = 1_769_882_650
    for now in range(start, start + 30):
        buckets = [0] * 60
        for at in range(now - 118, now + 1):
            if at % 5 == 0:
                buckets[60 - 1 - (now // 2 - at // 2)] += 40
        shown = columns(buckets, now)
        assert len(shown) == 12
        assert set(shown[1:-1]) == {16.0}


@given(st.lists(st.integers(0, 1000), min_size=60, max_size=60), st.floats(0, 2e9))
def test_columns_show_no_more_than_there_was(buckets: list[int], updated: float) -> None:
    shown = columns(buckets, updated)
    assert len(shown) == 12
    assert max(shown) <= max(buckets)
