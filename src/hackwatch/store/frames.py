"""The store's tables as people ask for them in SQL: times as timestamps, states in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from hackwatch.counts import COUNTERS
from hackwatch.store.database import Database
from hackwatch.store.outbox import OUTBOX_STATE

__all__ = ["FRAMES", "batches", "frame"]

_TIME = pl.Datetime("us", "UTC")
_TEXT, _INTEGER, _FLAG = pl.String(), pl.Int64(), pl.Boolean()


@dataclass(frozen=True, slots=True)
class _Table:
    """A table to show: where its rows come from, and per shown column the type and (if named otherwise) the source."""

    source: str
    columns: Mapping[str, pl.DataType]
    renamed: Mapping[str, str]

    @property
    def frame_schema(self) -> pl.Schema:
        return pl.Schema(self.columns)

    @property
    def sql(self) -> str:
        return f"SELECT {', '.join(self.renamed.get(name, name) for name in self.columns)} FROM {self.source}"


def _texts(*names: str) -> dict[str, pl.DataType]:
    return dict.fromkeys(names, _TEXT)


def _times(*names: str) -> dict[str, pl.DataType]:
    return dict.fromkeys(names, _TIME)


def _integers(*names: str) -> dict[str, pl.DataType]:
    return dict.fromkeys(names, _INTEGER)


#: A window is that of all its sources together.
_MERGED = (
    "(SELECT site, stream, entity, window_start, window_end, CAST(sum(records) AS BIGINT) AS records, "
    "CAST(sum(suspects) AS BIGINT) AS suspects, CAST(sum(count) AS BIGINT) AS count, min(final) AS final "
    "FROM windows GROUP BY site, stream, entity, window_start, window_end) AS windows"
)

#: Tables of the store that `frame` gives. JSON columns of alerts are text.
FRAMES: Mapping[str, _Table] = {
    "windows": _Table(
        _MERGED,
        {
            **_texts("site", "stream", "entity"),
            **_times("start_time", "end_time"),
            **_integers("records", "suspects", "count"),
            "final": _FLAG,
        },
        {"start_time": "window_start", "end_time": "window_end"},
    ),
    "aggregates": _Table(
        "aggregates",
        {
            **_texts("site", "stream", "aggregate", "keys", "source"),
            **_times("start_time", "end_time"),
            **_texts("measures"),
            "final": _FLAG,
        },
        {},
    ),
    "alerts": _Table(
        "alerts",
        {
            **_integers("sequence"),
            **_texts("id"),
            **_times("created", "first_seen", "last_seen"),
            **_texts("site", "kind", "stream", "entity", "subject", "rule", "title", "severity"),
            **_integers("risk", "count"),
            **_texts("technique", "tactic", "status", "handled_by"),
            **_times("handled_at"),
            **_texts("note", "subjects", "drivers", "evidence", "causes", "models"),
        },
        {},
    ),
    "accounting": _Table(
        "accounting",
        {**_texts("pipeline", "stream", "topic"), **_integers("partition", *COUNTERS)},
        {"partition": "partition_number"},
    ),
    "outbox": _Table(
        "outbox",
        {
            **_integers("id"),
            **_texts("alert_id", "route", "state"),
            **_times("created", "due", "done"),
            **_integers("attempts"),
            **_texts("error"),
        },
        {"state": OUTBOX_STATE},
    ),
    "mutes": _Table(
        "mutes",
        {
            **_integers("id"),
            **_texts("rule", "entity"),
            **_times("until", "created"),
            **_texts("created_by", "reason"),
        },
        {"until": "until_time"},
    ),
    "pipelines": _Table(
        "pipeline",
        {**_texts("pipeline"), **_integers("epoch", "last_batch"), **_times("committed_at")},
        {},
    ),
}


def frame(database: Database, name: str) -> pl.DataFrame:
    """One of FRAMES, whole."""
    table = FRAMES[name]
    with database.read() as transaction:
        return _shown(table, transaction.fetch(table.sql))


def batches(database: Database, name: str, rows: int = 8_192) -> Iterator[pl.DataFrame]:
    """The same, so many rows at a time, all of one consistent state."""
    table = FRAMES[name]
    return (_shown(table, some) for some in database.stream(table.sql, rows=rows))


def _shown(table: _Table, rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    raw = {column: _raw(kind) for column, kind in table.columns.items()}
    shown = [
        (pl.col(column) * 1_000_000).round().cast(_INTEGER).cast(kind) if kind == _TIME else pl.col(column).cast(kind)
        for column, kind in table.columns.items()
    ]
    return pl.DataFrame(rows, schema=raw, orient="row").select(shown)


def _raw(kind: pl.DataType) -> pl.DataType:
    """How the database hands a column over: times as seconds, flags as integers."""
    if kind == _TIME:
        return pl.Float64()
    return _INTEGER if kind == _FLAG else kind
