"""A detector over an aggregate: final values that stand out against the key's own history."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Any

from hackwatch.alerts.observed import Outlier
from hackwatch.config import AlertSettings
from hackwatch.pipeline.aggregates import Closed
from hackwatch.streams.declarations import Outliers

__all__ = ["HISTORIES_KEPT", "OutlierWatch"]

#: Keys with a history; beyond, those without an interval for the longest time are forgotten, since keys come from
#: messages, and whoever sends them could make up ever-new ones.
HISTORIES_KEPT = 20_000

Keys = tuple[Any, ...]


class OutlierWatch:
    """The histories of all keys of one aggregate.

    A value stands out that is at least `window_minimum` and more than `window_deviations` robust standard deviations
    above the median of the key's last `window_history` values, of which at least `window_warmup` are needed.
    """

    def __init__(self, declared: Outliers, options: AlertSettings) -> None:
        self.declared, self.options = declared, options
        self._history: dict[Keys, deque[float]] = {}

    def __len__(self) -> int:
        """How many keys have a history."""
        return len(self._history)

    def look(self, closed: Sequence[Closed]) -> list[Outlier]:
        """The intervals that stand out; all of them are history from now on.

        Neither intervals without a value nor those of the keys beyond the limit are judged: these are nobody's.
        """
        found = []
        for interval in closed:
            value = interval.values[self.declared.measure]
            if value is None or (interval.keys and all(key is None for key in interval.keys)):
                continue
            history = self._history.pop(interval.keys, None)
            if history is None:
                history = deque(maxlen=self.options.window_history)
            self._history[interval.keys] = history
            usual = self._usual(value, history)
            if usual is not None:
                found.append(self._outlier(interval, usual))
            history.append(value)
        self._forget()
        return found

    def _outlier(self, closed: Closed, usual: float) -> Outlier:
        entity = next(iter(closed.keys), None)
        shown = "-" if entity is None else str(entity)
        return Outlier(self.declared, shown, closed.start, closed.end, closed.values, usual)

    def _usual(self, value: float, history: deque[float]) -> float | None:
        """The usual value if this one stands out, else None (robust deviations, Poisson noise as their floor)."""
        options = self.options
        if len(history) < options.window_warmup or value < options.window_minimum:
            return None
        usual = float(median(history))
        spread = 1.4826 * float(median(abs(each - usual) for each in history))
        deviation = max(spread, max(usual, 0.0) ** 0.5, 1.0)
        return usual if value > usual + options.window_deviations * deviation else None

    def _forget(self) -> None:
        while len(self._history) > HISTORIES_KEPT:
            del self._history[next(iter(self._history))]

    def snapshot(self) -> list[tuple[list[Any], list[float]]]:
        """The histories, (keys, values) of each, as JSON can hold them; those without an interval for longest first."""
        return [(list(keys), list(values)) for keys, values in self._history.items()]

    def restore(self, snapshot: Sequence[Sequence[Sequence[Any]]]) -> None:
        self._history = {tuple(keys): deque(values, maxlen=self.options.window_history) for keys, values in snapshot}
        self._forget()
