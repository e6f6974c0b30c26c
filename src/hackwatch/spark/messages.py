"""Rows of Spark as messages, without looking at each of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from hackwatch.streams.stream import Messages

__all__ = ["kafka_messages", "pack"]


def kafka_messages(batch: pa.RecordBatch, topic: str) -> Iterator[Messages]:
    """The messages of rows (`value` binary, each ended by a newline; `partition`; `offset`), in runs of a partition."""
    partitions = batch.column("partition").to_numpy(zero_copy_only=False)
    offsets = batch.column("offset").to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    edges = [0, *(np.flatnonzero(partitions[1:] != partitions[:-1]) + 1).tolist(), len(partitions)]
    values = batch.column("value")
    for first, last in pairwise(edges):
        if last > first:
            mine = offsets[first:last]
            payload = pack(values.slice(first, last - first))
            yield Messages(topic, int(partitions[first]), payload, mine, int(mine[-1]) + 1)


def pack(values: pa.BinaryArray) -> bytes:
    """Values that each end with a newline as one payload; newlines inside of one become spaces, as JSON allows."""
    _, ends, data = values.buffers()
    wide = pa.types.is_large_binary(values.type)
    places = np.frombuffer(ends, dtype=np.int64 if wide else np.int32)[values.offset : values.offset + len(values) + 1]
    begin, end = int(places[0]), int(places[-1])
    payload: bytes = data.slice(begin, end - begin).to_pybytes()
    if payload.count(b"\n") == len(values):
        return payload
    return _one_line_each(payload, (places[1:] - begin - 1).astype(np.int64))


def _one_line_each(payload: bytes, last: npt.NDArray[np.int64]) -> bytes:
    changed = np.frombuffer(payload, dtype=np.uint8).copy()
    changed[changed == 10] = 32
    changed[last] = 10
    return changed.tobytes()
