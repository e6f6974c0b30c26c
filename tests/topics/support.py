"""Reading whole topics in tests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from hackwatch.streams.stream import Messages
from hackwatch.topics import TopicReader
from hackwatch.topics.kafka.reader import KafkaReader

PATIENCE = 20.0


def positions(reader: TopicReader, partition: int = 0, max_bytes: int = 1 << 20, start: int = 0) -> dict[int, bytes]:
    """Every message of a partition by its offset, read until there is none."""
    found: dict[int, bytes] = {}
    while messages := reader.read(partition, start, max_bytes=max_bytes):
        lines = messages.payload.split(b"\n")
        assert lines.pop() == b""
        found.update(zip(messages.offsets.tolist(), lines, strict=True))
        assert messages.next_offset > start
        start = messages.next_offset
    return found


def lines(reader: TopicReader, partition: int = 0, max_bytes: int = 1 << 20) -> list[bytes]:
    """Every message of a partition in order."""
    return list(positions(reader, partition, max_bytes, reader.start_offset(partition)).values())


def everything(reader: TopicReader) -> list[bytes]:
    """Every message of all partitions."""
    return [line for partition in reader.partitions() for line in lines(reader, partition)]


class Settled:
    """A Kafka reader for tests that must not wait: it says "nothing yet" only where the partition really ends."""

    def __init__(self, reader: KafkaReader) -> None:
        self.inner = reader

    @property
    def topic(self) -> str:
        return self.inner.topic

    def partitions(self) -> Sequence[int]:
        return self.inner.partitions()

    def start_offset(self, partition: int) -> int:
        return self.inner.start_offset(partition)

    def end_offset(self, partition: int) -> int:
        self.inner.look()
        return self.inner.end_offset(partition)

    def read(self, partition: int, start: int, *, max_bytes: int, end: int | None = None) -> Messages | None:
        give_up = time.monotonic() + PATIENCE
        while (messages := self.inner.read(partition, start, max_bytes=max_bytes, end=end)) is None:
            if (end is not None and start >= end) or start == self.end_offset(partition):
                return None
            assert time.monotonic() < give_up, f"nothing came of {self.topic}/{partition}/{start}"
            time.sleep(0.002)
        return messages

    def commit(self, offsets: Mapping[int, int]) -> None:
        self.inner.commit(offsets)

    def close(self) -> None:
        self.inner.close()
