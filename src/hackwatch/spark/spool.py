"""Spool folders on Spark: the driver plans batches of byte ranges, and the tasks that get them read the segments.

Spark has its own sources in Python, but starts a process for each query that must answer within ten seconds, which a
busy machine does not manage. The store knows what a batch holds before it begins, as with the embedded engine; so no
source and no checkpoint of Spark is needed here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hackwatch.store.base import OffsetRange
from hackwatch.topics.retention import Retention
from hackwatch.topics.spool import SpoolReader

__all__ = ["RANGES", "Planner", "Rounds", "Spool"]

_LOG = logging.getLogger(__name__)
#: The rows of a batch.
RANGES = "partition INT, start BIGINT, `end` BIGINT"
Offsets = dict[int, int]


@dataclass(frozen=True, slots=True)
class Spool:
    """Where a spool is and how it is read; goes to every process that reads it."""

    folder: str
    topic: str
    pipeline: str
    longest_message: int

    def reader(self, retention: Retention | None = None) -> SpoolReader:
        return SpoolReader(
            Path(self.folder),
            name=self.pipeline,
            retention=retention,
            longest_message=self.longest_message,
            topic=self.topic,
        )


class Planner:
    """Cuts a spool into batches of about `max_bytes` over all partitions."""

    def __init__(self, reader: SpoolReader, stream: str, max_bytes: int) -> None:
        self.reader, self._stream, self._max_bytes = reader, stream, max_bytes

    def ends(self) -> Offsets:
        """Where the messages of each partition end now."""
        return {number: self.reader.end_offset(number) for number in self.reader.partitions()}

    def next(self, done: Mapping[int, int], ends: Offsets) -> tuple[OffsetRange, ...]:
        """The next ranges from the positions `done`; of each partition the same part of what is left.

        So partitions that cover the same time stay together while a backlog is read.
        """
        starts = {number: done.get(number, self.reader.start_offset(number)) for number in ends}
        left = {number: max(0, end - starts[number]) for number, end in ends.items()}
        part = min(1.0, self._max_bytes / max(1, sum(left.values())))
        ranges = []
        for number, end in ends.items():
            if left[number]:
                last = self._boundary(number, starts[number], end, int(left[number] * part))
                ranges.append(OffsetRange(self._stream, self.reader.topic, number, starts[number], last))
        return tuple(ranges)

    def _boundary(self, number: int, begin: int, end: int, share: int) -> int:
        """A position about `share` behind `begin` at which a message ends."""
        if end - begin <= share:
            return end
        # Read from the middle of a message, a spool gives its rest; where reading goes on is the end of a whole one.
        found = self.reader.read(number, begin + share, max_bytes=1, end=end)
        return end if found is None else found.next_offset


class Rounds:
    """One batch after the other, in a thread; as far as the service asks, it looks like a query of Spark."""

    def __init__(
        self, name: str, one_round: Callable[[Offsets | None], bool], planner: Planner, seconds: float
    ) -> None:
        """`one_round`: do a batch (up to these ends, if there are any), False if nothing was there."""
        self._name, self._round, self.planner, self._seconds = name, one_round, planner, seconds
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None
        self.done: Mapping[int, int] = {}

    def start(self, *, available_now: bool) -> None:
        ends = self.planner.ends() if available_now else None
        self._thread = threading.Thread(target=self._work, args=(ends,), name=self._name, daemon=True)
        self._thread.start()

    def _work(self, ends: Offsets | None) -> None:
        try:
            while not self._stop.is_set():
                worked = self._round(ends)
                if ends is not None and not worked:
                    return
                self._stop.wait(0.0 if ends is not None else self._seconds)
        except Exception as error:  # to be asked for, as a query of Spark is
            self._failure = error

    @property
    def isActive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def exception(self) -> Exception | None:
        return self._failure

    @property
    def lastProgress(self) -> dict[str, Any] | None:
        ends = {str(number): end for number, end in self.planner.ends().items()}
        done = {str(number): self.done.get(int(number), 0) for number in ends}
        return {"sources": [{"endOffset": done, "latestOffset": ends}]}

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.planner.reader.close()
