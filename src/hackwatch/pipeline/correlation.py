"""Declared joins of the suspects of two streams: the same thing suspect in both within some seconds."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.streams.declarations import Correlation
from hackwatch.streams.stream import Stream, microseconds

__all__ = ["Clock", "Correlator", "pair_date", "pair_schema"]

Key = tuple[Any, ...]
Numbers = npt.NDArray[np.int64]
#: The watermark of a source, microseconds.
Clock = Callable[[str], int]
_MOST_CHUNKS = 8
#: A suspect leaves at the latest when its own source has gone so far beyond the reach of the join (microseconds):
#: the other stream may have no such source, or have lost it.
LONGEST_WAIT = 600_000_000


def pair_schema(left: Stream, right: Stream, keys: tuple[str, ...], carried: pl.Schema) -> pl.Schema:
    """Columns of a pair: the join keys, then every other column of both sides with the stream's name before it."""
    schema = pl.Schema({key: left.schema[key] for key in keys})
    for stream in (left, right):
        columns = {**stream.schema, **carried}
        schema.update({f"{stream.name}_{name}": kind for name, kind in columns.items() if name not in keys})
    return schema


def pair_date(left: Stream, right: Stream) -> pl.Expr:
    """The day of a pair: that of the later one of its two event times."""
    return pl.max_horizontal(f"{left.name}_event_time", f"{right.name}_event_time").dt.date().alias("date")


