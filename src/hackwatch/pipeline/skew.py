"""Sources whose clocks are wrong: measured against the other sources of their partition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.alerts.observed import Skew
from hackwatch.pipeline.arrivals import Arrival

__all__ = ["SKEW_SECONDS", "SkewWatch"]

#: A clock is skewed that differs by more than this from the median of the others (and from the wall clock).
SKEW_SECONDS = 60.0
#: For so long (engine time) it must stay so: who sends what waited during an outage is behind for a moment only.
CONFIRM_SECONDS = 2.0
#: Small batches are looked at so often (engine time).
LOOK_SECONDS = 0.25
#: Other sources without which nobody can say whose clock is wrong.
LEAST_OTHERS = 3
#: How far back in its partition a record is compared with what others sent.
NEAR_ROWS = 5_000
#: Sources that are watched at a time, and that are named in an hour: names cost whoever invents them nothing.
MOST_WATCHED, MOST_NAMED, HOUR = 1_000, 50, 3_600

Times = npt.NDArray[np.int64]


class SkewWatch:
    """Names each source once whose clock differs from the median of its partition's other sources.

    Compared is the clock of a source with what the others sent shortly before its last record in the same partition, so
    that recordings in which a source ends early raise nothing; and a source that agrees with the wall clock is right,
    whatever the others say.
    """

    def __init__(self) -> None:
        self._watched: dict[str, tuple[float, float]] = {}
        self._named: dict[str, float] = {}
        self._hour, self._in_hour = 0, 0
        self._looked = float("-inf")

    def due_to_look(self, elapsed: float) -> bool:
        """Whether a small batch is to be looked at: they come often, and a clock is wrong for long."""
        return elapsed - self._looked >= LOOK_SECONDS

    def look(
        self, rows: pl.DataFrame, seen: Sequence[Arrival], clocks: Callable[[int], Times], elapsed: float, wall: float
    ) -> None:
        """Take a batch (partition, source, time). `clocks`: newest times in a partition before, of active sources."""
        _compare(rows, seen, clocks, wall)
        self.take(seen, elapsed)

    def take(self, seen: Sequence[Arrival], elapsed: float) -> None:
        """Take what has been compared."""
        self._looked = elapsed
        for one in seen:
            if one.skew:
                self._watch(one.source, one.skew, elapsed)
            elif one.skew is not None and one.source in self._watched:
                del self._watched[one.source]

    def _watch(self, source: str, seconds: float, elapsed: float) -> None:
        if source in self._watched:
            self._watched[source] = (self._watched[source][0], seconds)
        elif source not in self._named and len(self._watched) < MOST_WATCHED:
            self._watched[source] = (elapsed, seconds)

    def due(self, elapsed: float, wall: float) -> list[Skew]:
        """The sources to be named now."""
        if not self._watched:
            return []
        if int(wall // HOUR) != self._hour:
            self._hour, self._in_hour = int(wall // HOUR), 0
        ready = [name for name, (since, _) in self._watched.items() if elapsed - since >= CONFIRM_SECONDS]
        found = [Skew(name, self._watched.pop(name)[1]) for name in ready[: max(0, MOST_NAMED - self._in_hour)]]
        self._in_hour += len(found)
        for skew in found:
            self._named[skew.source] = skew.seconds
        while len(self._named) > MOST_WATCHED:
            del self._named[next(iter(self._named))]
        return found

    @property
    def waits(self) -> bool:
        """Whether time alone will name someone."""
        return bool(self._watched) and self._in_hour < MOST_NAMED

    def named(self) -> dict[str, float]:
        """The sources named so far, with their differences in seconds."""
        return dict(self._named)

    def snapshot(self) -> dict[str, Any]:
        return {
            "watched": [[name, *values] for name, values in self._watched.items()],
            "named": self._named,
            "hour": [self._hour, self._in_hour, max(self._looked, -1e9)],
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        self._watched = {name: (since, seconds) for name, since, seconds in snapshot["watched"]}
        self._named = dict(snapshot["named"])
        self._hour, self._in_hour, self._looked = snapshot["hour"]


def _compare(rows: pl.DataFrame, seen: Sequence[Arrival], clocks: Callable[[int], Times], wall: float) -> None:
    """Set by how much each source differs from the others of its partition."""
    for partition in {one.partition for one in seen}:
        mine = [one for one in seen if one.partition == partition]
        last = np.array([one.clock for one in mine], np.int64)
        known = clocks(partition)
        if len(known) + len(mine) <= LEAST_OTHERS:
            continue
        away = np.abs(last - np.median(np.concatenate([known, last]))) > SKEW_SECONDS * 1e6
        away &= np.abs(last - wall * 1e6) > SKEW_SECONDS * 1e6
        for one, suspicious in zip(mine, away.tolist(), strict=True):
            one.skew = (_difference(rows, one, known) if suspicious else None) or 0.0


def _difference(rows: pl.DataFrame, one: Arrival, known: Times) -> float | None:
    """By how many seconds a source's clock differs from the others' before its last record; None if it does not."""
    near = rows.slice(max(0, one.row - NEAR_ROWS), min(one.row, NEAR_ROWS) + 1)
    others = near.filter((pl.col("partition") == one.partition) & (pl.col("source") != one.source))
    latest = others.group_by("source").agg(pl.col("time").max())["time"].to_numpy()
    if len(latest) < LEAST_OTHERS:
        latest = np.concatenate([latest, known])
    if len(latest) < LEAST_OTHERS:
        return None
    seconds = float(one.clock - np.median(latest)) / 1e6
    return seconds if abs(seconds) > SKEW_SECONDS else None
