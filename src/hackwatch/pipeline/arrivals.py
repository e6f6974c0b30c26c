"""What each source sent to each partition in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

__all__ = ["SMALL_ROWS", "Arrival", "arrivals", "arrivals_of_few", "few"]

#: Batches up to this size are looked at record by record, without a query.
SMALL_ROWS = 512


@dataclass(slots=True)
class Arrival:
    """Event times (microseconds) of one source in one partition: extremes, and those of its last record and its row."""

    partition: int
    source: str
    least: int
    greatest: int
    last: int
    row: int


def few(rows: int) -> bool:
    """Whether a query over so many rows would cost more than looking at each of them."""
    return rows <= SMALL_ROWS


def arrivals_of_few(partitions: Sequence[int], sources: Sequence[str], times: Sequence[int]) -> Sequence[Arrival]:
    """By partition and source, in the order of their first records, without a query."""
    found: dict[tuple[int, str], Arrival] = {}
    for row, (partition, source, time) in enumerate(zip(partitions, sources, times, strict=True)):
        one = found.get((partition, source))
        if one is None:
            found[(partition, source)] = Arrival(partition, source, time, time, time, row)
            continue
        one.last, one.row = time, row
        if time > one.greatest:
            one.greatest = time
        elif time < one.least:
            one.least = time
    return list(found.values())


def arrivals(rows: pl.DataFrame) -> Sequence[Arrival]:
    """By partition and source, in the order of their first records. `rows`: partition, source, time (int64)."""
    time, row = pl.col("time"), pl.col("row")
    grouped = (
        rows.with_row_index("row")
        .lazy()
        .group_by("partition", "source")
        .agg(
            time.min().alias("least"),
            time.max().alias("greatest"),
            time.last().alias("last"),
            row.last().cast(pl.Int64),
            row.first().alias("first"),
        )
        .sort("first")
        .drop("first")
        .collect(engine="in-memory")
    )
    return [Arrival(*values) for values in grouped.iter_rows()]
