"""Reading whole topics in tests."""

from __future__ import annotations

from hackwatch.topics import TopicReader


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
