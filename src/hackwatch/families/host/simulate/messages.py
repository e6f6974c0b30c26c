"""Frames as NDJSON payloads that know which machine each run of lines belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.topics.topic import TopicWriter

__all__ = ["Payload", "encode"]

_NEWLINE = 10


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """Messages ended by newlines; the next `counts[i]` of them belong to machine `keys[i]`."""

    data: bytes
    keys: Sequence[str]
    counts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.counts.sum())

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Each machine with its messages."""
        ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == _NEWLINE) + 1
        edges = np.concatenate([[0], ends])[np.concatenate([[0], np.cumsum(self.counts)])]
        for key, first, last in zip(self.keys, edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if last > first:
                yield key, self.data[first:last]

    def write_to(self, writer: TopicWriter) -> None:
        """Append each machine's messages under its name as key."""
        for key, part in self.parts():
            writer.append_payload(part, key=key)


def encode(frame: pl.DataFrame, keys: Sequence[str], counts: npt.NDArray[np.int64]) -> Payload:
    """A frame, machine after machine, as one message per row."""
    buffer = BytesIO()
    frame.write_ndjson(buffer)
    return Payload(buffer.getvalue(), keys, counts)
