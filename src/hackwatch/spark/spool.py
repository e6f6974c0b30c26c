"""Spool folders on Spark: the driver plans batches of byte ranges, and the tasks that get them read the segments.

Spark has its own sources in Python, but starts a process for each query that must answer within ten seconds, which a
busy machine does not manage. The store knows what a batch holds before it begins, as with the embedded engine; so no
source and no checkpoint of Spark is needed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hackwatch.store.commits import OffsetRange
from hackwatch.topics.retention import Retention
from hackwatch.topics.spool import SpoolReader

__all__ = ["RANGES", "Offsets", "Planner", "Spool"]

#: The rows of a batch.
RANGES = "partition INT, start BIGINT, `end` BIGINT"
Offsets = dict[int, int]
#: (stream, partition) of those that have more messages than a batch takes.
Waiting = tuple[tuple[str, int], ...]


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

    def next(self, done: Mapping[int, int], ends: Offsets) -> tuple[tuple[OffsetRange, ...], Waiting]:
        """The next ranges from the positions `done`, of each partition the same part of what is left; what waits on.

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
        waiting = tuple((self._stream, part.partition) for part in ranges if part.end < ends[part.partition])
        return tuple(ranges), waiting

    def _boundary(self, number: int, begin: int, end: int, share: int) -> int:
        """A position about `share` behind `begin` at which a message ends."""
        if end - begin <= share:
            return end
        # Read from the middle of a message, a spool gives its rest; where reading goes on is the end of a whole one.
        found = self.reader.read(number, begin + share, max_bytes=1, end=end)
        return end if found is None else found.next_offset
