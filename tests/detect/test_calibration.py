"""p-values and thresholds against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.detect.calibration import fit_calibrator, quantile, tail_quantile
from hackwatch.detect.evaluation.measures import average_precision, recall_at, roc_auc


def test_p_values_are_the_share_at_least_as_high() -> None:
    random = np.random.default_rng(1)
    raw = random.normal(size=5000).astype(np.float32)
    weights = random.integers(1, 4, 5000).astype(np.float64)
    calibrate = fit_calibrator(raw, weights)
    asked = np.quantile(raw, [0.0, 0.1, 0.5, 0.9, 0.99, 0.999]).astype(np.float32)
    true = [-np.log10((1 + weights[raw >= value].sum()) / (weights.sum() + 1)) for value in asked]
    np.testing.assert_allclose(calibrate(asked), true, atol=0.05)


def test_odder_than_all_goes_on_rising_but_not_for_ever() -> None:
    raw = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    calibrate = fit_calibrator(raw, np.ones(1000))
    levels = calibrate(np.array([raw.max(), 5, 10, 1e6], np.float32))
    assert (np.diff(levels) > 0).all()
    assert levels[-1] <= np.log10(1001) + 3


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=60))
def test_a_calibrator_is_monotonic(values: list[float]) -> None:
    raw = np.array(values, np.float32)
    calibrate = fit_calibrator(raw, np.ones(len(raw)))
    levels = calibrate(np.linspace(-120, 120, 200).astype(np.float32))
    assert (np.diff(levels) >= 0).all()
    assert levels[0] >= 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5)), min_size=1), st.floats(0.01, 1.0))
def test_a_weighted_quantile_is_that_of_the_repeated_rows(pairs: list[tuple[int, int]], share: float) -> None:
    values, weights = np.array(pairs, np.float64).T
    repeated = np.sort(np.repeat(values, weights.astype(int)))
    place = int(np.ceil(share * len(repeated) - 1e-9)) - 1
    assert quantile(values, weights, share) == repeated[max(place, 0)]


@pytest.mark.parametrize("rows", [60, 500, 5000])
def test_a_small_sample_gets_a_margin(rows: int) -> None:
    values = np.random.default_rng(rows).exponential(size=rows)
    level = tail_quantile(values, np.ones(rows), 1e-6)
    assert values.max() < level <= values.max() + 2.5


def test_a_large_sample_gets_its_quantile() -> None:
    values = np.random.default_rng(1).exponential(size=10_000)
    assert tail_quantile(values, np.ones(10_000), 0.01) == pytest.approx(np.quantile(values, 0.99), rel=0.01)


def test_equal_values_do_not_break_the_tail() -> None:
    assert tail_quantile(np.full(50, 2.0), np.ones(50), 1e-6) == 2.0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=2, max_size=60))
def test_measures_agree_with_brute_force(pairs: list[tuple[bool, int]]) -> None:
    truth = np.array([attack for attack, _ in pairs])
    scores = np.array([score for _, score in pairs], np.float32)
    if truth.all() or not truth.any():
        assert np.isnan(roc_auc(truth, scores))
        return
    above = scores[truth][:, None] - scores[~truth][None, :]
    assert roc_auc(truth, scores) == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean())
    best = max((scores[truth] >= limit).mean() for limit in [*scores, 99] if (scores[~truth] >= limit).mean() <= 0.25)
    assert recall_at(truth, scores, 0.25) == pytest.approx(best)
    levels = np.unique(scores)[::-1]
    recalls = np.array([(scores[truth] >= level).mean() for level in levels])
    precisions = np.array([truth[scores >= level].mean() for level in levels])
    assert average_precision(truth, scores) == pytest.approx(float((np.diff(recalls, prepend=0.0) * precisions).sum()))
