"""What is known of the clocks of a stream's sources, and what others ask of it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.pipeline.clocktable import BEFORE, OTHERS, ClockTable
from hackwatch.pipeline.marks import NEVER, Sweep, Times
from hackwatch.pipeline.skew import SkewWatch

__all__ = ["HOLD_SECONDS", "ClockState", "PartitionState", "Slots"]

#: While a partition is caught up in which a source has not been seen, its watermark stays back by this much.
HOLD_SECONDS = 600.0

Slots = npt.NDArray[np.intp]


@dataclass(slots=True)
class PartitionState:
    """`quiet`: engine seconds during which nothing of it waited unread; a backlog that waits makes nobody idle."""

    newest: int = NEVER
    quiet: float = 0.0
    waiting: bool = True


class ClockState:
    """The clocks of all sources, a row each in `table`, and how long each partition has been silent.

    `SourceClocks` moves them; here is what they say at the time to which they have come. Times are microseconds of
    event time, `elapsed` seconds of engine time.
    """

    def __init__(
        self,
        lateness_seconds: float,
        idle_seconds: float,
        *,
        max_sources: int = 100_000,
        hold_seconds: float = HOLD_SECONDS,
    ) -> None:
        self.lateness = round(lateness_seconds * 1e6)
        self.idle_seconds = idle_seconds
        self.hold = round(hold_seconds * 1e6)
        self.skew = SkewWatch()
        self._partitions: dict[int, PartitionState] = {}
        self._elapsed, self._swept, self._looked = 0.0, float("-inf"), 0.0
        self.table = ClockTable(max_sources)
        self._touched: set[int] = set()
        #: What the last step was, if it has looked at all sources.
        self.sweep: Sweep | None = None

    def __len__(self) -> int:
        return len(self.table)

    # -- times ------------------------------------------------------------------------------------------------------

    def _quiet(self) -> dict[int, float]:
        """The silence of each partition in which nothing waited, in engine seconds."""
        return {number: state.quiet for number, state in self._partitions.items()}

    def _silence(self, slots: Slots) -> npt.NDArray[np.float64]:
        """For how long each clock has stood still, in seconds that count."""
        numbers = np.array(sorted(self._partitions), np.int64)
        quiet = np.array([self._partitions[number].quiet for number in numbers.tolist()], np.float64)
        return quiet[np.searchsorted(numbers, self.table.partition[slots])] - self.table.moved[slots]

    def _watermarks(self, slots: Slots) -> Times:
        """The watermark of each clock now."""
        newest = self.table.newest[slots]
        beyond = np.maximum(self._silence(slots) - self.idle_seconds, 0.0)
        moved = newest - self.lateness + np.rint(beyond * 1e6).astype(np.int64)
        marks: Times = np.maximum(np.where(newest > NEVER, moved, NEVER), self.table.floor[slots])
        return marks

    def _watermark(self, slot: int) -> int:
        """The same of one clock."""
        table = self.table
        newest, floor = int(table.newest[slot]), int(table.floor[slot])
        if newest <= NEVER:
            return floor
        beyond = self._partitions[int(table.partition[slot])].quiet - float(table.moved[slot]) - self.idle_seconds
        return max(newest - self.lateness + (round(beyond * 1e6) if beyond > 0 else 0), floor)

    # -- what others ask ------------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """The engine time of the last step, seconds."""
        return self._elapsed

    @property
    def crowded(self) -> bool:
        """Whether there are more sources than the limit, so that some share a clock."""
        return OTHERS in self.table.ids

    def mark(self, source: str) -> int:
        """The watermark of a source, NEVER for one that has not been seen."""
        number = self.table.ids.get(source)
        if number is None and self.crowded:
            number = self.table.ids[OTHERS]
        return NEVER if number is None else int(self.table.mark[number])

    def knows(self, source: str) -> bool:
        """Whether a source has a clock of its own."""
        return source in self.table.ids

    def slowest(self) -> int:
        """The least watermark of the sources that are not idle, or of all if all are."""
        marks = self._active(self.table.mark[self.table.source])
        return int(marks.min()) if len(marks) else NEVER

    def typical(self, partition: int | None = None) -> int:
        """The median of the clocks (newest event times) that are not idle, of one partition or of all."""
        newest = self._active(self.table.newest, partition)
        return int(np.sort(newest)[(len(newest) - 1) // 2]) if len(newest) else NEVER

    def watermark(self) -> int:
        """The median of the watermarks of sources that are not idle, or of all if all are: how far the stream is."""
        marks = self._active(self.table.mark[self.table.source])
        return int(np.sort(marks)[(len(marks) - 1) // 2]) if len(marks) else NEVER

    def _active(self, values: Times, partition: int | None = None) -> Times:
        """Those values (one a clock) whose clocks are not idle; all, if all are."""
        slots = np.arange(len(self.table))
        if partition is not None:
            slots = np.flatnonzero(self.table.partition == partition)
        moving = slots[self._silence(slots) <= self.idle_seconds]
        return values[moving if len(moving) else slots]

    def _moving(self, partition: int) -> Times:
        """The newest times of the sources of a partition that are not idle."""
        slots = np.flatnonzero((self.table.partition == partition) & (self.table.newest > NEVER))
        return self.table.newest[slots[self._silence(slots) <= self.idle_seconds]]

    def late_sources(self, most: int = 5) -> dict[str, int]:
        """The sources with the most late records, and how many."""
        order = np.argsort(-self.table.late, kind="stable")[:most].tolist()
        return {self.table.names[source]: int(self.table.late[source]) for source in order if self.table.late[source]}

    def idle_after(self) -> float:
        """The engine time at which the first clock may become idle, if nothing waits and nothing comes."""
        if not len(self.table):
            return float("inf")
        longest = float(self._silence(np.arange(len(self.table))).max())
        return self._elapsed + self.idle_seconds - longest

    # -- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
        """(small values, frames): taken at the end of an epoch."""
        return self.summary(), {"clocks": self.table.clocks(), "sources": self.table.sources()}

    def summary(self) -> dict[str, Any]:
        """The small values of a snapshot."""
        return {
            "elapsed": self._elapsed,
            "swept": None if self._swept == float("-inf") else self._swept,
            "looked": self._looked,
            "start": self.table.start,
            "partitions": [[n, s.newest, s.quiet, s.waiting] for n, s in sorted(self._partitions.items())],
            "skew": self.skew.snapshot(),
        }

    def restore(self, small: Mapping[str, Any], frames: Mapping[str, bytes]) -> None:
        """Take up a snapshot (frames as Arrow IPC streams)."""
        self.take_up(small, *(pl.read_ipc_stream(io.BytesIO(frames[name])) for name in ("clocks", "sources")))

    def take_up(self, small: Mapping[str, Any], clocks: pl.DataFrame, sources: pl.DataFrame) -> None:
        """Take up the small values of a snapshot, with clocks as CLOCKS and sources as SOURCES."""
        self._elapsed, self._looked, self.table.start = small["elapsed"], small["looked"], small["start"]
        self._swept = float("-inf") if small["swept"] is None else small["swept"]
        self._partitions = {
            n: PartitionState(newest, quiet, waiting) for n, newest, quiet, waiting in small["partitions"]
        }
        self.skew.restore(small["skew"])
        self.table.restore(clocks, sources)

    def restore_partitions(
        self, watermark: int, newest: Mapping[int, int], elapsed: float, sources: Iterable[str]
    ) -> None:
        """Take up what a version knew that had one watermark a stream: what it had passed stays passed.

        `sources`: those with open state. Until they send again they are as far as the stream was.
        """
        self._elapsed, self.table.start = elapsed, watermark
        self._partitions = {number: PartitionState(time) for number, time in newest.items()}
        self._partitions.setdefault(BEFORE, PartitionState(waiting=False))
        self.table.restore_sources(sources, max((watermark + self.lateness, *newest.values())))
