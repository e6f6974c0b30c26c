"""Measures per key and tumbling interval of event time, for any declared aggregate; each source by its own clock.

The state of a key in an interval is kept per source, whose watermark makes it final. Records wait until many can be
counted by one query; what that gives has the columns of a *partial state*, which others may count and send as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import add
from typing import Any
from zlib import crc32

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from hackwatch.pipeline.arrivals import Arrival
from hackwatch.pipeline.lengths import Lengths
from hackwatch.pipeline.measures import Collection, part_of
from hackwatch.streams.declarations import Aggregate
from hackwatch.streams.stream import POSITION, Stream

__all__ = ["Aggregates", "Closed"]

#: Records that wait to be counted, at the most.
MOST_WAITING = 50_000
#: Batches that wait, at the most: what many small ones cost at once would hold up the alerts of an epoch's end.
MOST_BATCHES = 64
#: Sources without open intervals that are remembered, at the least, before they are forgotten.
IDLE_SOURCES = 10_000
_SECOND = 1_000_000

Keys = tuple[Any, ...]
Place = tuple[Any, ...]
"""The keys, source, start and seconds of an interval."""


@dataclass(frozen=True, slots=True)
class Closed:
    """An interval that the watermark of its source has passed. `start`, `end`: Unix seconds. `values`: by measure.

    Keys that are all null stand for those beyond the aggregate's limit.
    """

    keys: Keys
    source: str
    start: int
    end: int
    values: Mapping[str, Any]


class _Interval:
    """What is known of one key of one source in one interval."""

    __slots__ = ("changed", "collections", "keys", "numbers", "rows", "seconds", "source", "start")

    def __init__(self, place: Place, numbers: int, collections: int) -> None:
        self.keys: Keys = place[:-3]
        self.source: str = place[-3]
        self.start: int = place[-2]
        self.seconds: int = place[-1]
        self.rows = 0
        self.numbers: list[Any] = [0] * numbers
        self.collections: list[Collection | None] = [None] * collections
        self.changed = False

    @property
    def end(self) -> int:
        return self.start + self.seconds


#: Where the intervals of one source are: (start, seconds) -> places.
_Places = dict[tuple[int, int], list[Place]]


class Aggregates:
    """The state of one declared aggregate of one stream."""

    def __init__(self, aggregate: Aggregate, stream: Stream) -> None:
        self.aggregate, self.stream = aggregate, stream
        #: Which length intervals have, per source, where it was changed while some were open.
        self.lengths = Lengths(aggregate.seconds)
        self._query = _Query(aggregate, stream)
        self._others: Keys = (None,) * len(aggregate.keys)
        self._open: dict[Place, _Interval] = {}
        self._places: dict[str, _Places] = {}
        self._changed: list[_Interval] = []
        self._final: list[Closed] = []
        self._waiting: list[pl.DataFrame] = []
        self._rows_waiting = 0
        # Not the same for all: those that get the same batches would be counted in the same step, one after another.
        self._most_batches = MOST_BATCHES - crc32(f"{stream.name} {aggregate.name}".encode()) % (MOST_BATCHES // 2)
        # The time (microseconds) before which no interval of a source ends; a source that is not here may have one.
        self._next: dict[str, int] = {}

    def __len__(self) -> int:
        """How many intervals are open, as far as records have been counted."""
        return len(self._open)

    def has_open(self) -> bool:
        """Whether there is any state."""
        return bool(self._open or self._waiting)

    def sources(self) -> list[str]:
        """The sources with open intervals."""
        self._count()
        return list(self._places)

    def restore_windows(self, windows: Iterable[Sequence[Any]], seconds: int) -> None:
        """Take up the open windows of a version that kept them as [entity, start, records, suspects, identities]."""
        rows = [(e, e, start, seconds, n, n, k, list(found), None) for e, start, n, k, found in windows]
        self.restore(pl.DataFrame(rows, self._query.schema, orient="row"))

    # -- counting ------------------------------------------------------------------------------------------------

    def add(self, records: pl.DataFrame) -> None:
        """Take on-time records (normalised + POSITION + SCORED columns); many batches are counted at a time."""
        if records.is_empty():
            return
        self._waiting.append(pl.DataFrame([records.get_column(name) for name in self._query.columns]))
        self._rows_waiting += len(records)
        if self._rows_waiting >= MOST_WAITING or len(self._waiting) >= self._most_batches:
            self._count()

    def expect(self, seen: Iterable[Arrival]) -> None:
        """Tell what records will come: of which sources, and from when on. So new sources need not be counted at once.

        Late records among them do no harm: then a source is looked at too early.
        """
        for one in seen:
            first, known = self.lengths.end(one.source, one.least), self._next.get(one.source)
            if first < known if known is not None else one.source not in self._places:
                self._next[one.source] = first

    def partial(self, records: pl.DataFrame) -> pl.DataFrame:
        """The partial states of some records, for `merge`: one row per keys, source and interval. Changes nothing.

        Columns: the keys, source, start and _seconds (of the interval), _rows, and per measure the numbers and lists,
        or sketches (Binary), that it is made from.
        """
        return self._query.condensed(self._query.grouped(records, self.lengths))

    def merge(self, partial: pl.DataFrame) -> None:
        """Take partial states of others."""
        self._fold(partial.select(self._query.schema.names()))

    def _count(self) -> None:
        """Count the records that wait."""
        if self._waiting:
            records = pl.concat(self._waiting, rechunk=True)  # a query over many pieces takes twice as long
            self._waiting, self._rows_waiting = [], 0
            self._fold(self._query.grouped(records, self.lengths))

    def _fold(self, groups: pl.DataFrame) -> None:
        """Fold groups into the state. Columns: those of the partial states, of which the sketches may be missing."""
        keys, numbers, values, sketches = self._query.places
        if len(self._open) + len(groups) > self.aggregate.limit:  # the most active first: the limit may take the others
            groups = groups.sort("_rows", *self.aggregate.keys, "source", descending=[True, *[False] * (keys + 1)])
        estimated = len(groups.columns) > sketches
        known = self._open
        for row in groups.iter_rows():
            interval = known.get(row[: keys + 3]) or self._begin(row[: keys + 3])
            if not interval.changed:
                interval.changed = True
                self._changed.append(interval)
            interval.rows += row[keys + 3]
            interval.numbers = [*map(add, interval.numbers, row[numbers:values])]
            for place, gathered in enumerate(row[values:sketches]):
                if gathered:
                    self._collection(interval, place).take(gathered)
            for place, sketch in enumerate(row[sketches:] if estimated else ()):
                if sketch is not None:
                    self._collection(interval, place).merge(sketch)

    def _begin(self, place: Place) -> _Interval:
        """A new interval, or that of all others where its key is beyond the limit."""
        source, span = place[-3], place[-2:]
        spans = self._places.get(source)
        if spans is None:
            spans = self._places[source] = {}
        mine = spans.get(span)
        if mine is None:
            mine = spans[span] = []
        if len(mine) >= self.aggregate.limit:
            others = (*self._others, *place[-3:])
            known = self._open.get(others)
            if len(mine) - (known is not None) >= self.aggregate.limit:
                if known is not None:
                    return known
                place = others
        interval = self._open[place] = _Interval(place, len(self._query.numbers), len(self._query.collected))
        mine.append(place)
        if source in self._next:
            self._next[source] = min(self._next[source], interval.end * _SECOND)
        return interval

    def _collection(self, interval: _Interval, place: int) -> Collection:
        found = interval.collections[place]
        if found is None:
            found = interval.collections[place] = self._query.collected[place].begin()
        return found

    # -- closing -------------------------------------------------------------------------------------------------

    def close(self, marks: Mapping[str, int]) -> list[Closed]:
        """The intervals that have become final, in order of start and keys.

        `marks`: the watermarks (microseconds) of the sources for which they have moved since the last call.
        """
        following = self._next
        due = [source for source, mark in marks.items() if mark >= following.get(source, mark)]
        if not due or not self.has_open():
            return []
        self._count()
        ended = [interval for source in due for interval in self._pop(source, marks[source])]
        if len(self._next) > 2 * len(self._places) + IDLE_SOURCES:
            self._next = {source: time for source, time in self._next.items() if source in self._places}
        ended.sort(key=lambda each: (each.start, *_order(each.keys), each.source))
        closed = [
            Closed(each.keys, each.source, each.start, each.end, dict(zip(self._query.names, values, strict=True)))
            for each, values in zip(ended, map(self._values, ended), strict=True)
        ]
        self._final += closed
        return closed

    def _pop(self, source: str, mark: int) -> Iterator[_Interval]:
        """Take out the intervals of a source that its watermark has passed."""
        places = self._places.get(source, {})
        for span in [span for span in places if sum(span) * _SECOND <= mark]:
            for place in places.pop(span):
                interval = self._open.pop(place)
                interval.changed = False
                yield interval
        self.lengths.pass_by(source, mark)
        # Records that come later are on time, so that none of their intervals ends before this.
        self._next[source] = min([self.lengths.end(source, mark), *(sum(span) * _SECOND for span in places)])
        if not places:
            self._places.pop(source, None)

    def _values(self, interval: _Interval) -> list[Any]:
        numbers, collections = interval.numbers, interval.collections
        return [
            value(numbers[first:last], None if place is None else collections[place])
            for value, first, last, place in self._query.values
        ]

    # -- what the engine asks --------------------------------------------------------------------------------------

    def take_changes(self) -> pl.DataFrame:
        """The intervals that changed since the last call, with their absolute values; those now final last.

        Columns: the keys, source, start, end (Unix seconds), one per measure, final.
        """
        self._count()
        changed = [each for each in self._changed if each.changed]
        rows = [(*each.keys, each.source, each.start, each.end, *self._values(each), False) for each in changed]
        rows += [(*c.keys, c.source, c.start, c.end, *c.values.values(), True) for c in self._final]
        for each in changed:
            each.changed = False
        self._changed, self._final = [], []
        return _frame(rows, self._query.changes)

    def snapshot(self) -> pl.DataFrame:
        """The open intervals as partial states; taken after `take_changes`.

        Rows with 0 in _rows are none: they say until when a source keeps a length that has been changed.
        """
        self._count()
        rows = [self._state(interval) for interval in self._open.values()]
        width = len(self._query.schema) - len(self._others) - 4
        rows += [(*self._others, *each, 0, *[None] * width) for each in self.lengths.remembered()]
        return _frame(rows, self._query.schema)

    @staticmethod
    def _state(each: _Interval) -> tuple[Any, ...]:
        values = [found and found.values() for found in each.collections]
        sketches = [found and found.sketch() for found in each.collections]
        return (*each.keys, each.source, each.start, each.seconds, each.rows, *each.numbers, *values, *sketches)

    def restore(self, snapshot: pl.DataFrame) -> int:
        """Take up a snapshot; what is open is finished as it was begun, also where the length has been changed.

        A measure that the snapshot lacks starts again. Intervals without one of the keys cannot be taken up: returns
        how many these are.
        """
        self._open, self._places, self._next = {}, {}, {}
        self._changed, self._final, self._waiting, self._rows_waiting = [], [], [], 0
        known = snapshot.filter(pl.col("_rows") > 0)
        if not set(self.aggregate.keys) <= set(snapshot.columns):
            self.lengths = Lengths(self.aggregate.seconds)
            return len(known)
        self.lengths = Lengths.of(snapshot, self.aggregate.seconds)
        self._fold(self._query.completed(known))
        for interval in self._changed:
            interval.changed = False
        self._changed = []
        return 0


def _frame(rows: list[tuple[Any, ...]], schema: pl.Schema) -> pl.DataFrame:
    """Rows as a frame, by columns: much quicker than by rows."""
    columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else ([] for _ in schema)
    return pl.DataFrame([_series(name, values, schema[name]) for name, values in zip(schema, columns, strict=True)])


def _series(name: str, values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    """A column. Lists are laid end to end first: Polars looks at lists of Python one by one, ten times as slowly."""
    if not isinstance(dtype, pl.List):
        return pl.Series(name, values, dtype=dtype)
    places = [place for place, value in enumerate(values) if value is not None]
    there = [values[place] for place in places]
    items = pl.Series(list(chain.from_iterable(there)), dtype=dtype.inner)
    ends = pa.array(np.cumsum([0, *map(len, there)], dtype=np.int64))
    lists = pl.Series(name, pl.from_arrow(pa.LargeListArray.from_arrays(ends, items.to_arrow())), dtype=dtype)
    if len(there) == len(values):
        return lists
    rows = np.zeros(len(values), np.uint32)
    rows[places] = np.arange(1, len(there) + 1)
    return pl.concat([pl.Series(name, [None], dtype=dtype), lists]).gather(rows)


def _order(keys: Iterable[Any]) -> Iterator[tuple[bool, Any]]:
    """Keys for sorting, null first."""
    return ((key is not None, 0 if key is None else key) for key in keys)


class _Query:
    """How records become partial states."""

    def __init__(self, aggregate: Aggregate, stream: Stream) -> None:
        self._source = source = stream.source or "partition"
        known = {**stream.schema, **POSITION, "score": pl.Float32(), "prediction": pl.Int8()}
        self._conditions: dict[str, tuple[str, pl.Expr]] = {}
        self._where = None if aggregate.where is None else pl.sql_expr(aggregate.where)
        parts = [part_of(measure, known, self._condition) for measure in aggregate.measures]
        self.names = [part.name for part in parts]
        self.numbers = [number for part in parts for number in part.numbers]
        self.collected = [part.collected for part in parts if part.collected]
        measured = [measure.column for measure in aggregate.measures if hasattr(measure, "column")]
        looked_up = [pl.col(measured)] if measured else []
        looked_up += [expression for _, expression in self._conditions.values()]
        looked_up += [] if self._where is None else [self._where]
        roots = [name for expression in looked_up for name in expression.meta.root_names()]
        #: The columns of the records that are needed.
        self.columns = list(dict.fromkeys([*aggregate.keys, source, "event_time", *measured, *roots]))
        keys = {name: known[name] for name in aggregate.keys}
        place = {"source": pl.String(), "start": pl.Int64()}
        self.schema = pl.Schema(
            {
                **keys, **place, "_seconds": pl.Int64(), "_rows": pl.Int64(),
                **{number.name: number.dtype for number in self.numbers},
                **{collected.name: collected.dtype for collected in self.collected},
                **{f"{collected.name}__sketch": pl.Binary() for collected in self.collected},
            }
        )  # fmt: skip
        self.changes = pl.Schema(
            {**keys, **place, "end": pl.Int64(), **{part.name: part.dtype for part in parts}, "final": pl.Boolean()}
        )
        numbers = len(keys) + 4
        values = numbers + len(self.numbers)
        #: How the value of each measure is made: from which numbers and from which collection.
        self.values: list[tuple[Callable[..., Any], int, int, int | None]] = []
        first = collections = 0
        for part in parts:
            last = first + len(part.numbers)
            self.values.append((part.value, first, last, collections if part.collected else None))
            first, collections = last, collections + (part.collected is not None)
        self._place = list(dict.fromkeys([*keys, source, "_start"]))
        self._measured = [pl.len().cast(pl.Int64).alias("_rows")]
        self._measured += [number.query.alias(number.name) for number in self.numbers]
        self._measured += [collected.query.alias(collected.name) for collected in self.collected]
        self._shown = (
            [*map(pl.col, keys), pl.col(source).cast(pl.String).alias("source"), pl.col("_start").alias("start")],
            [expression.meta.output_name() for expression in self._measured],
        )
        #: How many keys, and where numbers, values and sketches begin in a row.
        self.places = (len(keys), numbers, values, values + len(self.collected))

    def _condition(self, sql: str) -> pl.Expr:
        """The column in which a condition is evaluated, once for all measures."""
        name, _ = self._conditions.setdefault(sql, (f"_where{len(self._conditions)}", pl.sql_expr(sql)))
        return pl.col(name)

    def grouped(self, records: pl.DataFrame, lengths: Lengths) -> pl.DataFrame:
        """The partial states of some records, all values in lists: without the columns of sketches."""
        rows = records.lazy() if self._where is None else records.lazy().filter(self._where)
        rows = lengths.place(rows, self._source)
        if self._conditions:
            rows = rows.with_columns(expression.alias(name) for name, expression in self._conditions.values())
        seconds = "_seconds" if lengths.before else pl.lit(lengths.seconds, pl.Int64).alias("_seconds")
        grouped = rows.group_by([*self._place, "_seconds"] if lengths.before else self._place).agg(self._measured)
        return grouped.select(*self._shown[0], seconds, *self._shown[1]).collect(engine="in-memory")

    def condensed(self, groups: pl.DataFrame) -> pl.DataFrame:
        """The same with sketches in place of the lists that are longer than what is kept exactly."""
        sketches = []
        for collected in self.collected:
            many = (groups[collected.name].list.len() > collected.exact).arg_true().to_list()
            made: list[bytes | None] = [None] * len(groups)
            for row in many:
                collection = collected.begin()
                collection.take(groups[collected.name][row].to_list())
                made[row] = collection.sketch()
            sketch = pl.Series(f"{collected.name}__sketch", made, dtype=pl.Binary())
            kept = pl.when(pl.lit(sketch).is_null()).then(pl.col(collected.name))
            groups = groups.with_columns(kept) if many else groups
            sketches.append(sketch)
        return groups.with_columns(sketches)

    def completed(self, snapshot: pl.DataFrame) -> pl.DataFrame:
        """A snapshot with all columns of the partial states, in order; what it lacks is nothing."""
        lacks = [pl.lit(None, dtype).alias(name) for name, dtype in self.schema.items() if name not in snapshot.columns]
        zero = [pl.col(number.name).fill_null(0) for number in self.numbers]
        return snapshot.with_columns(lacks).select(self.schema.names()).cast(self.schema).with_columns(zero)
