"""What aggregates of the pipeline become in the store: windows have a table of their own, the others share one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from hackwatch.pipeline.clocks import OTHERS
from hackwatch.pipeline.core import Changed
from hackwatch.store.base import AGGREGATES_SCHEMA, WINDOWS_SCHEMA
from hackwatch.store.rows import indexed, to_json
from hackwatch.streams.declarations import WINDOWS, Aggregate

__all__ = [
    "UPSERT_AGGREGATE",
    "UPSERT_WINDOW",
    "aggregate_rows",
    "rows_of_aggregates",
    "rows_of_windows",
    "window_rows",
]

UPSERT_WINDOW = (
    "INSERT INTO windows "
    "(site, stream, entity, source, window_start, window_end, records, suspects, count, final, made) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (site, stream, entity, source, window_start, window_end) DO UPDATE SET records = excluded.records, "
    "suspects = excluded.suspects, count = excluded.count, final = excluded.final, made = excluded.made"
)
UPSERT_AGGREGATE = (
    "INSERT INTO aggregates (site, stream, aggregate, keys, source, start_time, end_time, measures, final, made) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (site, stream, aggregate, keys, source, start_time, end_time) DO UPDATE SET "
    "measures = excluded.measures, final = excluded.final, made = excluded.made"
)


def window_rows(changed: Sequence[Changed]) -> pl.DataFrame:
    """The windows among what has changed, as WINDOWS_SCHEMA."""
    frames = [WINDOWS_SCHEMA.to_frame()]
    for one in changed:
        if one.aggregate.name == WINDOWS:
            named = one.rows.with_columns(
                pl.lit(one.aggregate.stream).alias("stream"),
                pl.col(one.aggregate.keys[0]).fill_null(OTHERS).alias("entity"),
            )
            frames.append(named.select(pl.col(column).cast(kind) for column, kind in WINDOWS_SCHEMA.items()))
    return pl.concat(frames)


def aggregate_rows(changed: Sequence[Changed]) -> pl.DataFrame:
    """All other aggregates among what has changed, as AGGREGATES_SCHEMA."""
    rows = [
        _row(one.aggregate, row)
        for one in changed
        if one.aggregate.name != WINDOWS
        for row in one.rows.iter_rows(named=True)
    ]
    return pl.DataFrame(rows, schema=AGGREGATES_SCHEMA, orient="row")


def _row(aggregate: Aggregate, row: Mapping[str, Any]) -> tuple[Any, ...]:
    keys = {name: row[name] for name in aggregate.keys}
    measures = {measure.name: row[measure.name] for measure in aggregate.measures}
    place = row["source"], row["start"], row["end"]
    return aggregate.stream, aggregate.name, to_json(keys), *place, to_json(measures), row["final"]


def rows_of_windows(site: str, windows: pl.DataFrame, made: float) -> list[tuple[Any, ...]]:
    """Rows for UPSERT_WINDOW. `made`: Unix seconds."""
    return _parameters(site, windows, WINDOWS_SCHEMA, ("entity", "source"), made)


def rows_of_aggregates(site: str, aggregates: pl.DataFrame, made: float) -> list[tuple[Any, ...]]:
    """Rows for UPSERT_AGGREGATE. `made`: Unix seconds."""
    return _parameters(site, aggregates, AGGREGATES_SCHEMA, ("keys", "source"), made)


def _parameters(
    site: str, frame: pl.DataFrame, schema: pl.Schema, texts: Sequence[str], made: float
) -> list[tuple[Any, ...]]:
    columns = {name: frame[name].cast(kind).to_list() for name, kind in schema.items()}
    for name in texts:
        columns[name] = [indexed(text) for text in columns[name]]
    columns["final"] = [int(final) for final in columns["final"]]
    return list(zip([site] * frame.height, *columns.values(), [made] * frame.height, strict=True))
