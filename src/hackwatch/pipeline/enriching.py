"""Stateful enrichers: run in offset order of each partition, their states part of the epoch's.

Detection may run in several threads and ahead of the state: a micro-batch in flight is detected before an epoch is cut
to which it does not belong. So it leaves the records of a stream with such enrichers unscored. The step of the pipeline
takes micro-batches one by one and in order; it lets them pass their enrichers first, and has them scored then. What it
snapshots at the end of an epoch has seen the records of that epoch, and no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from hackwatch.pipeline.detection import Scored
from hackwatch.pipeline.enrichment import added
from hackwatch.streams.declarations import EnricherState, StatefulEnricher

__all__ = ["Enriching"]

_PREFIX = "enricher"
#: A stream, the name of an enricher, a partition.
_Place = tuple[str, str, int]


class Enriching:
    """The stateful enrichers by stream, with a state for each partition. `problems`: how one failed first, by name."""

    def __init__(self, enrichers: Mapping[str, Sequence[StatefulEnricher]] | None = None) -> None:
        self._enrichers = dict(enrichers or {})
        self._states: dict[_Place, EnricherState] = {}
        self._saved: dict[_Place, bytes] = {}
        self.problems: dict[str, str] = {}

    def finish(self, scored: Scored) -> Scored:
        """What detection left open: enrich in order and score. Each partition's messages come in offset order."""
        if scored.pending is None:
            return scored
        return replace(scored, records=scored.pending(self.enrich(scored.stream, scored.records)), pending=None)

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
            return added(enricher.adds, state.step(records), len(records))
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
