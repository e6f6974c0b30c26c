"""Windows and the intervals of all other aggregates, as engines count them and people ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from hackwatch.store.aggregates import AGGREGATES_SCHEMA, WINDOWS_SCHEMA
from hackwatch.store.commits import EpochCommit
from hackwatch.store.conditions import Conditions
from hackwatch.store.database import Database
from hackwatch.store.values import indexed

__all__ = ["Windows"]

_UPSERT_WINDOW = (
    "INSERT INTO windows "
    "(site, stream, entity, source, window_start, window_end, records, suspects, count, final, made) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (site, stream, entity, source, window_start, window_end) DO UPDATE SET records = excluded.records, "
    "suspects = excluded.suspects, count = excluded.count, final = excluded.final, made = excluded.made"
)
_UPSERT_AGGREGATE = (
    "INSERT INTO aggregates (site, stream, aggregate, keys, source, start_time, end_time, measures, final, made) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (site, stream, aggregate, keys, source, start_time, end_time) DO UPDATE SET "
    "measures = excluded.measures, final = excluded.final, made = excluded.made"
)
Upsert = tuple[str, list[tuple[Any, ...]]]


class Windows:
    """Absolute values of every interval. `site` names where those written through it were counted."""

    def __init__(self, database: Database, site: str) -> None:
        self._database, self._site = database, site

    def upserts(self, commit: EpochCommit) -> list[Upsert]:
        """What an epoch writes of them: statements, each with its rows, to be executed in the epoch's transaction."""
        made = commit.committed_at
        return [
            (_UPSERT_WINDOW, self._rows(commit.windows, WINDOWS_SCHEMA, ("entity", "source"), made)),
            (_UPSERT_AGGREGATE, self._rows(commit.aggregates, AGGREGATES_SCHEMA, ("keys", "source"), made)),
        ]

    def _rows(self, frame: pl.DataFrame, schema: pl.Schema, texts: Sequence[str], made: float) -> list[tuple[Any, ...]]:
        columns = {name: frame[name].cast(kind).to_list() for name, kind in schema.items()}
        for name in texts:
            columns[name] = [indexed(text) for text in columns[name]]
        columns["final"] = [int(final) for final in columns["final"]]
        return list(zip([self._site] * frame.height, *columns.values(), [made] * frame.height, strict=True))

    def find(
        self,
        *,
        stream: str | None = None,
        entity: str | None = None,
        since: float | None = None,
        until: float | None = None,
        final: bool | None = None,
        site: str | None = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """Windows with `since <= start < until` in the order of start: `site`, then WINDOWS_SCHEMA without `source`.

        Those of all sources of an entity are one, final when all are. With `limit`, the latest ones.
        """
        conditions = Conditions()
        for column, value in (("site", site), ("stream", stream), ("entity", entity)):
            conditions.add(f"{column} = ?", value)
        conditions.add("window_start >= ?", since)
        conditions.add("window_start < ?", until)
        having = "" if final is None else f" HAVING min(final) = {int(final)}"
        sql = (
            "SELECT site, stream, entity, window_start, window_end, "
            "CAST(sum(records) AS BIGINT), CAST(sum(suspects) AS BIGINT), CAST(sum(count) AS BIGINT), min(final) "
            f"FROM windows{conditions.where} GROUP BY site, stream, entity, window_start, window_end{having} "
            "ORDER BY window_start DESC, site, stream, entity"
        )
        if limit is not None:
            sql, conditions.values = f"{sql} LIMIT ?", [*conditions.values, limit]
        with self._database.read() as transaction:
            rows = transaction.fetch(sql, conditions.values)
        schema = {"site": pl.String(), **WINDOWS_SCHEMA, "final": pl.Int64()}
        del schema["source"]
        frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("final").cast(pl.Boolean))
        return frame.sort("start", "site", "stream", "entity")
