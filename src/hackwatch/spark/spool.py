"""A spool as a source of Spark: offsets are byte positions per partition, rows are ranges of messages.

The messages themselves do not pass through the JVM: a row names a range, and the task that gets it reads the segment
files, as the source's own task would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition

from hackwatch.topics.retention import Retention
from hackwatch.topics.spool import SpoolReader

__all__ = ["RANGES", "Spool", "SpoolSource"]

RANGES = "partition INT, start BIGINT, `end` BIGINT"
Offsets = dict[str, int]
_LOOK_BYTES = 64 << 10


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


@dataclass
class _Range(InputPartition):
    partition: int
    start: int
    end: int


class SpoolSource(DataSource):
    """Format `hackwatch-spool`.

    Options: folder, topic, pipeline, longest_message, max_bytes, keep_bytes, keep_seconds.
    """

    @classmethod
    def name(cls) -> str:
        return "hackwatch-spool"

    def schema(self) -> str:
        return RANGES

    def streamReader(self, schema: Any) -> DataSourceStreamReader:  # Spark's name
        options = self.options
        spool = Spool(options["folder"], options["topic"], options["pipeline"], int(options["longest_message"]))
        keep_bytes, keep_seconds = options.get("keep_bytes"), options.get("keep_seconds")
        retention = Retention(
            max_bytes=int(keep_bytes) if keep_bytes else None,
            max_age_seconds=float(keep_seconds) if keep_seconds else None,
        )
        bounded = find_spec("pyspark.sql.streaming.datasource") is not None
        planner = _bounded_planner() if bounded else _EverythingPlanner
        return planner(spool, retention, int(options["max_bytes"]))


class _Planner(DataSourceStreamReader):
    """Plans batches of about `max_bytes` over all partitions, and lets the spool forget what is done."""

    def __init__(self, spool: Spool, retention: Retention, max_bytes: int) -> None:
        self._reader = spool.reader(retention)
        self._max_bytes = max_bytes

    def initialOffset(self) -> Offsets:
        return {str(number): self._reader.start_offset(number) for number in self._reader.partitions()}

    def _ends(self) -> Offsets:
        return {str(number): self._reader.end_offset(number) for number in self._reader.partitions()}

    def _bounded(self, start: Offsets, ends: Offsets) -> Offsets:
        """The end of the next batch: about `max_bytes` further, of each partition the same part of what is left.

        So partitions that cover the same time stay together while a backlog is read.
        """
        left = {number: max(0, end - self._from(start, number)) for number, end in ends.items()}
        part = min(1.0, self._max_bytes / max(1, sum(left.values())))
        return {
            number: self._boundary(int(number), self._from(start, number), end, int(left[number] * part))
            for number, end in ends.items()
        }

    def _boundary(self, number: int, begin: int, end: int, share: int) -> int:
        """A position about `share` behind `begin` at which a message ends."""
        if end - begin <= share:
            return max(begin, end)
        # Read from the middle of a message, a spool gives its rest; where reading goes on is the end of a whole one.
        found = self._reader.read(number, begin + share, max_bytes=_LOOK_BYTES, end=end)
        return end if found is None else found.next_offset

    def _from(self, start: Offsets, number: str) -> int:
        return start[number] if number in start else self._reader.start_offset(int(number))

    def partitions(self, start: Offsets, end: Offsets) -> Sequence[InputPartition]:
        places = [(int(number), self._from(start, number), last) for number, last in sorted(end.items())]
        return [_Range(number, first, last) for number, first, last in places if last > first]

    def read(self, partition: InputPartition) -> Iterator[tuple[int, int, int]]:
        assert isinstance(partition, _Range)
        yield partition.partition, partition.start, partition.end

    def commit(self, end: Offsets) -> None:
        self._reader.commit({int(number): offset for number, offset in end.items()})

    def stop(self) -> None:
        self._reader.close()


class _EverythingPlanner(_Planner):
    """For Spark before 4.2, which asks for all there is."""

    def latestOffset(self) -> Offsets:  # type: ignore[override]  # as Spark 4.0 has it
        return self._ends()


def _bounded_planner() -> type[_Planner]:
    """For Spark 4.2 and later: batches have a size, and a run can end with what was there at its start."""
    from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxBytes, SupportsTriggerAvailableNow

    class BoundedPlanner(_Planner, SupportsTriggerAvailableNow):
        _last: Offsets | None = None

        def prepareForTriggerAvailableNow(self) -> None:
            self._last = self._ends()

        def getDefaultReadLimit(self) -> ReadLimit:
            return ReadMaxBytes(self._max_bytes)

        def latestOffset(self, start: Offsets, limit: ReadLimit) -> Offsets:
            ends = self._ends() if self._last is None else self._last
            return ends if isinstance(limit, ReadAllAvailable) else self._bounded(start, ends)

        def reportLatestOffset(self) -> Offsets:
            return self._ends()

    return BoundedPlanner
