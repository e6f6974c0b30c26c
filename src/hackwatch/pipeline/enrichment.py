"""enrich: fills the columns of a stream that its messages do not hold, before anything judges a record.

Pure enrichers run where records are decoded. Stateful ones run in offset order of each partition, their states part of
the epoch's: detection may run in several threads and ahead of the state, as a micro-batch in flight is detected before
an epoch is cut to which it does not belong. So it leaves the records of a stream with such enrichers unscored. The step
of the pipeline takes micro-batches one by one and in order; it lets them pass their enrichers first, and has them
scored then. What it snapshots at the end of an epoch has seen the records of that epoch, and no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from hackwatch.streams.declarations import Enricher, EnricherState, StatefulEnricher
from hackwatch.streams.stream import Stream

__all__ = ["Enrichment", "StatefulEnrichment", "completed"]


_PREFIX = "enricher"
#: A stream, the name of an enricher, a partition.
_Place = tuple[str, str, int]


class Enrichment:
    """What fills the columns of one stream: pure enrichers with their tables, then the `stateful` ones.

    Called with decoded records, it gives them with all columns of the stream's schema, in its order, and what else they
    had behind. A column that nobody fills is null: one whose enricher lacks a table, or fails, and those of stateful
    enrichers, which are filled later in offset order (StatefulEnrichment). Columns that are there stay as they are.
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
                    new = _added(enricher.adds, enricher.apply(records, self.tables), len(records))
                    records = records.drop(enricher.adds.names(), strict=False).hstack(new)
                except Exception as error:  # a third party's: no message may end the engine
                    self.problems.setdefault(enricher.name, f"{type(error).__name__}: {error}")
        return completed(self.stream, records)


class StatefulEnrichment:
    """The stateful enrichers by stream, with a state for each partition. `problems`: how one failed first, by name."""

    def __init__(self, enrichers: Mapping[str, Sequence[StatefulEnricher]] | None = None) -> None:
        self._enrichers = dict(enrichers or {})
        self._states: dict[_Place, EnricherState] = {}
        self._saved: dict[_Place, bytes] = {}
        self.problems: dict[str, str] = {}

    def enrich(self, stream: str, records: pl.DataFrame) -> pl.DataFrame:
        """The records with the columns of the stream's stateful enrichers."""
        for enricher in self._enrichers.get(stream, ()):
            records = self._filled(enricher, records)
        return records

    def _filled(self, enricher: StatefulEnricher, records: pl.DataFrame) -> pl.DataFrame:
        partition = records["partition"].to_numpy()
        groups = [np.flatnonzero(partition == number) for number in np.unique(partition)]
        if not groups:
            return records
        parts = [pl.DataFrame(self._step(enricher, int(partition[mine[0]]), records[mine])) for mine in groups]
        whole = pl.concat(parts)[np.argsort(np.concatenate(groups))]
        filled = records.clone()
        for column in whole:
            filled.replace_column(filled.get_column_index(column.name), column)
        return filled

    def _step(self, enricher: StatefulEnricher, partition: int, records: pl.DataFrame) -> list[pl.Series]:
        """The columns of one partition's records; null if the enricher fails, as the stream has them already."""
        try:
            state = self._state(enricher, partition)
            return _added(enricher.adds, state.step(records), len(records))
        except Exception as error:  # a third party's: no message may end the engine
            self.problems.setdefault(enricher.name, f"{type(error).__name__}: {error}")
            return records.select(enricher.adds.names()).get_columns()

    def _state(self, enricher: StatefulEnricher, partition: int) -> EnricherState:
        place = (enricher.stream, enricher.name, partition)
        if place not in self._states:
            self._states[place] = enricher.build(self._saved.pop(place, None))
        return self._states[place]

    def snapshot(self) -> dict[str, bytes]:
        """All states by name, also of those that this run has not asked for yet."""
        states = self._saved | {place: state.snapshot() for place, state in self._states.items()}
        return {"/".join((_PREFIX, *map(str, place))): saved for place, saved in states.items()}

    def restore(self, states: Mapping[str, bytes]) -> None:
        """Take up the states of a snapshot; names of other things are passed over."""
        self._states = {}
        self._saved = {}
        for name, saved in states.items():
            kind, *place = name.split("/")
            if kind == _PREFIX and len(place) == 3:
                self._saved[place[0], place[1], int(place[2])] = saved


def _added(adds: pl.Schema, given: pl.DataFrame, rows: int) -> list[pl.Series]:
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
