"""The unsupervised detector: three views of oddness, each turned into a p-value, averaged."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree  # type: ignore[import-untyped]  # has no types

from hackwatch.detect.calibration import Calibrator, Floats, fit_calibrator
from hackwatch.detect.features import Encoder, Matrix
from hackwatch.detect.models.booster import Trees
from hackwatch.detect.models.forests import Tree, forest, histogram_tree, isolation_forest

__all__ = ["Ensemble", "Parts", "fit_ensemble", "fit_parts", "probability", "units"]

#: Training rows kept for the nearest-row distance.
NEIGHBOURS = 2000
#: Bins of a column's histogram; a column with at most so many distinct values has one bin for each.
BINS = 64
#: Quantile beyond which a distance no longer makes a row likelier to be sampled.
CAP = 0.97
#: Trees and rows per tree of the isolation forest.
TREES, SAMPLE = 100, 512
#: Decades of surprise that every normal row shows somewhere; only what goes beyond counts, squared, so that a single
#: value never seen outweighs a dozen slightly unusual, correlated ones.
USUAL_SURPRISE = 2.0


def probability(evidence: Floats) -> npt.NDArray[np.float32]:
    """Mean -log10 p -> score in [0, 1): m / (1 + m), so .667 is 1 in 100 and .75 is 1 in 1,000; keeps the order."""
    return (evidence / (1 + evidence)).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Isolation forest, per-column histograms and nearest training row: raw scores, greater is odder.

    `points` are sampled distinct training rows already divided by `scale` (one per feature).
    """

    isolation: Trees
    histogram: Trees
    points: Floats
    scale: Floats
    tree: cKDTree

    def raw(self, matrix: Matrix) -> list[npt.NDArray[np.float32]]:
        """Three raw scores a row."""
        distance, _ = self.tree.query(matrix / self.scale, p=1)
        return [
            self.isolation.predict(matrix),
            self.histogram.predict(matrix),
            np.log1p(distance).astype(np.float32),
        ]

    def contributions(self, matrix: Matrix) -> list[Floats]:
        """Per part, how much each feature speaks for oddness, (rows, features)."""
        _, nearest = self.tree.query(matrix / self.scale, p=1)
        gap = np.abs(matrix / self.scale - self.points[nearest])
        return [
            self.isolation.contributions(matrix)[:, :-1].astype(np.float64),
            self.histogram.contributions(matrix)[:, :-1].astype(np.float64),
            gap,
        ]


def units(encoder: Encoder, matrix: Matrix) -> Floats:
    """What counts as one step of each feature in a distance, (features,).

    A factor e of a counter and a decade of rarity are one step as they are. Plain numbers wider than that shrink to one
    standard deviation; none is amplified: a column that hardly moved in training must not drown the others.
    """
    wide = np.maximum(matrix.std(axis=0, dtype=np.float64), 1.0)
    return np.where([feature.kind == "number" for feature in encoder.features], wide, 1.0)


def fit_parts(matrix: Matrix, scale: Floats, *, seed: int) -> Parts:
    """Train the three parts on distinct rows; `scale` from `units`."""
    points = _spread_sample(matrix / scale, NEIGHBOURS, seed)
    raw = isolation_forest(matrix, trees=TREES, sample=SAMPLE, seed=seed)
    histograms = forest([_histogram(matrix[:, column], column) for column in range(matrix.shape[1])], matrix.shape[1])
    return Parts(Trees(raw), Trees(histograms), points, scale, cKDTree(points))


