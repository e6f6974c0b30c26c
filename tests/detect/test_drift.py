"""Drift: silent on more of the same, loud on a changed world, exact when merged or kept."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.detect.bundle import Bundle
from hackwatch.detect.drift import Drift, psi
from tests.detect.support import records


def _drift(bundle: Bundle, frame: pl.DataFrame) -> Drift:
    drift = Drift(bundle)
    for part in frame.iter_slices(500):
        drift.update(part, bundle.score(part))
    return drift


def test_psi_of_the_textbook() -> None:
    expected, counts = [0.5, 0.3, 0.2], np.array([30_000, 40_000, 30_000])
    shares = np.array([0.3, 0.4, 0.3])
    by_hand = sum((after - before) * np.log(after / before) for before, after in zip(expected, shares, strict=True))
    assert psi(expected, counts) == pytest.approx(by_hand, rel=1e-3)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=20))
def test_psi_is_never_negative_nor_infinite(counts: list[int]) -> None:
    found = psi(np.full(len(counts), 1 / len(counts)), counts)
    assert 0 <= found < 50


def test_more_of_the_same_is_steady(bundle: Bundle) -> None:
    report = _drift(bundle, records(20_000, seed=21, attacks=0.0)).report()
    assert report.state == "steady", report
    assert report.findings == ()
    assert report.rows == report.sampled == 20_000
    assert report.alarm_rate < 5 * report.alert_budget


@pytest.mark.parametrize(
    ("column", "change"),
    [
        pytest.param("load", pl.col("load") * 3, id="busier"),
        pytest.param("bytes", pl.col("bytes") * 10, id="larger"),
        pytest.param("path", pl.lit("/new"), id="other pages"),
        pytest.param("status", pl.lit(None, pl.Int64), id="gone"),
    ],
)
def test_a_changed_column_is_named_first(bundle: Bundle, column: str, change: pl.Expr) -> None:
    changed = records(5000, seed=21, attacks=0.0).with_columns(change.alias(column))
    report = _drift(bundle, changed).report()
    assert report.state == "drifted"
    assert next(iter(report.columns)) == column
    assert any(finding.startswith(f"{column} moved") for finding in report.findings)


def test_too_many_suspects_are_drift(bundles: dict[str, Bundle]) -> None:
    report = _drift(bundles["supervised"], records(5000, seed=21, attacks=0.3)).report()
    assert report.state == "drifted"
    assert report.alarm_rate > 0.2
    assert "of records are suspects" in report.findings[0]


def test_little_data_says_nothing(bundle: Bundle) -> None:
    assert _drift(bundle, records(100).with_columns(load=pl.lit(1.0))).report().state == "collecting"
    assert Drift(bundle).report().state == "collecting"


def test_large_batches_are_sampled_but_counted_in_full(bundle: Bundle) -> None:
    frame = pl.concat([records(3000)] * 5)
    drift = Drift(bundle)
    drift.update(frame, bundle.score(frame))
    report = drift.report()
    assert report.rows == 15_000
    assert report.sampled <= 1000


def test_merged_and_restored_counts_equal_one_count(bundle: Bundle) -> None:
    frame = records(4000, seed=21)
    whole = _drift(bundle, frame)
    merged = _drift(bundle, frame.head(1500))
    merged.merge(_drift(bundle, frame.tail(2500)))
    assert merged.report() == whole.report()
    restored = Drift(bundle)
    restored.restore(json.loads(json.dumps(whole.snapshot())))
    assert restored.report() == whole.report()


def test_a_snapshot_of_another_model_is_ignored(bundles: dict[str, Bundle]) -> None:
    drift = Drift(bundles["supervised"])
    drift.restore(_drift(bundles["permuted"], records(1000)).snapshot())
    assert drift.rows == 0


def test_old_records_fade(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hackwatch.detect.drift.MEMORY", 3000)
    drift = _drift(bundle, records(3000, seed=1, attacks=0.0))
    changed = records(20_000, seed=2, attacks=0.0).with_columns(pl.lit("/new").alias("path"))
    for part in changed.iter_slices(500):
        drift.update(part, bundle.score(part))
    assert drift.sampled <= 3500
    assert drift.report().columns["path"] > 5
