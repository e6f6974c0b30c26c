"""First-then-count: one alert per entity, rule and interval of event time; later occurrences only count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hackwatch.alerts.alert import AlertUpdate, alert_id
from hackwatch.alerts.occurrences import SUBJECTS_KEPT, Key, Occurrences, Threshold

__all__ = ["Suppressor"]

#: Alerts of late records that are remembered.
LATE_KEPT = 10_000
#: Later than any interval.
_NONE = 2**62


@dataclass(slots=True)
class _Tally:
    count: int = 0
    first: int = _NONE
    last: int = 0
    subjects: list[str] = field(default_factory=list)
    raised: bool = False

    @classmethod
    def of(cls, count: int, last: int, subjects: list[str], raised: bool, first: int = _NONE) -> _Tally:
        """As a snapshot has it: a version that did not keep the first time had told it with the alert."""
        return cls(count, first, last, subjects, raised)


class Suppressor:
    """Counts occurrences per key.

    Intervals are aligned to the Unix epoch rather than to the first occurrence: which alerts exist, their ids,
    counts and last times then do not depend on the order in which partitions were read.
    """

    def __init__(self, suppress_seconds: int, site: str = "local") -> None:
        self.length, self.site = suppress_seconds * 1_000_000, site
        self._tallies: dict[Key, _Tally] = {}
        self._recent: dict[tuple[str, str, str], list[int]] = {}
        self._changed: set[Key] = set()
        #: Alerts of late records alone: raised once more nothing would change, for their ids are known.
        self._late: dict[Key, None] = {}

    def __len__(self) -> int:
        return len(self._tallies) + sum(map(len, self._recent.values()))

    def add(self, seen: Occurrences, threshold: Threshold) -> list[Key]:
        """Count; the keys of the alerts that are to be raised now."""
        key = seen.key
        if seen.late:
            return self._too_late(key, threshold)
        tally = self._tallies.setdefault(key, _Tally())
        tally.count += len(seen.times)
        tally.first = min(tally.first, *seen.times)
        tally.last = max(tally.last, *seen.times)
        tally.subjects = sorted({*tally.subjects, *seen.subjects})[:SUBJECTS_KEPT]
        if tally.raised:
            self._changed.add(key)
        keys = [key] if threshold.at_least <= 1 else self._stormy(seen, threshold)
        return [one for one in keys if self._raise(one)]

    def _too_late(self, key: Key, threshold: Threshold) -> list[Key]:
        """Late occurrences raise the alert if there is none; what has become of its tally is a matter of the cut."""
        if threshold.at_least > 1 or key in self._tallies or key in self._late:
            return []
        self._late[key] = None
        while len(self._late) > LATE_KEPT:
            del self._late[next(iter(self._late))]
        return [key]

    def _raise(self, key: Key) -> bool:
        tally = self._tallies.get(key)
        if tally is None or tally.raised:
            return False
        tally.raised = True
        self._changed.add(key)
        return True

    def _stormy(self, seen: Occurrences, threshold: Threshold) -> list[Key]:
        """The keys of the intervals that hold an occurrence with enough others within reach before it."""
        recent = self._recent.setdefault(seen.key[:3], [])
        recent.extend(seen.times)
        recent.sort()
        if len(recent) < threshold.at_least:
            return []
        times = np.asarray(recent, dtype=np.int64)
        last = times[threshold.at_least - 1 :]
        close = last - times[: len(last)] <= threshold.within
        return [seen.key._replace(interval=int(number)) for number in np.unique(last[close] // self.length)]

    def take_updates(self) -> list[AlertUpdate]:
        """Absolute values of every raised alert that changed since the last call."""
        changed = [(key, tally) for key in sorted(self._changed) if (tally := self._tallies.get(key)) is not None]
        updates = [
            AlertUpdate(
                alert_id(*key, self.site),
                tally.count,
                None if tally.first == _NONE else tally.first / 1e6,
                tally.last / 1e6,
                tuple(tally.subjects),
            )
            for key, tally in changed
        ]
        self._changed = set()
        return updates

    def evict(self, mark: Callable[[str, str], int], reach: int) -> None:
        """Forget intervals that ended `reach` (microseconds) before the watermark, and occurrences that old.

        `mark`: the watermark that decides for (stream, entity), microseconds.
        """
        for over in [key for key in self._tallies if key not in self._changed and self._over(key, mark, reach)]:
            del self._tallies[over]
        for (stream, entity, rule), times in list(self._recent.items()):
            watermark = mark(stream, entity)
            if times[0] + reach > watermark:  # they are in order
                continue
            kept = [time for time in times if time + reach > watermark]
            if kept:
                self._recent[stream, entity, rule] = kept
            else:
                del self._recent[stream, entity, rule]

    def _over(self, key: Key, mark: Callable[[str, str], int], reach: int) -> bool:
        return (key.interval + 1) * self.length + reach <= mark(key.stream, key.entity)

    def snapshot(self) -> dict[str, Any]:
        """Taken at the end of an epoch, after `take_updates`."""
        return {
            "tallies": [[*k, t.count, t.last, t.subjects, t.raised, t.first] for k, t in self._tallies.items()],
            "recent": [[*k, times] for k, times in self._recent.items()],
            "late": [list(key) for key in self._late],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take up what `snapshot` gave; versions that kept nothing of late records had no `late`."""
        self._tallies = {Key(*row[:4]): _Tally.of(*row[4:]) for row in snapshot["tallies"]}
        self._recent = {(stream, entity, rule): times for stream, entity, rule, times in snapshot["recent"]}
        self._late = {Key(*row): None for row in snapshot.get("late", ())}
