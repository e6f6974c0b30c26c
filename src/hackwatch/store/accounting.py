"""Accounting: the totals of every topic partition since the pipeline began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple

import polars as pl

from hackwatch.counts import COUNTERS, Counts
from hackwatch.store.conditions import Conditions
from hackwatch.store.database import Database, Transaction

__all__ = ["Accounting"]

_COLUMNS = ", ".join(COUNTERS)
_UPSERT = (
    f"INSERT INTO accounting (pipeline, stream, topic, partition_number, {_COLUMNS}) "
    f"VALUES (?, ?, ?, ?{', ?' * len(COUNTERS)}) ON CONFLICT (pipeline, stream, topic, partition_number) "
    f"DO UPDATE SET {', '.join(f'{counter} = excluded.{counter}' for counter in COUNTERS)}"
)


class Accounting:
    """Absolute totals by (stream, topic, partition): part of every checkpoint, and read by people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def totals(self, pipeline: str | None = None) -> pl.DataFrame:
        """Of a pipeline or of all: pipeline, stream, topic, partition, next_offset (null: nothing read), COUNTERS."""
        conditions = Conditions()
        conditions.add("a.pipeline = ?", pipeline)
        key = ("pipeline", "stream", "topic", "partition_number")
        join = " AND ".join(f"p.{column} = a.{column}" for column in key)
        sql = (
            f"SELECT {', '.join(f'a.{column}' for column in key)}, p.next_offset, {_COLUMNS} "
            f"FROM accounting a LEFT JOIN position p ON {join}"
            f"{conditions.where} ORDER BY 1, 2, 3, 4"
        )
        texts = {name: pl.String() for name in ("pipeline", "stream", "topic")}
        numbers = {name: pl.Int64() for name in ("partition", "next_offset", *COUNTERS)}
        with self._database.read() as transaction:
            return pl.DataFrame(transaction.fetch(sql, conditions.values), schema={**texts, **numbers}, orient="row")

    def read(self, transaction: Transaction, pipeline: str) -> dict[tuple[str, str, int], Counts]:
        """The totals of a pipeline, as its engine goes on from them."""
        rows = transaction.fetch(
            f"SELECT stream, topic, partition_number, {_COLUMNS} FROM accounting WHERE pipeline = ?", (pipeline,)
        )
        return {(row[0], row[1], row[2]): Counts(*row[3:]) for row in rows}

    def write(self, transaction: Transaction, pipeline: str, totals: Mapping[tuple[str, str, int], Counts]) -> None:
        """Replace the totals of these partitions."""
        rows = [(pipeline, *place, *astuple(counts)) for place, counts in totals.items()]
        transaction.execute_many(_UPSERT, rows)
