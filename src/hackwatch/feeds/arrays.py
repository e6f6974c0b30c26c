"""Several records in one message: JSON arrays, as producers write them that send a machine's sample at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hackwatch.topics.topic import TopicWriter

__all__ = ["MOST_BYTES", "Arrays"]

#: A longer array goes as several messages: half of what engines and brokers take by default.
MOST_BYTES = 512 << 10


class Arrays:
    """A writer of JSON objects: those that are appended at once become one message, an array of them.

    `messages` and `bytes` (newlines counted) are what has been written.
    """

    def __init__(self, writer: TopicWriter) -> None:
        self._writer = writer
        self.messages = self.bytes = 0

    @property
    def topic(self) -> str:
        return self._writer.topic

    def append(self, messages: Sequence[bytes], *, key: str | None = None) -> None:
        """Append objects (no newline inside) in order, together."""
        arrays = [b"[" + b",".join(some) + b"]" for some in _parts(messages)]
        self._writer.append(arrays, key=key)
        self.messages += len(arrays)
        self.bytes += sum(len(array) + 1 for array in arrays)

    def append_payload(self, payload: bytes, *, key: str | None = None) -> None:
        """The same for objects that are each ended by a newline."""
        self.append(payload.split(b"\n")[:-1], key=key)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _parts(messages: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Runs of messages of about MOST_BYTES at the most."""
    first = size = 0
    for number, message in enumerate(messages):
        if size and size + len(message) >= MOST_BYTES:
            yield messages[first:number]
            first, size = number, 0
        size += len(message) + 1
    if first < len(messages):
        yield messages[first:]
