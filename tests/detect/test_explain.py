"""Explanations: the right column, in the words of a person."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from hackwatch.detect.bundle import Bundle
from hackwatch.detect.explain import printed
from tests.detect.support import records


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1288490188.8, "bytes", "1.2 GiB"),
        (0, "bytes", "0 B"),
        (1023, "bytes", "1023 B"),
        (1024, "bytes", "1.0 KiB"),
        (1048575, "bytes", "1.0 MiB"),
        (-1572864, "bytes", "-1.5 MiB"),
        (0.93, "fraction", "93 %"),
        (0.005, "fraction", "0.5 %"),
        (1438000, "events per interval", "1,438,000 events per interval"),
        (-5, "niceness", "-5 niceness"),
        (12.345, "", "12.3"),
        (math.nan, "bytes", "none"),
        (None, "", "none"),
        ("bash", "", "bash"),
        ("\x1b[2Jrm", "", "\\x1b[2Jrm"),
    ],
)
def test_values_are_printed_as_people_read_them(value: object, unit: str, text: str) -> None:
    assert printed(value, unit) == text


@pytest.mark.parametrize("method", ["supervised", "unsupervised"])
@pytest.mark.parametrize(
    ("column", "value", "seen"), [("load", 0.97, "97 %"), ("bytes", 3e10, "27.9 GiB")], ids=["load", "bytes"]
)
def test_a_planted_cause_comes_first(
    bundles: dict[str, Bundle], method: str, column: str, value: float, seen: str
) -> None:
    usual = records(400, seed=4, attacks=0.0).filter(pl.col("method") == "GET").head(100)
    found = bundles[method].explain(usual.with_columns(pl.lit(value).alias(column)), top=3)
    first = [drivers[0].column for drivers in found]
    assert first.count(column) >= 90
    driver = next(drivers[0] for drivers in found if drivers[0].column == column)
    assert driver.seen == seen
    assert driver.usual != seen
    assert driver.contribution > 0


def test_at_most_top_drivers_greatest_first(bundle: Bundle) -> None:
    for drivers in bundle.explain(records(50, seed=8, attacks=0.5), top=2):
        assert len(drivers) <= 2
        assert [driver.contribution for driver in drivers] == sorted(
            (driver.contribution for driver in drivers), reverse=True
        )


def test_importance_is_a_share_per_column(bundle: Bundle) -> None:
    importance = bundle.importance()
    assert set(importance) == {"status", "load", "bytes", "growth", "path", "method"}
    assert sum(importance.values()) == pytest.approx(1)
    assert list(importance.values()) == sorted(importance.values(), reverse=True)
    assert np.isfinite(list(importance.values())).all()
