"""Trees that were trained elsewhere: scored by XGBoost, decided as their own library decides."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hackwatch.detect.calibration import Floats
from hackwatch.detect.features import Matrix
from hackwatch.detect.models.booster import Trees

__all__ = ["Decision", "Imported", "Leaves"]

Family = Literal["votes", "margin"]


@dataclass(frozen=True, slots=True)
class Decision:
    """How the trees' values become a probability and a prediction.

    `votes`: each leaf votes for both classes, probability = votes for 1 / all votes. `margin`: leaves are summed,
    probability = 1 / (1 + exp(-2 margin)). The class with more votes is predicted, 1 if the margin is above 0; with
    `thresholds` per class the one with the greatest probability / threshold. Of equals it is class 0.
    """

    family: Family
    thresholds: tuple[float, float] | None = None

    @property
    def share(self) -> float:
        """The probability that must be exceeded."""
        return 0.5 if self.thresholds is None else self.thresholds[1] / sum(self.thresholds)

    @property
    def limit(self) -> float:
        """What the sum over the trees must exceed: a share of votes, or a margin."""
        if self.family == "votes":
            return self.share
        with np.errstate(divide="ignore"):
            return float(0.5 * (np.log(self.share) - np.log1p(-self.share)))

    @property
    def threshold(self) -> np.float32:
        """The least score of a suspect: one step above `share`, for equals are not suspects."""
        return min(np.nextafter(np.float32(self.share), np.float32(2)), np.float32(1))

    def exactly(self, values: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Probability and prediction from the leaves' values, (rows, trees, 2) votes or (rows, trees, 1) margins."""
        # Tree after tree, as their library adds them up: the order decides the last bit, and that bit may decide.
        total = np.zeros((len(values), values.shape[2]))
        for tree in range(values.shape[1]):
            total += values[:, tree]
        if self.family == "margin":
            none = 1 / (1 + np.exp(2 * total[:, 0]))
            shares = np.column_stack([none, 1 - none])
            plain = total[:, 0] > 0
        else:
            shares = total / total.sum(axis=1, keepdims=True)
            plain = total[:, 1] > total[:, 0]
        if self.thresholds is None:
            return shares[:, 1], plain
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = shares / np.asarray(self.thresholds)
        # A threshold of 0 makes its class win, but for a probability of 0 (0/0): then the other class does.
        return shares[:, 1], (scaled[:, 1] > scaled[:, 0]) | (np.isnan(scaled[:, 0]) & ~np.isnan(scaled[:, 1]))


@dataclass(frozen=True, slots=True, eq=False)
class Leaves:
    """Float64 values of all nodes of all trees, (nodes, 2) votes or (nodes, 1) margins; tree i begins at `start[i]`."""

    values: Floats
    start: npt.NDArray[np.int64]

    def of(self, nodes: npt.NDArray[np.int64]) -> Floats:
        """The values at the nodes where rows ended, (rows, trees) -> (rows, trees, 1 or 2)."""
        found: Floats = self.values[nodes + self.start]
        return found


class Imported:
    """A foreign ensemble whose predictions are the ones of its own library, row by row.

    XGBoost sums float32 leaves. Rows whose sum is closer to the limit than its rounding could matter are added up again
    from float64 leaves. The score is moved by at most the step that puts it on the predicted side of the threshold.
    `refused`: for each feature a table over its codes, True where the library would refuse the record or leave it out:
    such a record scores 0.
    """

    def __init__(self, trees: Trees, leaves: Leaves, decision: Decision, refused: tuple[npt.NDArray[np.bool_], ...]):
        self._trees, self._leaves, self._decision, self._refused = trees, leaves, decision, refused
        greatest = np.maximum.reduceat(np.abs(leaves.values).max(axis=1), leaves.start).sum()
        if decision.family == "votes":
            greatest = 1.0
        self._band = float((len(leaves.start) + 4) * np.finfo(np.float32).eps * max(1.0, greatest))

    def score(self, matrix: Matrix) -> npt.NDArray[np.float32]:
        """Probability of class 1, (rows,)."""
        raw = self._trees.predict(matrix)
        suspect = raw > self._decision.limit
        probability = self._probability(raw)
        close = np.flatnonzero(~(np.abs(raw - self._decision.limit) > self._band) | np.isinf(self._decision.limit))
        if len(close):
            exact = self._decision.exactly(self._leaves.of(self._trees.leaves(matrix[close])))
            probability[close], suspect[close] = exact[0].astype(np.float32), exact[1]
        least = self._decision.threshold
        below = np.nextafter(least, np.float32(0))
        score = np.where(suspect, np.maximum(probability, least), np.minimum(probability, below))
        score[self._out(matrix)] = 0
        return score.astype(np.float32, copy=False)

    def _probability(self, raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self._decision.family == "votes":
            return np.clip(raw, 0, 1)
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-2 * raw)), np.float32)

    def _out(self, matrix: Matrix) -> npt.NDArray[np.bool_]:
        out = np.zeros(len(matrix), np.bool_)
        for feature, table in enumerate(self._refused):
            if table.any():
                out |= table[matrix[:, feature].astype(np.int64)]
        return out

    def contributions(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """TreeSHAP towards class 1, (rows, features): in shares of the votes, or units of the margin."""
        return self._trees.contributions(matrix)[:, :-1].astype(np.float64)

    def importance(self) -> npt.NDArray[np.float64]:
        """Share of the total gain, (features,)."""
        return self._trees.importance(len(self._refused))

    def files(self) -> dict[str, bytes]:
        buffer = io.BytesIO()
        np.savez(
            buffer,
            values=self._leaves.values,
            start=self._leaves.start.astype(np.float64),
            refused=np.concatenate([table.astype(np.float64) for table in self._refused]),
            codes=np.array([len(table) for table in self._refused], np.float64),
        )
        decision = {"family": self._decision.family, "thresholds": self._decision.thresholds}
        return {
            "model.ubj": self._trees.raw,
            "leaves.npz": buffer.getvalue(),
            "decision.json": json.dumps(decision).encode(),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], *, threads: int) -> Imported:
        """The model of a bundle from its verified files."""
        decision = json.loads(files["decision.json"])
        pair = decision["thresholds"]
        thresholds = None if pair is None else (float(pair[0]), float(pair[1]))
        with np.load(io.BytesIO(files["leaves.npz"]), allow_pickle=False) as arrays:
            leaves = Leaves(arrays["values"], arrays["start"].astype(np.int64))
            ends = np.cumsum(arrays["codes"].astype(np.int64))
            refused = tuple(np.split(arrays["refused"].astype(np.bool_), ends[:-1]))
        trees = Trees(files["model.ubj"], threads=threads)
        return cls(trees, leaves, Decision(decision["family"], thresholds), refused)
