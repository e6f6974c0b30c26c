"""How long intervals are, for each source: a changed setting begins where nothing of the old one is cut.

What is open is finished under the length that it was begun with, and so are the records before the *switch*: the first
common boundary of both lengths at or after the end of the source's latest open interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby

import polars as pl

__all__ = ["Lengths"]

_SECOND = 1_000_000
#: A common boundary that is further away is not waited for: seconds.
_DAY = 86_400


class Lengths:
    """The length of new intervals, and per source those before it.

    `before`: source -> (until, seconds) in order: records earlier than `until` (Unix seconds) have intervals of
    `seconds`. A source that is not named there has intervals of `seconds` alone.
    """

    def __init__(self, seconds: int, before: dict[str, list[tuple[int, int]]] | None = None) -> None:
        self.seconds, self.before = seconds, before or {}

    @classmethod
    def of(cls, snapshot: pl.DataFrame, seconds: int) -> Lengths:
        """Those that follow from open intervals. `snapshot`: source, start, _seconds, _rows (0: `remembered`)."""
        places = snapshot.select("source", "start", "_seconds", pl.col("_rows") == 0).unique()
        other = places.filter((pl.col("_seconds") != seconds) | pl.col("_rows"))
        if other.is_empty():
            return cls(seconds)
        places = places.join(other.select("source").unique(), on="source", how="semi")
        rows = places.sort("source", "start", "_seconds").iter_rows()
        found = {source: _switches([each[1:] for each in mine], seconds) for source, mine in groupby(rows, _first)}
        return cls(seconds, {source: switches for source, switches in found.items() if switches})

    def remembered(self) -> Iterator[tuple[str, int, int]]:
        """(source, start, seconds) of intervals that would end at each switch, for `of` of a later run."""
        for source, switches in self.before.items():
            for until, seconds in switches:
                yield source, until - seconds, seconds

    def pass_by(self, source: str, mark: int) -> None:
        """Forget the switches that the watermark (microseconds) of a source has passed: no record is earlier."""
        if source in self.before:
            left = [switch for switch in self.before[source] if switch[0] * _SECOND > mark]
            self.before[source] = left
            if not left:
                del self.before[source]

    def end(self, source: str, mark: int) -> int:
        """The time (microseconds) before which no interval of a record at or after `mark` ends."""
        lengths = [self.seconds, *(seconds for _, seconds in self.before.get(source, ()))]
        return min(_end(mark, seconds) for seconds in lengths)

    def place(self, records: pl.LazyFrame, source: str) -> pl.LazyFrame:
        """Add _start and _seconds of each record's interval, without the latter where no length has been changed.

        `source`: the column that names the source.
        """
        time = pl.col("event_time").to_physical()
        if not self.before:
            return records.with_columns((time // (self.seconds * _SECOND) * self.seconds).alias("_start"))
        switches = [(until * _SECOND, each, seconds) for each, mine in self.before.items() for until, seconds in mine]
        schema = {"_until": pl.Int64(), "_source": pl.String(), "_seconds": pl.Int64()}
        known = pl.LazyFrame(sorted(switches), schema, orient="row")
        placed = records.with_columns(time.alias("_time"), pl.col(source).cast(pl.String).alias("_source"))
        seconds = pl.col("_seconds").fill_null(self.seconds)
        return (
            placed.sort("_time")
            .join_asof(
                known, left_on="_time", right_on="_until", by="_source", strategy="forward",
                allow_exact_matches=False, check_sortedness=False,
            )
            .with_columns(seconds)
            .with_columns((pl.col("_time") // (pl.col("_seconds") * _SECOND) * pl.col("_seconds")).alias("_start"))
            .drop("_time", "_until", "_source", strict=False)
        )  # fmt: skip


def _end(time: int, seconds: int) -> int:
    """The end of the interval that holds a time (microseconds, both)."""
    length = seconds * _SECOND
    return (time // length + 1) * length


def _first(row: tuple[str, int, int, bool]) -> str:
    return row[0]


def _switches(places: list[tuple[int, int, bool]], seconds: int) -> list[tuple[int, int]]:
    """(until, seconds) of one source's earlier lengths. `places`: (start, seconds, remembered) in order of start."""
    runs = []
    for length, run in groupby(places, lambda place: place[1]):
        mine = list(run)
        ends = [start + length for start, _, remembered in mine if remembered]
        runs.append((max(ends or [start + length for start, _, _ in mine]), length))
    lengths = [*(length for _, length in runs), seconds]
    return [
        (_switch(end, length, following), length)
        for (end, length), following in zip(runs, lengths[1:], strict=True)
        if length != following
    ]


def _switch(end: int, old: int, new: int) -> int:
    """The first common boundary of two lengths at or after `end`, of the new one alone if those are too rare."""
    common = math.lcm(old, new)
    step = common if common <= _DAY else new
    return -(-end // step) * step
