"""What each source sent to each partition in a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

__all__ = [
    "ARRIVALS",
    "SMALL_ROWS",
    "Arrival",
    "arrivals",
    "arrivals_of_few",
    "count_late",
    "few",
    "from_frame",
    "joined",
    "to_frame",
]

#: Arrivals as a table.
ARRIVALS = pl.Schema(
    {
        "partition": pl.Int64(),
        "source": pl.String(),
        "least": pl.Int64(),
        "greatest": pl.Int64(),
        "row": pl.Int64(),
        "clock": pl.Int64(),
        "late": pl.Int64(),
        "skew": pl.Float64(),
    }
)

#: Batches up to this size are looked at record by record, without a query.
SMALL_ROWS = 512


@dataclass(slots=True)
class Arrival:
    """Event times (microseconds) of one source in one partition: extremes, and the row of its last record.

    `clock`: the greatest of all that it has sent there, once it is known.
    `late`: how many of its records are late. `skew`: by how many seconds its clock differs from the others' (0: it does
    not), None where that was not looked at, or too few others are there to compare it with.
    """

    partition: int
    source: str
    least: int
    greatest: int
    row: int
    clock: int = 0
    late: int = 0
    skew: float | None = None

    def follow(self, later: Arrival) -> None:
        """Add what came later of the same source in the same partition."""
        self.least, self.greatest = min(self.least, later.least), max(self.greatest, later.greatest)
        self.clock, self.row, self.late = later.clock, later.row, self.late + later.late
        self.skew = self.skew if later.skew is None else later.skew


def few(rows: int) -> bool:
    """Whether a query over so many rows would cost more than looking at each of them."""
    return rows <= SMALL_ROWS


def arrivals_of_few(partitions: Sequence[int], sources: Sequence[str], times: Sequence[int]) -> Sequence[Arrival]:
    """By partition and source, in the order of their first records, without a query."""
    found: dict[tuple[int, str], Arrival] = {}
    for row, (partition, source, time) in enumerate(zip(partitions, sources, times, strict=True)):
        one = found.get((partition, source))
        if one is None:
            found[(partition, source)] = Arrival(partition, source, time, time, row)
            continue
        one.row = row
        if time > one.greatest:
            one.greatest = time
        elif time < one.least:
            one.least = time
    return list(found.values())


def arrivals(rows: pl.DataFrame) -> Sequence[Arrival]:
    """By partition and source, in the order of their first records. `rows`: partition, source, time (int64)."""
    if rows.is_empty():
        return []
    grouped = (
        _runs(rows)
        .lazy()
        .group_by("partition", "source", maintain_order=True)
        .agg(pl.col("least").min(), pl.col("greatest").max(), pl.col("row").last())
        .collect(engine="in-memory")
    )
    return [Arrival(*values) for values in grouped.rows()]


def _runs(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of one partition and source that follow each other, as one: of many sources there are few such runs.

    Columns: partition, source, least and greatest time, row (the last).
    """
    partition, time, source = rows["partition"].to_numpy(), rows["time"].to_numpy(), rows["source"]
    other = (source[1:] != source[:-1]).to_numpy() | (partition[1:] != partition[:-1])
    first = np.concatenate(([0], np.flatnonzero(other) + 1))
    return pl.DataFrame(
        {
            "partition": partition[first],
            "source": source[first],
            "least": np.minimum.reduceat(time, first),
            "greatest": np.maximum.reduceat(time, first),
            "row": np.append(first[1:], len(rows)) - 1,
        }
    )


def count_late(rows: pl.DataFrame, seen: Sequence[Arrival]) -> None:
    """Count the late records of what has arrived. `rows`: partition, source of each late record."""
    counts = {(part, name): number for part, name, number in rows.group_by("partition", "source").len().iter_rows()}
    for one in seen:
        one.late = counts.get((one.partition, one.source), 0)


def joined(seen: Iterable[Arrival]) -> list[Arrival]:
    """One arrival for each partition and source, of several that came one after the other."""
    found: dict[tuple[int, str], Arrival] = {}
    for one in seen:
        place = (one.partition, one.source)
        if place in found:
            found[place].follow(one)
        else:
            found[place] = one
    return list(found.values())


def to_frame(seen: Iterable[Arrival]) -> pl.DataFrame:
    """Arrivals as ARRIVALS."""
    rows = [tuple(getattr(one, name) for name in ARRIVALS) for one in seen]
    return pl.DataFrame(rows, ARRIVALS, orient="row")


def from_frame(frame: pl.DataFrame) -> list[Arrival]:
    """What `to_frame` was given."""
    return [Arrival(*values) for values in frame.select(ARRIVALS.names()).iter_rows()]
