"""What a data file holds, for readers that skip files: least and greatest values, nulls, rows.

Source: Delta transaction log protocol, "Per-file Statistics". A wrong bound would hide rows, so a bound that
cannot be said exactly enough is left out, and the file is then always read.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import polars as pl

__all__ = ["combine", "summarise", "to_json"]

# Longer texts give no bounds: a cut greatest value would have to be rounded up, and readers differ in how they
# compare beyond the cut.
_LONGEST = 64
# Text columns worth a bound; others (raw messages, reasons, identities made of two columns) are never ranges.
_TEXTS = frozenset({"machine", "CMD", "stream", "topic", "reason"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def summarise(frame: pl.DataFrame) -> pl.DataFrame:
    """One row: `rows`, and per column `null:`, `least:`, `greatest:` (null: no bound)."""
    columns: list[pl.Expr] = [pl.len().cast(pl.Int64).alias("rows")]
    for name, kind in frame.schema.items():
        if kind.is_nested():
            continue
        column = pl.col(name)
        columns.append(column.null_count().cast(pl.Int64).alias(f"null:{name}"))
        if kind.is_numeric() or kind.is_temporal() or name in _TEXTS:
            columns += [column.min().alias(f"least:{name}"), column.max().alias(f"greatest:{name}")]
        if kind.is_float():
            # Not a number is greater than everything to some readers and nothing at all to others.
            columns.append(column.is_nan().any().alias(f"unbounded:{name}"))
        elif kind == pl.String() and name in _TEXTS:
            columns.append((column.str.len_bytes() > _LONGEST).any().alias(f"unbounded:{name}"))
    return frame.select(columns)


def combine(summaries: list[pl.DataFrame]) -> pl.DataFrame:
    """The summary of several parts together; a column that a part lacks is null in all its rows."""
    rows = pl.concat(summaries, how="diagonal")
    columns = []
    for name in rows.columns:
        what, _, column = name.partition(":")
        if what == "rows":
            columns.append(pl.col(name).sum())
        elif what == "null":
            columns.append(pl.coalesce(name, "rows").sum().alias(name))
        elif what == "least":
            columns.append(pl.col(name).min())
        elif what == "greatest":
            columns.append(pl.col(name).max())
        else:
            columns.append(pl.col(f"unbounded:{column}").any())
    return rows.select(columns)


def to_json(summary: pl.DataFrame) -> str:
    """The summary as the Delta log wants it."""
    row = summary.row(0, named=True)
    nulls = {name[5:]: value for name, value in row.items() if name.startswith("null:")}
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    for column in nulls:
        low, high = row.get(f"least:{column}"), row.get(f"greatest:{column}")
        if low is None or high is None or row.get(f"unbounded:{column}"):
            continue
        bounds = _bounds(low, high)
        if bounds is not None:
            least[column], greatest[column] = bounds
    content = {"numRecords": row["rows"], "minValues": least, "maxValues": greatest, "nullCount": nulls}
    return orjson.dumps(content).decode()


def _bounds(low: Any, high: Any) -> tuple[Any, Any] | None:
    """The bounds as JSON values, rounded outwards; None if JSON cannot hold them."""
    if isinstance(low, float):
        if not (math.isfinite(low) and math.isfinite(high)):
            return None
        # Both zeros are equal, but readers that order bits take -0.0 for the lesser.
        return (low or -0.0, high + 0.0)
    if isinstance(low, datetime):
        return _milliseconds(low, up=False), _milliseconds(high, up=True)
    if isinstance(low, timedelta):
        return None
    return low, high


def _milliseconds(moment: datetime, *, up: bool) -> str:
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    milliseconds = -(-microseconds // 1000) if up else microseconds // 1000
    return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
