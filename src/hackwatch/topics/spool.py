"""The embedded topic: a folder of newline-delimited segment files, written by many processes and read by one.

Offsets are byte positions in the partition. A writer holds the partition's lock for each append, so appends of
several processes never mix; it publishes the new end after the data is written (with durability "always": after it
is on disk), so a reader sees each append whole or not at all, and reads the same bytes for the same range for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from hackwatch.clock import Clock, SystemClock
from hackwatch.errors import DataError
from hackwatch.streams.stream import Messages
from hackwatch.topics.layout import create_topic, partition_count
from hackwatch.topics.partition import PartitionReader, PartitionWriter
from hackwatch.topics.retention import Pruned, Retention, prune, read_committed, write_committed
from hackwatch.topics.segments import partition_folder

__all__ = ["DURABILITIES", "Durability", "SpoolReader", "SpoolWriter"]

#: "none": the kernel writes when it likes. "interval": fsync at an append or flush once a second has passed since
#: the last one. "always": each append is on disk before it returns. A killed process loses nothing with any of them;
#: they differ in what a power cut may take.
Durability = Literal["none", "interval", "always"]
DURABILITIES: tuple[Durability, ...] = ("none", "interval", "always")

_PRUNE_SECONDS = 10.0


class SpoolWriter:
    """Appends to a spool; safe with other writers in this and other processes, and between threads.

    Makes the topic if need be; an existing topic keeps its number of partitions. Raises ResourceError when
    the disk is full or refuses, with nothing of that append left behind.
    """

    def __init__(
        self,
        folder: Path,
        *,
        partitions: int = 2,
        durability: Durability = "interval",
        segment_bytes: int = 64 << 20,
        topic: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._folder = folder
        self._topic = topic or folder.name
        count = create_topic(folder, partitions)
        clock = clock or SystemClock()
        self._partitions = [
            PartitionWriter(folder, number, durability, segment_bytes, clock) for number in range(count)
        ]
        self._turn = itertools.count()
        self._lock = threading.Lock()

    @property
    def topic(self) -> str:
        return self._topic

    @property
    def partitions(self) -> int:
        """How many partitions the topic has."""
        return len(self._partitions)

    def append(self, messages: Sequence[bytes], *, key: str | None = None) -> None:
        """Append messages (no newline inside) in order, to the partition of `key` (round robin without one)."""
        payload = b"\n".join(messages)
        if payload.count(b"\n") != max(0, len(messages) - 1):
            raise DataError("a message contains a newline", where=self._topic, next_step="append each line by itself")
        if messages:
            self._append(payload + b"\n", key)

    def append_payload(self, payload: bytes, *, key: str | None = None) -> None:
        """Append many messages at once, each already ended by a newline: all of them or, on an error, none."""
        if not payload:
            return
        if not payload.endswith(b"\n"):
            raise DataError("the last message has no newline", where=self._topic, next_step="end it with one")
        self._append(payload, key)

    def _append(self, payload: bytes, key: str | None) -> None:
        number = next(self._turn) if key is None else zlib.crc32(key.encode())
        with self._lock:
            self._partitions[number % len(self._partitions)].append(payload)

    def flush(self) -> None:
        """Put what was appended on disk (unless durability is "none")."""
        with self._lock:
            for partition in self._partitions:
                partition.flush()

    def close(self) -> None:
        """Flush and let go of the files."""
        self.flush()
        with self._lock:
            for partition in self._partitions:
                partition.close()


class SpoolReader:
    """Reads a spool; the topic need not exist yet.

    `name` tells readers apart whose committed positions hold back retention. With `retention`, commit prunes every
    now and then. A message longer than `longest_message` bytes comes cut to that length (so memory stays bounded):
    it is still one message at its offset, which no decoder accepts.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "main",
        retention: Retention | None = None,
        longest_message: int = 16 << 20,
        topic: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._folder, self._name, self._retention = folder, name, retention
        self._longest = longest_message
        self._topic = topic or folder.name
        self._clock = clock or SystemClock()
        self._count = 0
        self._readers: dict[int, PartitionReader] = {}
        self._pruned_at = -_PRUNE_SECONDS

    @property
    def topic(self) -> str:
        return self._topic

    def partitions(self) -> Sequence[int]:
        self._count = self._count or partition_count(self._folder)
        return range(self._count)

    def _partition(self, number: int) -> PartitionReader | None:
        reader = self._readers.get(number)
        if reader is None and number in self.partitions():
            committed = read_committed(self._folder, self._name).get(number, 0)
            folder = partition_folder(self._folder, number)
            reader = PartitionReader(folder, self._topic, number, committed, self._longest)
            self._readers[number] = reader
        return reader

    def start_offset(self, partition: int) -> int:
        reader = self._partition(partition)
        return reader.start() if reader else 0

    def end_offset(self, partition: int) -> int:
        reader = self._partition(partition)
        return reader.end() if reader else 0

    def read(self, partition: int, start: int, *, max_bytes: int, end: int | None = None) -> Messages | None:
        """As TopicReader.read: from one segment per call."""
        reader = self._readers.get(partition) or self._partition(partition)
        return reader.read(start, max_bytes, end) if reader else None

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Remember these positions durably; prune if the topic has a retention and it is time."""
        if not self.partitions():
            return
        kept = read_committed(self._folder, self._name)
        if any(kept.get(partition) != offset for partition, offset in offsets.items()):
            write_committed(self._folder, self._name, {**kept, **offsets})
        now = self._clock.monotonic()
        if self._retention is not None and now - self._pruned_at >= _PRUNE_SECONDS:
            self._pruned_at = now
            self.prune(self._retention)

    def committed(self) -> Mapping[int, int]:
        """The positions that this reader committed last."""
        return read_committed(self._folder, self._name)

    def prune(self, retention: Retention) -> Pruned:
        """Delete whole segments that every reader has committed and that `retention` does not keep."""
        return prune(self._folder, len(self.partitions()), retention, self._clock.wall())

    def close(self) -> None:
        for reader in self._readers.values():
            with contextlib.suppress(OSError):
                reader.close()
        self._readers.clear()
