"""First-then-count: one alert per entity, rule and interval of event time; later occurrences only count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hackwatch.alerts.alert import AlertUpdate, alert_id

__all__ = ["SUBJECTS_KEPT", "Occurrences", "Suppressor"]

SUBJECTS_KEPT = 10
#: Alerts of late records that are remembered.
LATE_KEPT = 10_000
#: Later than any interval.
_NONE = 2**62


@dataclass(frozen=True, slots=True)
class Occurrences:
    """Occurrences of one rule on one entity within one suppression interval.

    `interval` = event time // suppression length. `times`: event times in microseconds, in no order.
    `at_least` of them within `within` microseconds are needed before the alert is raised. `late`: those of late
    records, which raise an alert that is not there yet and are not counted.
    """

    stream: str
    entity: str
    rule: str
    interval: int
    times: Sequence[int]
    subjects: Sequence[str]
    at_least: int = 1
    within: int = 0
    late: bool = False


@dataclass(slots=True)
class _Tally:
    count: int = 0
    first: int = _NONE
    last: int = 0
    subjects: list[str] = field(default_factory=list)
    raised: bool = False


_Key = tuple[str, str, str, int]


class Suppressor:
    """Counts occurrences per (stream, entity, rule, interval).

    Intervals are aligned to the Unix epoch rather than to the first occurrence: which alerts exist, their ids,
    counts and last times then do not depend on the order in which partitions were read.
    """

    def __init__(self, suppress_seconds: int, site: str = "local") -> None:
        self.length, self.site = suppress_seconds * 1_000_000, site
        self._tallies: dict[_Key, _Tally] = {}
        self._recent: dict[tuple[str, str, str], list[int]] = {}
        self._changed: set[_Key] = set()
        #: Alerts of late records alone: raised once more nothing would change, for their ids are known.
        self._late: dict[_Key, None] = {}

    def __len__(self) -> int:
        return len(self._tallies) + sum(map(len, self._recent.values()))

    def add(self, seen: Occurrences) -> list[int]:
        """Count; the intervals for which an alert is to be raised now."""
        key = (seen.stream, seen.entity, seen.rule, seen.interval)
        if seen.late:
            return self._too_late(key, seen)
        tally = self._tallies.setdefault(key, _Tally())
        tally.count += len(seen.times)
        tally.first = min(tally.first, *seen.times)
        tally.last = max(tally.last, *seen.times)
        tally.subjects = sorted({*tally.subjects, *seen.subjects})[:SUBJECTS_KEPT]
        if tally.raised:
            self._changed.add(key)
        intervals = [seen.interval] if seen.at_least <= 1 else self._stormy(seen)
        return [interval for interval in intervals if self._raise((*key[:3], interval))]

    def _too_late(self, key: _Key, seen: Occurrences) -> list[int]:
        """Late occurrences raise the alert if there is none; what has become of its tally is a matter of the cut."""
        if seen.at_least > 1 or key in self._tallies or key in self._late:
            return []
        self._late[key] = None
        while len(self._late) > LATE_KEPT:
            del self._late[next(iter(self._late))]
        return [seen.interval]

    def _raise(self, key: _Key) -> bool:
        tally = self._tallies.get(key)
        if tally is None or tally.raised:
            return False
        tally.raised = True
        self._changed.add(key)
        return True

    def _stormy(self, seen: Occurrences) -> list[int]:
        """The intervals that hold an occurrence with enough others within reach before it."""
        recent = self._recent.setdefault((seen.stream, seen.entity, seen.rule), [])
        recent.extend(seen.times)
        recent.sort()
        if len(recent) < seen.at_least:
            return []
        times = np.asarray(recent, dtype=np.int64)
        last = times[seen.at_least - 1 :]
        close = last - times[: len(last)] <= seen.within
        return [int(interval) for interval in np.unique(last[close] // self.length)]

    def counted(self, stream: str, entity: str, rule: str, interval: int) -> int:
        return self._tallies[(stream, entity, rule, interval)].count

    def take_updates(self) -> list[AlertUpdate]:
        """Absolute values of every raised alert that changed since the last call."""
        changed = [(key, tally) for key in sorted(self._changed) if (tally := self._tallies.get(key)) is not None]
        updates = [
            AlertUpdate(
                self.id(*key),
                tally.count,
                None if tally.first == _NONE else tally.first / 1e6,
                tally.last / 1e6,
                tuple(tally.subjects),
            )
            for key, tally in changed
        ]
        self._changed = set()
        return updates

    def id(self, stream: str, entity: str, rule: str, interval: int) -> str:
        return alert_id(stream, entity, rule, interval, self.site)

    def evict(self, mark: Callable[[str, str], int], reach: int) -> None:
        """Forget intervals that ended `reach` (microseconds) before the watermark, and occurrences that old.

        `mark`: the watermark that decides for (stream, entity), microseconds.
        """
        for tally in [k for k in self._tallies if k not in self._changed and self._over(k, mark, reach)]:
            del self._tallies[tally]
        for key, times in list(self._recent.items()):
            watermark = mark(key[0], key[1])
            if times[0] + reach > watermark:  # they are in order
                continue
            kept = [time for time in times if time + reach > watermark]
            if kept:
                self._recent[key] = kept
            else:
                del self._recent[key]

    def _over(self, key: _Key, mark: Callable[[str, str], int], reach: int) -> bool:
        return (key[3] + 1) * self.length + reach <= mark(key[0], key[1])

    def snapshot(self) -> dict[str, Any]:
        """Taken at the end of an epoch, after `take_updates`."""
        return {
            "tallies": [[*k, t.count, t.last, t.subjects, t.raised, t.first] for k, t in self._tallies.items()],
            "recent": [[*k, times] for k, times in self._recent.items()],
            "late": [list(key) for key in self._late],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        self._tallies = {}
        for stream, entity, rule, interval, count, last, subjects, raised, *first in snapshot["tallies"]:
            # A version that did not keep the first time had told it with the alert.
            began = first[0] if first else _NONE
            self._tallies[(stream, entity, rule, interval)] = _Tally(count, began, last, subjects, raised)
        self._recent = {(stream, entity, rule): times for stream, entity, rule, times in snapshot["recent"]}
        self._late = {(key[0], key[1], key[2], key[3]): None for key in snapshot.get("late", ())}
