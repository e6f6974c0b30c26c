"""First-then-count: one alert per entity, rule and interval of event time; later occurrences only count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hackwatch.pipeline.alert import AlertUpdate, alert_id

__all__ = ["SUBJECTS_KEPT", "Occurrences", "Suppressor"]

SUBJECTS_KEPT = 10
#: Later than any interval.
_NONE = 2**62


@dataclass(frozen=True, slots=True)
class Occurrences:
    """Occurrences of one rule on one entity within one suppression interval.

    `interval` = event time // suppression length. `times`: event times in microseconds, in no order.
    `at_least` of them within `within` microseconds are needed before the alert is raised.
    """

    stream: str
    entity: str
    rule: str
    interval: int
    times: Sequence[int]
    subjects: Sequence[str]
    at_least: int = 1
    within: int = 0


@dataclass(slots=True)
class _Tally:
    count: int = 0
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
        self._oldest = _NONE

    def __len__(self) -> int:
        return len(self._tallies) + sum(map(len, self._recent.values()))

    def add(self, seen: Occurrences) -> list[int]:
        """Count; the intervals for which an alert is to be raised now."""
        key = (seen.stream, seen.entity, seen.rule, seen.interval)
        tally = self._tallies.setdefault(key, _Tally())
        self._oldest = min(self._oldest, seen.interval)
        tally.count += len(seen.times)
        tally.last = max(tally.last, *seen.times)
        tally.subjects = sorted({*tally.subjects, *seen.subjects})[:SUBJECTS_KEPT]
        if tally.raised:
            self._changed.add(key)
        intervals = [seen.interval] if seen.at_least <= 1 else self._stormy(seen)
        return [interval for interval in intervals if self._raise((*key[:3], interval))]

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

    def count(self, stream: str, entity: str, rule: str, interval: int) -> int:
        return self._tallies[(stream, entity, rule, interval)].count

    def take_updates(self) -> list[AlertUpdate]:
        """Absolute values of every raised alert that changed since the last call."""
        updates = [
            AlertUpdate(self.id(*key), tally.count, tally.last / 1e6, tuple(tally.subjects))
            for key in sorted(self._changed)
            if (tally := self._tallies.get(key)) is not None
        ]
        self._changed = set()
        return updates

    def id(self, stream: str, entity: str, rule: str, interval: int) -> str:
        return alert_id(stream, entity, rule, interval, self.site)

    def evict(self, watermark: int, reach: int) -> None:
        """Forget intervals that ended `reach` before the watermark (microseconds), and occurrences that old."""
        first = (watermark - reach) // self.length
        if self._oldest < first:
            for key in [k for k in self._tallies if k[3] < first and k not in self._changed]:
                del self._tallies[key]
            self._oldest = min((key[3] for key in self._tallies), default=_NONE)
        for storm, times in list(self._recent.items()):
            if times[0] + reach > watermark:  # they are in order
                continue
            kept = [time for time in times if time + reach > watermark]
            if kept:
                self._recent[storm] = kept
            else:
                del self._recent[storm]

    def snapshot(self) -> dict[str, Any]:
        """Taken at the end of an epoch, after `take_updates`."""
        return {
            "tallies": [[*k, t.count, t.last, t.subjects, t.raised] for k, t in self._tallies.items()],
            "recent": [[*k, times] for k, times in self._recent.items()],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        self._tallies = {
            (stream, entity, rule, interval): _Tally(count, last, subjects, raised)
            for stream, entity, rule, interval, count, last, subjects, raised in snapshot["tallies"]
        }
        self._oldest = min((key[3] for key in self._tallies), default=_NONE)
        self._recent = {(stream, entity, rule): times for stream, entity, rule, times in snapshot["recent"]}
