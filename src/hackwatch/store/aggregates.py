"""Aggregates of the pipeline as the store takes them: windows have a table of their own, the others share one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from hackwatch.pipeline.clocks import OTHERS
from hackwatch.pipeline.core import Changed
from hackwatch.store.values import to_json
from hackwatch.streams.declarations import WINDOWS, Aggregate

__all__ = ["AGGREGATES_SCHEMA", "WINDOWS_SCHEMA", "aggregate_rows", "window_rows"]

#: Windows as the pipeline hands them over: absolute values, upserted by (site, stream, entity, source, start, end).
#: start/end: Unix seconds UTC. records: on-time rows; suspects: rows with prediction 1; count: distinct identities.
#: source: whose records these are; a window is that of all its sources together.
WINDOWS_SCHEMA = pl.Schema(
    {
        "stream": pl.String(),
        "entity": pl.String(),
        "source": pl.String(),
        "start": pl.Int64(),
        "end": pl.Int64(),
        "records": pl.Int64(),
        "suspects": pl.Int64(),
        "count": pl.Int64(),
        "final": pl.Boolean(),
    }
)

#: Intervals of all other aggregates: `keys` and `measures` are JSON objects.
AGGREGATES_SCHEMA = pl.Schema(
    {
        "stream": pl.String(),
        "aggregate": pl.String(),
        "keys": pl.String(),
        "source": pl.String(),
        "start": pl.Int64(),
        "end": pl.Int64(),
        "measures": pl.String(),
        "final": pl.Boolean(),
    }
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
