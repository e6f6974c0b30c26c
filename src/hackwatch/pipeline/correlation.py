"""The same program suspect in two streams within a few seconds: an attack."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from hackwatch.streams.base import Stream, microseconds

__all__ = ["Correlator", "attack_schema"]

_MOST_CHUNKS = 8


def attack_schema(left: Stream, right: Stream, keys: tuple[str, ...], carried: pl.Schema) -> pl.Schema:
    """Columns of an attack: the join keys, then every other column of both sides with the stream's name before it."""
    schema = pl.Schema({key: left.schema[key] for key in keys})
    for stream in (left, right):
        columns = {**stream.schema, **carried}
        schema.update({f"{stream.name}_{name}": kind for name, kind in columns.items() if name not in keys})
    return schema


class Correlator:
    """Inner interval join of the suspects of two streams on `keys` with abs(t_left - t_right) < `seconds`.

    All pairs come out, whatever the order of arrival. A suspect leaves the state once the other stream's watermark
    has passed its event time by `seconds`: no on-time record can match it any more.
    """

    def __init__(self, left: Stream, right: Stream, keys: tuple[str, ...], seconds: float, carried: pl.Schema) -> None:
        """`carried`: columns beside the streams' own that both sides carry (position, score, prediction ...)."""
        self.left, self.right, self.keys = left, right, keys
        self.reach = round(seconds * 1e6)
        self.schema = attack_schema(left, right, keys, carried)
        self._none = pl.DataFrame(schema=self.schema)
        self._state = {s.name: _Side(pl.DataFrame(schema={**s.schema, **carried}), keys) for s in (left, right)}

    def __len__(self) -> int:
        return sum(len(side.frame) for side in self._state.values())

    def empty(self, stream: Stream) -> pl.DataFrame:
        """No suspects of a stream, with the columns that the state holds."""
        return self._state[stream.name].frame.clear()

    def step(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """Take new suspects of both sides; the new pairs (`schema`), none if either has no partner."""
        held_left, held_right = self._state[self.left.name], self._state[self.right.name]
        before = held_left.frame
        may_pair = held_right.has_any(held_left.add(left)) | held_left.has_any(held_right.add(right))
        if not may_pair:
            return self._none
        return pl.concat([self._join(left, held_right.frame), self._join(before, right)])

    def _join(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        if left.is_empty() or right.is_empty():
            return self._none
        left_time, right_time = f"{self.left.name}_event_time", f"{self.right.name}_event_time"
        distance = (pl.col(left_time).to_physical() - pl.col(right_time).to_physical()).abs()
        return (
            self._named(left, self.left)
            .join(self._named(right, self.right), on=list(self.keys), how="inner", maintain_order="left_right")
            .filter(distance < self.reach)
            .select(self.schema.names())
            .collect(engine="in-memory")
        )

    def _named(self, frame: pl.DataFrame, stream: Stream) -> pl.LazyFrame:
        return frame.lazy().rename({name: f"{stream.name}_{name}" for name in frame.columns if name not in self.keys})

    def evict(self, left_watermark: int, right_watermark: int) -> None:
        """Forget suspects that the other stream's watermark (microseconds) has passed by the join's reach."""
        self._state[self.left.name].evict(right_watermark - self.reach)
        self._state[self.right.name].evict(left_watermark - self.reach)

    def snapshot(self) -> dict[str, pl.DataFrame]:
        """The state as frames that may be written later, by another thread.

        Clones, which cost nothing: a frame that is being written is locked until its writer gets the interpreter, and
        who asked for the same frame meanwhile, holding the interpreter, would wait for ever.
        """
        return {name: side.frame.clone() for name, side in self._state.items()}

    def restore(self, snapshot: dict[str, bytes]) -> None:
        for name, side in self._state.items():
            frame = pl.read_ipc_stream(io.BytesIO(snapshot[name])).select(side.frame.columns)
            self._state[name] = _Side(frame.clear(), self.keys)
            self._state[name].add(frame)


class _Side:
    """The suspects of one stream, with what tells cheaply whether a join or an eviction would find anything."""

    def __init__(self, frame: pl.DataFrame, keys: tuple[str, ...]) -> None:
        self.frame, self._names = frame, keys
        self._times = np.empty(0, np.int64)
        self._held: Counter[tuple[Any, ...]] = Counter()

    def add(self, suspects: pl.DataFrame) -> set[tuple[Any, ...]]:
        """Hold further suspects; their join keys."""
        if suspects.is_empty():
            return set()
        keys = self._keys(suspects)
        self._held.update(keys)
        self._times = np.concatenate([self._times, microseconds(suspects.get_column("event_time"))])
        self.frame = pl.concat([self.frame, suspects])
        if self.frame.n_chunks() > _MOST_CHUNKS:
            self.frame = self.frame.rechunk()
        return set(keys)

    def has_any(self, keys: set[tuple[Any, ...]]) -> bool:
        return not self._held.keys().isdisjoint(keys)

    def evict(self, until: int) -> None:
        """Forget the suspects up to this time (microseconds)."""
        gone = np.flatnonzero(self._times <= until)
        if not len(gone):
            return
        for key in self._keys(self.frame[gone]):
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
        kept = np.flatnonzero(self._times > until)
        self.frame, self._times = self.frame[kept], self._times[kept]

    def _keys(self, frame: pl.DataFrame) -> list[tuple[Any, ...]]:
        return list(zip(*(frame.get_column(name).to_list() for name in self._names), strict=True))
