"""By brute force, what a pipeline must make of the complete records of any family: lateness, windows, pairs, measures.

Plain Python over rows, one at a time, by the declarations alone; conditions are asked of SQLite. A `Day` has the scored
records of each partition in offset order; a row is a dict of normalised columns with `event_time` in microseconds since
the Unix epoch, and `prediction`. Nothing here knows a batch, a watermark of a stream, or an order between partitions.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest

from hackwatch.streams.declarations import (
    Aggregate,
    Correlation,
    Count,
    Distinct,
    Mean,
    Measure,
    Quantile,
    Share,
    Sum,
    Top,
)
from hackwatch.streams.stream import Stream

__all__ = ["Day", "Place", "Row", "Window", "agrees", "groups", "late", "merged", "on_time", "pairs", "windows"]

Row = Mapping[str, Any]
#: (stream, partition).
Place = tuple[str, int]
#: The rows of each partition, in offset order.
Day = Mapping[Place, Sequence[Row]]
#: (partition, offset): where a row stands among those of its stream.
Position = tuple[int, int]

LATENESS = 20_000_000
_RANK_ERROR = 0.03


def late(rows: Sequence[Row], source: str | None, lateness: int = LATENESS) -> list[bool]:
    """Of the rows of one partition: late is what is more than `lateness` behind the newest before it of its source."""
    found: list[bool] = []
    newest: dict[Any, int] = {}
    for row in rows:
        clock, time = None if source is None else row[source], row["event_time"]
        found.append(clock in newest and time < newest[clock] - lateness)
        newest[clock] = max(time, newest.get(clock, time))
    return found


def on_time(day: Day, stream: Stream, lateness: int = LATENESS) -> list[tuple[Position, Row]]:
    """The rows of a stream that are not late, each with its position."""
    return [
        ((partition, offset), row)
        for (name, partition), rows in day.items()
        if name == stream.name
        for offset, (row, behind) in enumerate(zip(rows, late(rows, stream.source, lateness), strict=True))
        if not behind
    ]


@dataclass
class Window:
    """What is counted of one entity in one window."""

    records: int = 0
    suspects: int = 0
    identities: set[str] = field(default_factory=set)

    @property
    def values(self) -> tuple[int, int, int]:
        """Records, suspects, distinct suspects."""
        return self.records, self.suspects, len(self.identities)


def windows(day: Day, stream: Stream, seconds: int) -> dict[tuple[str, str | None, int], Window]:
    """The windows of each (entity, source, start in Unix seconds)."""
    found: dict[tuple[str, str | None, int], Window] = defaultdict(Window)
    for _, row in on_time(day, stream):
        source = None if stream.source is None else row[stream.source]
        window = found[row[stream.entity], source, start_of(row, seconds)]
        window.records += 1
        if row["prediction"]:
            window.suspects += 1
            window.identities.add(row[stream.identity])
    return dict(found)


def merged(found: Mapping[tuple[str, str | None, int], Window]) -> dict[tuple[str, int], Window]:
    """The same of each (entity, start), whoever's clock it was."""
    whole: dict[tuple[str, int], Window] = defaultdict(Window)
    for (entity, _, start), window in found.items():
        one = whole[entity, start]
        one.records += window.records
        one.suspects += window.suspects
        one.identities |= window.identities
    return dict(whole)


def start_of(row: Row, seconds: int) -> int:
    """The start of the interval that a row falls into, Unix seconds."""
    return int(row["event_time"]) // 1_000_000 // seconds * seconds


def pairs(day: Day, correlation: Correlation, left: Stream, right: Stream) -> list[tuple[Position, Position]]:
    """The positions of all suspects, left and right, with equal keys and less than so many seconds apart; sorted."""
    reach = round(correlation.seconds * 1e6)
    suspects = [[(at, row) for at, row in on_time(day, side) if row["prediction"]] for side in (left, right)]
    return sorted(
        (at, to)
        for (at, one), (to, other) in product(*suspects)
        if abs(one["event_time"] - other["event_time"]) < reach
        and all(one[key] is not None and one[key] == other[key] for key in correlation.keys)
    )


#: The rows of a group of an aggregate: what its measures are taken of.
Groups = dict[tuple[Any, ...], list[Row]]


def groups(day: Day, aggregate: Aggregate, stream: Stream) -> Groups:
    """The rows of each (*keys, source, start)."""
    found: Groups = defaultdict(list)
    for row in chosen([row for _, row in on_time(day, stream)], aggregate.where):
        source = None if stream.source is None else row[stream.source]
        found[(*(row[key] for key in aggregate.keys), source, start_of(row, aggregate.seconds))].append(row)
    return dict(found)


def chosen(rows: Sequence[Row], condition: str | None) -> list[Row]:
    """The rows for which a condition (SQL over their columns) is true."""
    if condition is None or not rows:
        return list(rows)
    names = [name for name in rows[0] if not isinstance(rows[0][name], list)]
    quoted = ", ".join(f'"{name}"' for name in names)
    with sqlite3.connect(":memory:") as database:
        database.execute(f"CREATE TABLE rows (number, {quoted})")
        values = ((number, *(row[name] for name in names)) for number, row in enumerate(rows))
        database.executemany(f"INSERT INTO rows VALUES ({', '.join('?' * (len(names) + 1))})", values)
        found = database.execute(f"SELECT number FROM rows WHERE ({condition}) ORDER BY number").fetchall()
    database.close()
    return [rows[number] for (number,) in found]


def agrees(measure: Measure, found: Any, rows: Sequence[Row]) -> bool:
    """Whether a value is that of a measure of these rows: of sums to rounding, of quantiles within the rank's error."""
    rows = chosen(rows, measure.where)
    if isinstance(measure, Count):
        return bool(found == len(rows))
    if isinstance(measure, Share):
        return _near(found, len(chosen(rows, measure.of)) / len(rows) if rows else None)
    values = [value for row in rows if (value := row[measure.column]) is not None]
    if isinstance(measure, Sum):
        return _near(found, float(sum(values)))
    if isinstance(measure, Mean):
        return _near(found, sum(values) / len(values) if values else None)
    if isinstance(measure, Distinct):
        return bool(found == len(set(values)))  # these tests stay below `exact`
    if isinstance(measure, Top):
        return _is_top(found, Counter(values), measure.most)
    return _are_quantiles(found, values, measure)


def _near(found: float | None, expected: float | None) -> bool:
    return found is expected if expected is None else bool(found == pytest.approx(expected, rel=1e-9))


def _is_top(found: Iterable[Mapping[str, Any]], counted: Counter[Any], most: int) -> bool:
    """Of values that occur equally often any may be named, but their numbers are as they are, and so is the rest."""
    listed = {entry["value"]: entry["count"] for entry in found}
    rest = listed.pop(None, 0)
    expected = sorted(counted.values(), reverse=True)
    return (
        sorted(listed.values(), reverse=True) == expected[:most]
        and all(counted[value] == number for value, number in listed.items())
        and rest == sum(expected[most:])
    )


def _are_quantiles(
    found: Sequence[float] | None, values: Sequence[float], measure: Quantile, error: float = 0.03
) -> bool:
    if not values:
        return not found
    size = len(values)
    slack = _RANK_ERROR + 1 / size  # whichever of two neighbours is taken

    def fits(value: float, at: float) -> bool:
        below, upto = sum(one < value for one in values), sum(one <= value for one in values)
        return below / size - slack <= at <= upto / size + slack

    return found is not None and len(found) == len(measure.at) and all(map(fits, found, measure.at))
