"""Measures of a score against the truth, weighted where rows stand for several records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hackwatch.detect.calibration import Floats

__all__ = ["Curve", "average_precision", "curve", "recall_at", "roc_auc"]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Every operating point of a score, strictest first: rates start at 0 and end at 1.

    `false` and `true` are false and true positive rate, `precision` at each; `scores` the threshold (inf first).
    """

    scores: Floats
    false: Floats
    true: Floats
    precision: Floats


def curve(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> Curve:
    """The operating points of `scores` (greater is more attack) against `truth`; ties are one point."""
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], truth[order].astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1) if len(ranked) else np.empty(0, np.int64)
    true, false = np.cumsum(hit)[last], np.cumsum(1 - hit)[last]
    positives, negatives = max(hit.sum(), 1.0), max((1 - hit).sum(), 1.0)
    return Curve(
        np.concatenate([[np.inf], ranked[last]]),
        np.concatenate([[0.0], false / negatives]),
        np.concatenate([[0.0], true / positives]),
        np.concatenate([[1.0], true / np.maximum(true + false, 1)]),
    )


def roc_auc(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> float:
    """Area under the ROC curve; ties count half; NaN if one class is absent."""
    if truth.all() or not truth.any():
        return float("nan")
    points = curve(truth, scores)
    return float(np.trapezoid(points.true, points.false))


def average_precision(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> float:
    """Area under the precision-recall curve as a step function (average precision); NaN without attacks."""
    if not truth.any():
        return float("nan")
    points = curve(truth, scores)
    return float(np.sum(np.diff(points.true) * points.precision[1:]))


def recall_at(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32], false_rate: float) -> float:
    """Greatest recall at a false positive rate of at most `false_rate`; NaN if one class is absent."""
    if truth.all() or not truth.any():
        return float("nan")
    points = curve(truth, scores)
    return float(points.true[points.false <= false_rate].max())
