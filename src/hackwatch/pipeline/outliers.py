"""Final intervals of an aggregate that stand out against the history of their key."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Any

from hackwatch.pipeline.aggregates import Closed
from hackwatch.streams.declarations import Outliers

__all__ = ["OutlierWatch"]

HISTORIES_KEPT = 20_000


class OutlierWatch:
    def __init__(self, outliers: Outliers, *, history: int, warmup: int, minimum: float, deviations: float) -> None:
        self.outliers = outliers
        self._length, self._warmup, self._minimum, self._deviations = history, warmup, minimum, deviations
        self._history: dict[tuple[Any, ...], deque[float]] = {}

    def look(self, closed: Sequence[Closed]) -> list[tuple[Closed, float]]:
        found = []
        for one in closed:
            history = self._history.pop(one.keys, None) or deque(maxlen=self._length)
            self._history[one.keys] = history
            value = one.values[self.outliers.measure]
            usual = self._anomalous(value, history)
            if usual is not None:
                found.append((one, usual))
            history.append(value)
        while len(self._history) > HISTORIES_KEPT:
            del self._history[next(iter(self._history))]
        return found

    def _anomalous(self, value: float, history: deque[float]) -> float | None:
        if len(history) < self._warmup or value < self._minimum:
            return None
        usual = float(median(history))
        spread = 1.4826 * float(median(abs(one - usual) for one in history))
        deviation = max(spread, usual**0.5, 1.0)
        return usual if value > usual + self._deviations * deviation else None

    def snapshot(self) -> list[list[Any]]:
        return [[list(keys), list(values)] for keys, values in self._history.items()]

    def restore(self, snapshot: Sequence[Any]) -> None:
        self._history = {tuple(keys): deque(values, maxlen=self._length) for keys, values in snapshot}
