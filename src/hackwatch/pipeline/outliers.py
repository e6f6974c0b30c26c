"""A detector over an aggregate: final values that stand out against the key's own history."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from hackwatch.pipeline.aggregates import Closed
from hackwatch.streams.declarations import Outliers

__all__ = ["HISTORIES_KEPT", "OutlierOptions", "OutlierWatch"]

#: Keys with a history; beyond, those without an interval for the longest time are forgotten, since keys come from
#: messages, and whoever sends them could make up ever-new ones.
HISTORIES_KEPT = 20_000

Keys = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class OutlierOptions:
    """When a value stands out.

    It is at least `minimum` and more than `deviations` robust standard deviations above the median of the key's last
    `history` values, of which at least `warmup` are needed.
    """

    history: int = 30
    warmup: int = 5
    minimum: float = 5
    deviations: float = 6.0


class OutlierWatch:
    """The histories of all keys of one aggregate."""

    def __init__(self, outliers: Outliers, options: OutlierOptions | None = None) -> None:
        self.outliers, self.options = outliers, options or OutlierOptions()
        self._history: dict[Keys, deque[float]] = {}

    def __len__(self) -> int:
        """How many keys have a history."""
        return len(self._history)

    def look(self, closed: Sequence[Closed]) -> list[tuple[Closed, float]]:
        """The intervals that stand out, each with the usual value; all of them are history from now on.

        Neither intervals without a value nor those of the keys beyond the limit are judged: these are nobody's.
        """
        found = []
        for interval in closed:
            value = interval.values[self.outliers.measure]
            if value is None or (interval.keys and all(key is None for key in interval.keys)):
                continue
            history = self._history.pop(interval.keys, None)
            if history is None:
                history = deque(maxlen=self.options.history)
            self._history[interval.keys] = history
            usual = self._usual(value, history)
            if usual is not None:
                found.append((interval, usual))
            history.append(value)
        self._forget()
        return found

    def _usual(self, value: float, history: deque[float]) -> float | None:
        """The usual value if this one stands out, else None (robust deviations, Poisson noise as their floor)."""
        options = self.options
        if len(history) < options.warmup or value < options.minimum:
            return None
        usual = float(median(history))
        spread = 1.4826 * float(median(abs(each - usual) for each in history))
        deviation = max(spread, max(usual, 0.0) ** 0.5, 1.0)
        return usual if value > usual + options.deviations * deviation else None

    def _forget(self) -> None:
        while len(self._history) > HISTORIES_KEPT:
            del self._history[next(iter(self._history))]

    def snapshot(self) -> list[tuple[list[Any], list[float]]]:
        """The histories, (keys, values) of each, as JSON can hold them; those without an interval for longest first."""
        return [(list(keys), list(values)) for keys, values in self._history.items()]

    def restore(self, snapshot: Sequence[Sequence[Sequence[Any]]]) -> None:
        self._history = {tuple(keys): deque(values, maxlen=self.options.history) for keys, values in snapshot}
        self._forget()
