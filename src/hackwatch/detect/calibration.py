"""From raw scores to p-values, and from p-values of normal records to a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Calibrator", "Floats", "fit_calibrator", "quantile", "tail_quantile", "threshold_of"]

Floats = npt.NDArray[np.float64]

#: Points of the stored curve, evenly spaced in -log10 p.
KNOTS = 256
#: A quantile needs so many normal rows beyond it; with fewer the tail is extrapolated.
ENOUGH = 3
#: How far beyond the rarest row of training a p-value may be extrapolated, in decades.
BEYOND = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Calibrator:
    """-log10 of the share of unseen normal rows that score at least as high.

    `scores` increasing, `levels` their -log10 p; beyond the last the curve goes on with an exponential tail of
    `slope` decades per unit of score, for BEYOND decades at most, so that odder stays odder.
    """

    scores: Floats
    levels: Floats
    slope: float

    def __call__(self, raw: npt.NDArray[np.float32]) -> Floats:
        values = raw.astype(np.float64)
        inside = np.interp(values, self.scores, self.levels)
        beyond = np.maximum(values - self.scores[-1], 0) * self.slope
        found: Floats = inside + BEYOND * beyond / (BEYOND + beyond)
        return found


def fit_calibrator(raw: npt.NDArray[np.float32], weights: Floats) -> Calibrator:
    """Learn p-values from raw scores of records that the scorer did not see in its training.

    A row stands for `weights` records (at least 1 in all): p(s) = (1 + records scoring >= s) / (records + 1).
    """
    order = np.argsort(raw, kind="stable")
    ordered, weight = raw[order].astype(np.float64), weights[order]
    total = float(weight.sum())
    distinct, first = np.unique(ordered, return_index=True)
    beyond = total - np.concatenate([[0.0], np.cumsum(weight)])[first]
    levels = np.log10(total + 1) - np.log10(1 + beyond)
    # A few points per decade of p carry the curve; where it jumps (many equal scores) both ends of the jump stay.
    wanted = np.linspace(0, levels[-1], KNOTS)
    near = np.searchsorted(levels, wanted).clip(0, len(levels) - 1)
    kept = np.unique(np.concatenate([near, np.maximum(near - 1, 0), [len(levels) - 1]]))
    start = quantile(ordered, weight, 0.95)
    upper = ordered > start
    excess = float(np.average(ordered[upper] - start, weights=weight[upper])) if upper.any() else 0.0
    return Calibrator(distinct[kept], levels[kept], 1.0 / (np.log(10) * excess) if excess > 1e-12 else 1.0)


def quantile(values: Floats, weights: Floats, share: float) -> float:
    """The least value with at least `share` of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    place = int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-12), side="left"))
    return float(values[order][min(place, len(values) - 1)])


def tail_quantile(values: Floats, weights: Floats, budget: float) -> float:
    """The value that a share `budget` of unseen records may exceed; row i stands for weights[i] records.

    With at least ENOUGH records beyond it that is their quantile. With fewer it is extrapolated from the upper 5 % with
    an exponential tail (peaks over threshold: Pickands 1975), between the greatest value and one mean excess above it:
    a small sample has not seen the oddest that is normal, and says little about how odd that would be.
    """
    records = float(weights.sum())
    if records * budget >= ENOUGH:
        return quantile(values, weights, 1 - budget)
    start = quantile(values, weights, 0.95)
    upper = values > start
    if not upper.any():
        return float(values.max())
    excess = float(np.average(values[upper] - start, weights=weights[upper]))
    share = float(weights[upper].sum()) / records
    level = start + excess * np.log(max(share / budget, 1.0))
    return float(np.clip(level, values.max(), values.max() + excess))


def threshold_of(scores: npt.NDArray[np.float32], count: Floats, budget: float) -> float:
    """The score that a share `budget` of normal records may reach; in log-odds where the tail must be extrapolated."""
    odds = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    odds = np.log(odds / (1 - odds))
    level = tail_quantile(odds, count, budget)
    # One step above: rows exactly at the quantile are within the budget. Never beyond what an attack can reach.
    return min(float(np.nextafter(np.float32(1 / (1 + np.exp(-level))), np.float32(1))), 0.999)