class Correlator:
    """Inner interval join of the suspects of two streams on `keys` with abs(t_left - t_right) < `seconds`.

    All pairs come out, whatever the order of arrival. A suspect leaves the state once the other stream's watermark for
    its source has passed its event time by `seconds`: no on-time record can match it any more. If the keys do not hold
    the other stream's source, the slowest source there that is not idle decides. Whatever the other stream does, a
    suspect stays no longer than LONGEST_WAIT by the watermark of its own source.
    """

    def __init__(self, declared: Correlation, left: Stream, right: Stream, carried: pl.Schema) -> None:
        """`carried`: columns beside the streams' own that both sides carry (position, score, prediction ...)."""
        self.declared, self.left, self.right, self.keys = declared, left, right, declared.keys
        self.reach = round(declared.seconds * 1e6)
        self.schema = pair_schema(left, right, self.keys, carried)
        self._none = pl.DataFrame(schema=self.schema)
        self._carried = carried
        self._state = {s.name: self._side(s) for s in (left, right)}

    def _side(self, stream: Stream) -> _Side:
        other = self.right if stream is self.left else self.left
        theirs = other.source if other.source in self.keys else None
        return _Side(pl.DataFrame(schema={**stream.schema, **self._carried}), self.keys, stream.source, theirs)

    def __len__(self) -> int:
        return sum(len(side.frame) for side in self._state.values())

    def empty(self, stream: Stream) -> pl.DataFrame:
        """No suspects of a stream, with the columns that the state holds."""
        return self._state[stream.name].frame.clear()

    def step(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """Take new suspects of both sides; the new pairs (`schema`), none if either has no partner."""
        ours, theirs = self._state[self.left.name], self._state[self.right.name]
        held = len(ours.frame)
        left_keys, right_keys = ours.add(left), theirs.add(right)
        # The new ones of the left with all of the right, then what was held on the left with the new ones of the right.
        left_new, right_any = theirs.partners(left_keys)
        right_new, left_held = ours.partners(right_keys)
        before = left_held < held
        left_rows = np.concatenate([left_new + held, left_held[before]])
        right_rows = np.concatenate([right_any, right_new[before] + len(theirs.frame) - len(right)])
        near = np.abs(ours.times[left_rows] - theirs.times[right_rows]) < self.reach
        if not near.any():
            return self._none
        blocks = left_rows < held
        order = np.lexsort((right_rows[near], left_rows[near], blocks[near]))
        return self._pairs(ours.frame[left_rows[near][order]], theirs.frame[right_rows[near][order]])

    def _pairs(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """Rows of both sides that belong together, as pairs."""
        columns = {key: left.get_column(key) for key in self.keys}
        for stream, rows in ((self.left, left), (self.right, right)):
            columns |= {f"{stream.name}_{name}": rows.get_column(name) for name in rows.columns}
        return pl.DataFrame([columns[name].alias(name) for name in self.schema])

    def evict(self, left: Clock, right: Clock, slowest: tuple[int, int], waiting: Collection[str] = ()) -> None:
        """Forget suspects that nothing on time can match any more.

        `left`, `right`: the watermarks of the streams' sources; `slowest`: those of the slowest that are not idle.
        `waiting`: streams of which so much waits unread that it is waited for beyond LONGEST_WAIT.
        """
        longest = [None if name in waiting else LONGEST_WAIT for name in (self.right.name, self.left.name)]
        self._state[self.left.name].evict(left, right, slowest[1], self.reach, longest[0])
        self._state[self.right.name].evict(right, left, slowest[0], self.reach, longest[1])

    def snapshot(self) -> dict[str, pl.DataFrame]:
        """The state as frames that may be written later, by another thread.

        Clones, which cost nothing: a frame that is being written is locked until its writer gets the interpreter, and
        who asked for the same frame meanwhile, holding the interpreter, would wait for ever.
        """
        return {name: side.frame.clone() for name, side in self._state.items()}

    def restore(self, snapshot: dict[str, bytes]) -> None:
        for name, side in self._state.items():
            frame = pl.read_ipc_stream(io.BytesIO(snapshot[name])).select(side.frame.columns)
            self._state[name] = self._side(self.left if name == self.left.name else self.right)
            self._state[name].add(frame)


class _Side:
    """The suspects of one stream, found by their keys without a query: most batches bring a few that have no partner.

    `ids` number the rows in order of arrival, since rows move up when others are evicted. `own`, `theirs`: the columns
    of the source in this stream (None: its partition) and, if the keys hold it, of that in the other one.
    """

    def __init__(self, frame: pl.DataFrame, keys: tuple[str, ...], own: str | None, theirs: str | None) -> None:
        self.frame, self._names, self._columns = frame, keys, (own, theirs)
        self._sources: dict[str, int] = {}
        self._codes = [np.empty(0, np.int64), np.empty(0, np.int64)]
        self.times = np.empty(0, np.int64)
        self._ids, self._next = np.empty(0, np.int64), 0
        self._held: dict[Key, list[int]] = {}

    def add(self, suspects: pl.DataFrame) -> list[Key]:
        """Hold further suspects; their join keys."""
        if suspects.is_empty():
            return []
        keys = self._keys(suspects)
        for number, key in enumerate(keys, self._next):
            self._held.setdefault(key, []).append(number)
        self._ids = np.concatenate([self._ids, np.arange(self._next, self._next + len(keys))])
        self._next += len(keys)
        self.times = np.concatenate([self.times, microseconds(suspects.get_column("event_time"))])
        own, theirs = self._columns
        numbers = self._numbers(suspects, 0, own)
        others = numbers if own == theirs and own is not None else self._numbers(suspects, 1, theirs)
        self._codes = [np.concatenate(pair) for pair in zip(self._codes, (numbers, others), strict=True)]
        self.frame = pl.concat([self.frame, suspects])
        if self.frame.n_chunks() > _MOST_CHUNKS:
            self.frame = self.frame.rechunk()
        return keys

    def partners(self, keys: Sequence[Key]) -> tuple[Numbers, Numbers]:
        """Which of the keys are held (once for every row that has it), and in which row; a null is like no other."""
        found = [(n, self._held[key]) for n, key in enumerate(keys) if key in self._held and None not in key]
        if not found:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        ids = np.concatenate([numbers for _, numbers in found])
        which = np.repeat([n for n, _ in found], [len(numbers) for _, numbers in found])
        return which, np.searchsorted(self._ids, ids)

    def _numbers(self, suspects: pl.DataFrame, place: int, column: str | None) -> Numbers:
        """The sources of suspects as numbers; none where the other stream's source is not known."""
        if column is None and place == 1:
            return np.full(len(suspects), -1, np.int64)
        known = self._sources
        named = suspects.get_column("partition" if column is None else column)
        names = (named.cast(pl.String) if column is None else named).to_list()
        for name in dict.fromkeys(names):
            known.setdefault(name or "", len(known))
        return np.fromiter((known[name or ""] for name in names), np.int64, len(names))

    def evict(self, own: Clock, theirs: Clock, slowest: int, reach: int, longest: int | None) -> None:
        """Forget the suspects that the other watermark, or by `longest` (None: never) their own one, has passed."""
        if not len(self.times):
            self._sources = {}
            return
        until = np.array([theirs(name) for name in self._sources], np.int64)[self._codes[1]] - reach
        if self._columns[1] is None:
            until = np.full(len(self.times), slowest - reach, np.int64)
        if longest is not None:
            marks = np.array([own(name) for name in self._sources], np.int64)[self._codes[0]]
            until = np.maximum(until, marks - reach - longest)
        gone = self.times <= until
        if gone.any():
            self._forget(np.flatnonzero(gone), np.flatnonzero(~gone))

    def _forget(self, gone: npt.NDArray[np.intp], kept: npt.NDArray[np.intp]) -> None:
        for key, number in zip(self._keys(self.frame[gone]), self._ids[gone].tolist(), strict=True):
            self._held[key].remove(number)
            if not self._held[key]:
                del self._held[key]
        self.frame, self.times, self._ids = self.frame[kept], self.times[kept], self._ids[kept]
        self._codes = [codes[kept] for codes in self._codes]
        if len(self._sources) > 2 * len(kept) + 100:
            self._renumber()

    def _renumber(self) -> None:
        """Forget the sources that have no suspects any more."""
        used = np.unique(np.concatenate(self._codes))
        used = used[used >= 0]
        names = list(self._sources)
        self._sources = {names[number]: place for place, number in enumerate(used.tolist())}
        self._codes = [np.where(codes >= 0, np.searchsorted(used, codes), -1) for codes in self._codes]

    def _keys(self, frame: pl.DataFrame) -> list[Key]:
        return list(zip(*(frame.get_column(name).to_list() for name in self._names), strict=True))
