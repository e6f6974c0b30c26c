"""Scores of any number of rows, counted in narrow bins: all that a threshold and the measures need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from hackwatch.detect.calibration import Floats, threshold_of
from hackwatch.detect.models.booster import Trees

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["Bins", "merged", "scored_bins"]

#: Lowest bits of a float32 score that do not tell bins apart: a bin is 1/16,384 of its score wide.
_BITS = 9


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """Bins that hold rows, by increasing score: the greatest `score` in each, distinct `normal` and `attack` rows, and
    the `records` that the normal ones stand for."""

    score: npt.NDArray[np.float32]
    normal: Floats
    attacks: Floats
    records: Floats

    def threshold(self, budget: float) -> float:
        """The score that a share `budget` of normal records may reach."""
        some = self.records > 0
        return threshold_of(self.score[some], self.records[some], budget)

    def false_alarm_rate(self, threshold: float) -> float:
        """Share of normal records from the threshold on."""
        return float(self.records[self.score >= threshold].sum() / max(self.records.sum(), 1))

    def recall(self, threshold: float) -> float:
        """Share of attack rows from the threshold on."""
        return float(self.attacks[self.score >= threshold].sum() / max(self.attacks.sum(), 1))

    def _curve(self) -> tuple[Floats, Floats]:
        false = np.cumsum(self.normal[::-1]) / max(self.normal.sum(), 1)
        true = np.cumsum(self.attacks[::-1]) / max(self.attacks.sum(), 1)
        return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])

    def roc_auc(self) -> float:
        """Area under the ROC curve over distinct rows; NaN if one class is absent."""
        if not self.normal.any() or not self.attacks.any():
            return float("nan")
        false, true = self._curve()
        return float(np.trapezoid(true, false))

    def recall_at(self, false_rate: float) -> float:
        """Greatest recall at a false positive rate of at most `false_rate`; NaN if one class is absent."""
        if not self.normal.any() or not self.attacks.any():
            return float("nan")
        false, true = self._curve()
        return float(true[false <= false_rate].max())


def merged(parts: Sequence[Bins]) -> Bins:
    """Bins of several parts as one."""
    score = np.concatenate([part.score for part in parts])
    keys, place = np.unique(score.view(np.uint32) >> _BITS, return_inverse=True)
    greatest = np.zeros(len(keys), np.float32)
    np.maximum.at(greatest, place, score)
    sums = [
        np.bincount(place, np.concatenate([getattr(part, name) for part in parts]), len(keys)).astype(np.float64)
        for name in ("normal", "attacks", "records")
    ]
    return Bins(greatest, *sums)


def scored_bins(rows: DataFrame, raw: bytes, width: int) -> Bins:
    """Score encoded rows with a model on the workers, and count them."""
    counted = rows.mapInArrow(
        partial(_score, raw, width), "score float, normal double, attacks double, records double"
    ).toArrow()
    return merged([_of(counted)])


def _of(table: pa.Table) -> Bins:
    columns = [table[name].to_numpy() for name in ("score", "normal", "attacks", "records")]
    return Bins(np.asarray(columns[0], np.float32), *columns[1:])


def _score(raw: bytes, width: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    trees, found = Trees(raw), None
    for batch in batches:
        matrix = np.column_stack([batch.column(f"x{place}").to_numpy(zero_copy_only=False) for place in range(width)])
        label = batch.column("_label").to_numpy(zero_copy_only=False).astype(np.float64)
        count = batch.column("_count").to_numpy(zero_copy_only=False)
        score = np.clip(trees.predict(np.ascontiguousarray(matrix, np.float32)), 0, 1).astype(np.float32)
        part = merged([Bins(score, 1 - label, label, count * (1 - label))])
        found = part if found is None else merged([found, part])
    if found is not None:
        names = ("score", "normal", "attacks", "records")
        yield pa.record_batch({name: pa.array(getattr(found, name)) for name in names})
