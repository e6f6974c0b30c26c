"""The same program suspect in two streams within a few seconds: an attack."""

from __future__ import annotations

import io

import polars as pl

from hackwatch.streams.base import Stream

__all__ = ["Correlator", "attack_schema"]


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
        self._state = {s.name: pl.DataFrame(schema={**s.schema, **carried}) for s in (left, right)}

    def __len__(self) -> int:
        return sum(len(frame) for frame in self._state.values())

    def empty(self, stream: Stream) -> pl.DataFrame:
        """No suspects of a stream, with the columns that the state holds."""
        return self._state[stream.name].clear()

    def step(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """Take new suspects of both sides; the new pairs (`schema`), none if either has no partner."""
        held_left, held_right = self._state[self.left.name], self._state[self.right.name]
        all_right = pl.concat([held_right, right])
        pairs = [self._join(left, all_right), self._join(held_left, right)]
        self._state[self.left.name] = pl.concat([held_left, left])
        self._state[self.right.name] = all_right
        return pl.concat(pairs)

    def _join(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        if left.is_empty() or right.is_empty():
            return pl.DataFrame(schema=self.schema)
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
        for stream, other in ((self.left, right_watermark), (self.right, left_watermark)):
            frame = self._state[stream.name]
            if frame.is_empty():
                continue
            keep = frame["event_time"].to_physical() + self.reach > other
            if not keep.all():
                self._state[stream.name] = frame.filter(keep)
            elif frame.n_chunks() > 8:
                self._state[stream.name] = frame.rechunk()

    def snapshot(self) -> dict[str, pl.DataFrame]:
        """The state as frames that may be written later, by another thread.

        Clones, which cost nothing: a frame that is being written is locked until its writer gets the interpreter, and
        who asked for the same frame meanwhile, holding the interpreter, would wait for ever.
        """
        return {name: frame.clone() for name, frame in self._state.items()}

    def restore(self, snapshot: dict[str, bytes]) -> None:
        for name in self._state:
            frame = pl.read_ipc_stream(io.BytesIO(snapshot[name]))
            self._state[name] = frame.select(self._state[name].columns)
