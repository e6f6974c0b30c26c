"""From raw scores to p-values, and from p-values of normal records to a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Calibrator", "Floats", "fit_calibrator", "quantile", "tail_quantile"]

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


def fit_calibrator(raw: npt.NDArray[np.float32]) -> Calibrator:
    """Learn p-values from raw scores of rows that the scorer did not see in its training (at least one)."""
    ordered = np.sort(raw.astype(np.float64))
    rows = len(ordered)
    levels = np.linspace(0, np.log10(rows + 1), KNOTS)
    # p(s) = (1 + rows scoring >= s) / (rows + 1): the score with `beyond` rows at or above it.
    beyond = np.clip(np.round(10**-levels * (rows + 1)) - 1, 0, rows).astype(int)
    scores = ordered[np.clip(rows - beyond, 0, rows - 1)]
    scores, first = np.unique(scores, return_index=True)
    tail = ordered[int(0.95 * rows) :]
    excess = float(np.mean(tail) - tail[0])
    return Calibrator(scores, levels[first], 1.0 / (np.log(10) * excess) if excess > 1e-12 else 1.0)


def quantile(values: Floats, weights: Floats, share: float) -> float:
    """The least value with at least `share` of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    place = int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-12), side="left"))
    return float(values[order][min(place, len(values) - 1)])


def tail_quantile(values: Floats, weights: Floats, budget: float) -> float:
    """The value that a share `budget` of unseen rows may exceed.

    With at least ENOUGH rows beyond it that is their quantile, weighted by the records that each row stands for. With
    fewer it is extrapolated from the upper 5 % with an exponential tail (peaks over threshold: Pickands 1975), never
    below the greatest value plus one mean excess: a small sample has not seen the oddest that is normal.
    """
    rows = len(values)
    if rows * budget >= ENOUGH:
        return quantile(values, weights, 1 - budget)
    start = quantile(values, weights, 0.95)
    upper = values[values > start]
    excess = float(np.mean(upper) - start) if len(upper) else 0.0
    share = len(upper) / rows
    level = start + excess * np.log(max(share / budget, 1.0)) if len(upper) else start
    return float(max(level, values.max() + excess))