def _spread_sample(rows: Floats, size: int, seed: int) -> Floats:
    """Half drawn evenly, half by squared distance to those, so that rare habits are represented too.

    The second draw is a batch of k-means++ (Arthur and Vassilvitskii 2007) with the greatest distances capped, lest
    attacks hidden in the training data be what it picks.
    """
    if len(rows) <= size:
        return rows
    random = np.random.default_rng(seed)
    first = random.choice(len(rows), size // 2, replace=False)
    distance, _ = cKDTree(rows[first]).query(rows, p=1)
    weight = np.square(np.minimum(distance, np.quantile(distance, CAP)))
    if np.count_nonzero(weight) < size - size // 2:
        return rows[np.sort(first)]
    second = random.choice(len(rows), size - size // 2, replace=False, p=weight / weight.sum())
    chosen: Floats = rows[np.union1d(first, second)]
    return chosen


def _histogram(values: npt.NDArray[np.float32], column: int) -> Tree:
    distinct = np.unique(values)
    if len(distinct) <= BINS:
        inner = (distinct[1:] / 2 + distinct[:-1] / 2).astype(np.float32)
        low, high = distinct[0], distinct[-1]
        edges = np.concatenate([[low], inner, [np.nextafter(high, np.float32(np.inf))]])
    else:
        edges = np.linspace(distinct[0], distinct[-1], BINS + 1).astype(np.float32)
        edges[-1] = np.nextafter(edges[-1], np.float32(np.inf))
    edges = np.unique(edges.astype(np.float32))
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1).astype(np.float64)
    surprise = -np.log10(np.maximum(counts, 0.5) / len(values))
    beyond = np.square(np.maximum(surprise - USUAL_SURPRISE, 0))
    return histogram_tree(column, edges, beyond, np.maximum(counts, 0.5))


class Ensemble:
    """Mean (never the greatest) of the parts' -log10 p, as a score in [0, 1)."""

    def __init__(self, parts: Parts, calibrators: tuple[Calibrator, ...]) -> None:
        self._parts = parts
        self._calibrators = calibrators

    def levels(self, matrix: Matrix) -> Floats:
        """-log10 p of each part, (parts, rows)."""
        raw = self._parts.raw(matrix)
        return np.stack([calibrate(part) for calibrate, part in zip(self._calibrators, raw, strict=True)])

    def score(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """Score in [0, 1), (rows,)."""
        if not len(matrix):
            return np.empty(0, np.float32)
        return probability(self.levels(matrix).mean(axis=0))

    def contributions(self, matrix: Matrix) -> Floats:
        """The mean -log10 p shared out over the features, (rows, features)."""
        total: Floats = np.zeros(matrix.shape, np.float64)
        parts = self._parts.contributions(matrix)
        for level, part in zip(self.levels(matrix), parts, strict=True):
            towards = np.maximum(part, 0)
            weight = towards.sum(axis=1, keepdims=True)
            total += towards / np.where(weight > 0, weight, 1) * level[:, None]
        return total / len(parts)

    def importance(self) -> Floats:
        """Mean share of each feature in the contributions to the sampled training rows, (features,)."""
        shares = self.contributions(
            (self._parts.points[:: max(1, len(self._parts.points) // 100)] * self._parts.scale).astype(np.float32)
        ).sum(axis=0)
        found: Floats = shares / shares.sum() if shares.sum() > 0 else shares
        return found

    def files(self) -> dict[str, bytes]:
        arrays = {"points": self._parts.points, "scale": self._parts.scale}
        for number, calibrator in enumerate(self._calibrators):
            arrays[f"scores{number}"] = calibrator.scores
            arrays[f"levels{number}"] = calibrator.levels
            arrays[f"slope{number}"] = np.array(calibrator.slope)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return {
            "isolation.ubj": self._parts.isolation.raw,
            "histogram.ubj": self._parts.histogram.raw,
            "arrays.npz": buffer.getvalue(),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], *, threads: int, width: int) -> Ensemble:
        """The ensemble of a bundle's verified files; a wrong shape is a ValueError."""
        with np.load(io.BytesIO(files["arrays.npz"]), allow_pickle=False) as arrays:
            points, scale = arrays["points"], arrays["scale"]
            calibrators = tuple(
                Calibrator(arrays[f"scores{n}"], arrays[f"levels{n}"], float(arrays[f"slope{n}"])) for n in range(3)
            )
        if points.ndim != 2 or points.shape[1] != width or scale.shape != (width,):
            raise ValueError(f"arrays of shape {points.shape} for {width} features")
        parts = Parts(
            Trees(files["isolation.ubj"], threads=threads),
            Trees(files["histogram.ubj"], threads=threads),
            points,
            scale,
            cKDTree(points),
        )
        return cls(parts, calibrators)


def fit_ensemble(
    matrix: Matrix, count: Floats, scale: Floats, *, seed: int, folds: int
) -> tuple[Ensemble, npt.NDArray[np.int64], Floats, Floats]:
    """Train on distinct rows that stand for `count` records each, and calibrate on records held out.

    The records of a row fall into different folds, as they would into past and future: a row seen again and again is
    scored as known, a rare one as new. Also returns those held-out scores: row number, mean -log10 p, records.
    """
    split = np.random.default_rng(seed).multinomial(count.astype(np.int64), [1 / folds] * folds)
    place, weight, raw = [], [], []
    for number in range(folds):
        out = np.flatnonzero(split[:, number])
        left = split[:, number] < count
        parts = fit_parts(matrix[left], scale, seed=seed + number + 1)
        place.append(out)
        weight.append(split[out, number].astype(np.float64))
        raw.append(parts.raw(matrix[out]))
    weights = np.concatenate(weight)
    held = [np.concatenate(part) for part in zip(*raw, strict=True)]
    calibrators = tuple(fit_calibrator(part, weights) for part in held)
    levels = np.stack([calibrate(part) for calibrate, part in zip(calibrators, held, strict=True)]).mean(axis=0)
    return Ensemble(fit_parts(matrix, scale, seed=seed), calibrators), np.concatenate(place), levels, weights
