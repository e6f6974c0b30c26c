"""Scored records as JSON messages for others to read: the same columns whichever engine made them."""

from __future__ import annotations

import polars as pl

from hackwatch.streams.base import Stream

__all__ = ["IDENTITY", "enriched"]

#: What names a record: a consumer that keeps the last positions it has seen can drop repeats by these fields.
IDENTITY = ("topic", "partition", "offset", "index")

#: Columns of the lake's layout, no part of the record.
_LAYOUT = ("date",)


def enriched(stream: Stream, records: pl.DataFrame) -> pl.DataFrame:
    """Columns `key` (the entity) and `value` (one JSON object a record), both String, in the order of the records.

    `records`: what goes to the lake table of the stream: its schema, `score`, `prediction`, `rules`, `late`, those
    of its panel, and if they are there `topic`, `partition`, `offset`, `index`, `processing_time`, `epoch`, `site`. All
    of them become fields, and `stream` with them. Times are ISO 8601 in UTC (`event_time` beside `ts` in Unix seconds);
    null, NaN and infinity become null.
    """
    columns = [name for name in records.columns if name not in _LAYOUT]
    fields = [pl.lit(stream.name).alias("stream"), *columns]
    return records.select(key=pl.col(stream.entity), value=pl.struct(fields).struct.json_encode())
