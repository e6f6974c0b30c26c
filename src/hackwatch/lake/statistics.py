"""What a data file holds, for readers that skip files: least and greatest values, nulls, rows.

Source: Delta transaction log protocol, "Per-file Statistics". A wrong bound would hide rows. So would a missing one
where readers expect it: delta-rs, as an Arrow dataset, compares with null then. So the table's property
`delta.dataSkippingStatsColumns` names the columns that have statistics, in every file: whole numbers, times and some
texts. Fractions have none, for JSON has no infinity, and readers do not agree on whether not-a-number is greater than
all; nor have columns that joined the table later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import polars as pl

from hackwatch import streams
from hackwatch.lake.schema import PARTITIONS

__all__ = ["bounded", "combine", "summarise", "texts_of", "to_json"]

# Longer texts are cut, the greatest then rounded up.
_LONGEST = 64
_LAST = chr(0x10FFFF)
# Texts of rejected messages worth a bound; others (raw messages) are never ranges.
_TEXTS = ("stream", "topic", "reason")
_TIME = pl.Datetime("us", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def texts_of(table: str) -> frozenset[str]:
    """The text columns of a table that have statistics: those that its stream or correlation declares as bounded."""
    return frozenset({*_TEXTS, *streams.bounded(table)})


def bounded(schema: Mapping[str, pl.DataType], texts: Collection[str] = _TEXTS) -> list[str]:
    """The columns of a new table that have statistics, in all its files; of its texts, those that are named."""
    return [
        name
        for name, kind in schema.items()
        # The list is kept as text with commas in the table's properties.
        if name.isidentifier()
        and name not in PARTITIONS
        and (kind.is_integer() or kind in (pl.Date(), _TIME) or (kind == pl.String() and name in texts))
    ]


def summarise(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """One row: `rows`, and per column `null:`, `least:`, `greatest:`. A column that the frame lacks is all null."""
    rows = pl.len().cast(pl.Int64)
    found = [rows.alias("rows")]
    for name in columns:
        if name not in frame.columns:
            found.append(rows.alias(f"null:{name}"))
            continue
        column = pl.col(name)
        found += [
            column.null_count().cast(pl.Int64).alias(f"null:{name}"),
            column.min().alias(f"least:{name}"),
            column.max().alias(f"greatest:{name}"),
        ]
    return frame.select(found)


def combine(summaries: list[pl.DataFrame]) -> pl.DataFrame:
    """The summary of several parts together."""
    rows = pl.concat(summaries, how="diagonal")
    columns = []
    for name in rows.columns:
        what = name.partition(":")[0]
        if what in ("rows", "null"):
            columns.append(pl.col(name).sum())
        elif what == "least":
            columns.append(pl.col(name).min())
        else:
            columns.append(pl.col(name).max())
    return rows.select(columns)


def to_json(summary: pl.DataFrame) -> str:
    """The summary as the Delta log wants it."""
    row = summary.row(0, named=True)
    nulls = {name[5:]: value for name, value in row.items() if name.startswith("null:")}
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    for column in nulls:
        low, high = row.get(f"least:{column}"), row.get(f"greatest:{column}")
        if low is not None and high is not None:
            least[column], greatest[column] = _bounds(low, high)
    content = {"numRecords": row["rows"], "minValues": least, "maxValues": greatest, "nullCount": nulls}
    return orjson.dumps(content).decode()


def _bounds(low: Any, high: Any) -> tuple[Any, Any]:
    """The bounds as JSON values, rounded outwards."""
    if isinstance(low, datetime):
        return _milliseconds(low, up=False), _milliseconds(high, up=True)
    if isinstance(low, str):
        return low[:_LONGEST], _rounded_up(high)
    return low, high


def _rounded_up(text: str) -> str:
    """The text, or when it is long a shorter one that is greater (by code point, as UTF-8 bytes compare)."""
    if len(text) <= _LONGEST:
        return text
    cut = text[:_LONGEST].rstrip(_LAST)
    if not cut:
        return text
    following = ord(cut[-1]) + 1
    # Surrogates are no characters.
    return cut[:-1] + chr(0xE000 if following == 0xD800 else following)


def _milliseconds(moment: datetime, *, up: bool) -> str:
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    milliseconds = -(-microseconds // 1000) if up else microseconds // 1000
    return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
