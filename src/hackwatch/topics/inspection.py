"""Looking at a spool from outside: sizes, positions, messages. Changes nothing that readers see."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hackwatch.errors import ConfigurationError
from hackwatch.topics.layout import partition_count
from hackwatch.topics.retention import read_committed, reader_names
from hackwatch.topics.segments import partition_folder, segment_bases
from hackwatch.topics.spool import SpoolReader

__all__ = ["PartitionStatus", "TopicStatus", "inspect_topic", "last_messages", "messages_from"]

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition: oldest and next position (bytes), segments, and the committed position of each reader."""

    partition: int
    start: int
    end: int
    segments: int
    committed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """A topic; without partitions while nobody has written to it."""

    folder: str
    partitions: tuple[PartitionStatus, ...]

    @property
    def kept_bytes(self) -> int:
        return sum(part.end - part.start for part in self.partitions)

    @property
    def unread_bytes(self) -> int:
        """What the slowest reader has not committed yet; everything if nobody reads."""
        return sum(part.end - max(part.start, min(part.committed.values(), default=0)) for part in self.partitions)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "kept_bytes": self.kept_bytes, "unread_bytes": self.unread_bytes}


def inspect_topic(folder: Path) -> TopicStatus:
    """What a spool holds now."""
    reader = SpoolReader(folder)
    committed = {name: read_committed(folder, name) for name in reader_names(folder)}
    try:
        return TopicStatus(
            str(folder),
            tuple(
                PartitionStatus(
                    number,
                    reader.start_offset(number),
                    reader.end_offset(number),
                    len(segment_bases(partition_folder(folder, number))),
                    {name: offsets[number] for name, offsets in committed.items() if number in offsets},
                )
                for number in reader.partitions()
            ),
        )
    finally:
        reader.close()


def messages_from(folder: Path, partition: int, offset: int | None = None, limit: int | None = None) -> Iterator[bytes]:
    """Messages (without newline) from a position on, the oldest kept by default; at most `limit`."""
    if partition >= (count := partition_count(folder)):
        raise ConfigurationError(f"there is no partition {partition}; there are {count}", where=str(folder))
    reader = SpoolReader(folder)
    try:
        position = reader.start_offset(partition) if offset is None else offset
        while messages := reader.read(partition, position, max_bytes=_READ_BYTES):
            for message in messages.payload.split(b"\n")[:-1]:
                if limit is not None and limit <= 0:
                    return
                yield message
                limit = None if limit is None else limit - 1
            position = messages.next_offset
    finally:
        reader.close()


def last_messages(folder: Path, partition: int, count: int) -> list[bytes]:
    """The last `count` messages of a partition, oldest first; reads only as much of its end as they need."""
    reader = SpoolReader(folder)
    start, end = reader.start_offset(partition), reader.end_offset(partition)
    reader.close()
    span = _READ_BYTES
    while True:
        begin = max(start, end - span)
        found = deque(messages_from(folder, partition, begin), maxlen=count + 1)
        if begin == start or len(found) > count:  # the first one may be the end of a longer message
            return list(found)[-count:]
        span *= 4
