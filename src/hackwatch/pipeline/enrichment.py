"""enrich: fills the columns of a stream that its messages do not hold, before anything judges a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from hackwatch.streams.base import Stream
from hackwatch.streams.declarations import Enricher, StatefulEnricher

__all__ = ["Enrichment", "added", "completed"]


class Enrichment:
    """What fills the columns of one stream: pure enrichers with their tables, then the `stateful` ones.

    Called with decoded records, it gives them with all columns of the stream's schema, in its order, and what else they
    had behind. A column that nobody fills is null: one whose enricher lacks a table, or fails, and those of stateful
    enrichers, which are filled later in offset order (`pipeline.enriching`). Columns that are there stay as they are.
    `problems`: by the name of an enricher, how it failed first.
    """

    def __init__(
        self,
        stream: Stream,
        enrichers: Sequence[Enricher] = (),
        tables: Mapping[str, pl.DataFrame] | None = None,
        stateful: Sequence[StatefulEnricher] = (),
    ) -> None:
        self.stream, self.tables, self.stateful = stream, dict(tables or {}), tuple(stateful)
        self._enrichers = [one for one in enrichers if set(one.tables) <= set(self.tables)]
        self.problems: dict[str, str] = {}

    def __call__(self, records: pl.DataFrame) -> pl.DataFrame:
        for enricher in self._enrichers:
            if not set(enricher.adds) <= set(records.columns):
                try:
                    new = added(enricher.adds, enricher.apply(records, self.tables), len(records))
                    records = records.drop(enricher.adds.names(), strict=False).hstack(new)
                except Exception as error:  # a third party's: no message may end the engine
                    self.problems.setdefault(enricher.name, f"{type(error).__name__}: {error}")
        return completed(self.stream, records)


def added(adds: pl.Schema, given: pl.DataFrame, rows: int) -> list[pl.Series]:
    """The columns that an enricher adds, of what it gave. ValueError if it did not give one a record."""
    if len(given) != rows:
        raise ValueError(f"{len(given)} rows for {rows} records")
    return [given.get_column(name).cast(kind) for name, kind in adds.items()]


def completed(stream: Stream, records: pl.DataFrame) -> pl.DataFrame:
    """The records with all columns of the stream in their order, null where they had none, and the rest behind."""
    names = stream.schema.names()
    if records.columns[: len(names)] == names:
        return records
    nothing = pl.Series([None], dtype=pl.Null)
    columns = [
        records.get_column(name)
        if name in records.columns
        else nothing.cast(kind).new_from_index(0, len(records)).alias(name)
        for name, kind in stream.schema.items()
    ]
    return pl.DataFrame([*columns, *(column for column in records if column.name not in stream.schema)])
