"""How sizes and names are printed: one table for the printing of single values and of columns."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.families.host.collect.printed import command, command_expression, share, size, size_expression


@pytest.mark.parametrize(
    ("kib", "printed"),
    [
        (0, "0K"),
        (24, "24K"),
        (88680, "88680K"),
        (99999, "99999K"),
        (100000, "97.7M"),
        (531558, "519.1M"),
        (1023948, "999.9M"),
        (1024000, "1.0G"),
        (2 << 20, "2.0G"),
        (1 << 30, "1.0T"),
        (1 << 40, "1.0P"),
        (-1536, "-1536K"),
        (-9999, "-9999K"),
        (-10000, "-9.8M"),
        (-(3 << 20), "-3.0G"),
    ],
)
def test_sizes(kib: int, printed: str) -> None:
    assert size(kib) == printed
    assert pl.DataFrame({"kib": [kib]}).select(size_expression("kib")).item() == printed


@given(st.integers(-(2**43), 2**43))
def test_a_printed_size_is_true_to_half_of_its_last_digit(kib: int) -> None:
    printed = size(kib)
    unit = 1024 ** ("KMGTP".index(printed[-1]))
    assert abs(float(printed[:-1]) * unit - kib) <= (0 if unit == 1 else 0.0501 * unit)
    assert len(printed) <= 7


@pytest.mark.parametrize(
    ("name", "finished", "printed"),
    [
        ("bash", False, "bash"),
        ("bash", True, "<bash>"),
        ("NetworkManager1", False, "NetworkManager"),
        ("NetworkManager1", True, "<NetworkManager>"),
        ("", False, "?"),
        ("", True, "<?>"),
        (" ", False, " "),
        ("<x>", False, "<x"),
        ("<x>", True, "<<x>"),
        ("<", False, "<"),
        ("<abcdefghijkl>z", False, "<abcdefghijkl"),
        ("<>", False, "<"),
    ],
)
def test_names(name: str, finished: bool, printed: str) -> None:
    assert command(name.encode(), finished=finished) == printed
    frame = pl.DataFrame({"name": [name], "finished": [finished]})
    assert frame.select(command_expression("name", "finished")).item() == printed


@pytest.mark.parametrize(
    ("part", "whole", "printed"), [(13, 100, 0.13), (1, 3, 0.33), (5, 1, 5.0), (1, 0, 0.0), (0, 5, 0.0), (1, -1, 0.0)]
)
def test_shares(part: float, whole: float, printed: float) -> None:
    assert share(part, whole) == printed
