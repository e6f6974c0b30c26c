"""How messages travel: what the engine needs of a topic to read it, and a feed to write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from hackwatch.streams.stream import Messages

__all__ = ["TopicReader", "TopicWriter"]


class TopicReader(Protocol):
    """Reads a partitioned, append-only topic from positions that the caller keeps."""

    @property
    def topic(self) -> str: ...

    def partitions(self) -> Sequence[int]:
        """The partitions that exist now; new ones may appear."""
        ...

    def start_offset(self, partition: int) -> int:
        """The oldest position still kept."""
        ...

    def end_offset(self, partition: int) -> int:
        """The position after the last complete message (lag = end - position)."""
        ...

    def read(self, partition: int, start: int, *, max_bytes: int, end: int | None = None) -> Messages | None:
        """Whole messages from `start`, about `max_bytes` of them (at least one), not past `end`; None if none yet.

        Reading the same range again gives the same messages. Raises DataError when the range is gone.
        """
        ...

    def commit(self, offsets: Mapping[int, int]) -> None:
        """What is before these positions is durably processed: retention may delete it."""
        ...

    def close(self) -> None: ...


class TopicWriter(Protocol):
    """Appends messages to a topic; safe with other writers at the same time."""

    @property
    def topic(self) -> str: ...

    def append(self, messages: Sequence[bytes], *, key: str | None = None) -> None:
        """Append messages (no newline inside) in order, to the partition of `key` (round robin without one).

        Durable by the topic's policy when it returns.
        """
        ...

    def append_payload(self, payload: bytes, *, key: str | None = None) -> None:
        """The same for many messages at once, each already ended by a newline."""
        ...

    def flush(self) -> None: ...

    def close(self) -> None: ...
