"""What one query of Spark has done, in the store: each batch counts once, and a repeated one is repeated exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import polars as pl

from hackwatch.errors import DataError
from hackwatch.pipeline.alert import Alert, AlertUpdate
from hackwatch.pipeline.core import Counts
from hackwatch.store.base import WINDOWS_SCHEMA, BatchEntry, EngineStore, EpochCommit, OffsetRange

__all__ = ["Ledger", "Window"]

Place = tuple[str, str, int]
Window = tuple[str, str, int, int, int, int, int, bool]


class Ledger:
    """The store's side of one query: `<pipeline>/<query>` there, epoch n is Spark's batch n - 1.

    Before a batch writes anything, what it depends on beside its messages (wall clock, versions of models) is logged;
    with its commit the state after it is kept. Spark gives a repeated batch the same messages, so it does the same.
    """

    def __init__(self, store: EngineStore, pipeline: str, query: str) -> None:
        self._pipeline, self.query, self.name = pipeline, query, f"{pipeline}/{query}"
        #: Tells the batches of this query from those of another store's in the lake.
        self.application = f"{self.name}@{store.identity}"
        self._store = store
        found = store.checkpoint(self.name)
        self.epoch = found.epoch if found else 0
        self.state: dict[str, Any] = orjson.loads(found.states["state"]) if found and found.states else {}
        self.totals: dict[Place, Counts] = {
            place: Counts(**counts) for place, counts in (found.accounting if found else {}).items()
        }
        self._parts = dict(found.states) if found else {}
        self._offsets: dict[Place, int] = dict(found.offsets) if found else {}
        self._logged = {entry.epoch: entry for entry in (found.batches if found else ())}

    @property
    def offsets(self) -> Mapping[Place, int]:
        """(stream, topic, partition) -> the position behind what is done."""
        return self._offsets

    def logged(self, epoch: int) -> BatchEntry | None:
        """What was logged of a batch that is not done."""
        return self._logged.get(epoch)

    def begin(
        self,
        batch: int,
        spark_query: str,
        wall: float,
        models: Mapping[str, str],
        ranges: tuple[OffsetRange, ...] = (),
    ) -> BatchEntry | None:
        """Log a batch, or take up what was logged of it; None if it is done. Raises DataError (another checkpoint).

        `ranges`: its messages, where Spark does not keep them.
        """
        epoch = batch + 1
        self._check(epoch, spark_query)
        if epoch <= self.epoch:
            return None
        entry = self._logged.pop(epoch, None)
        if entry is None:
            entry = BatchEntry(epoch, epoch, wall, 0.0, ranges, dict(models))
            self._store.log_batches(self.name, [entry])
        return entry

    def _check(self, epoch: int, spark_query: str) -> None:
        """Whether store and checkpoint belong together: otherwise batches would be taken for others."""
        known = self.state.get("spark_query", spark_query)
        if known != spark_query:
            raise DataError(
                f"the store knows another checkpoint of {self.name} than the one Spark uses now",
                where=f"query {self.query}",
                next_step="put the checkpoint folder back, or give the settings another `pipeline` name: topics are "
                "then read from their start",
            )
        if epoch > self.epoch + 1:
            raise DataError(
                f"Spark's checkpoint is at batch {epoch}, the store at {self.epoch}: they do not belong together",
                where=f"query {self.query}",
                next_step="put the store back, or move the checkpoints away: topics are then read from their start",
            )

    def part(self, name: str) -> bytes | None:
        """A further part of the state, as it was committed."""
        return self._parts.get(name)

    def tell(self, alerts: Sequence[Alert], updates: Sequence[AlertUpdate]) -> None:
        """Write alerts with their outbox messages, and what has changed of earlier ones."""
        if alerts or updates:
            self._store.log_batches(self._pipeline, (), alerts, updates)

    def commit(
        self,
        entry: BatchEntry,
        spark_query: str,
        state: Mapping[str, Any],
        committed_at: float,
        *,
        windows: Sequence[Window] = (),
        offsets: Mapping[Place, int] | None = None,
        counts: Mapping[Place, Counts] | None = None,
        parts: Mapping[str, bytes] | None = None,
    ) -> None:
        """The batch is done: its windows, offsets and totals, and the state from which the next one goes on.

        It may be tried again if the store fails.
        """
        totals = {place: total.copy() for place, total in self.totals.items()}
        for place, added in (counts or {}).items():
            totals.setdefault(place, Counts()).add(added)
        self._offsets |= offsets or {}
        self.state = {**state, "spark_query": spark_query}
        self._store.commit_epoch(
            self.name,
            EpochCommit(
                epoch=entry.epoch,
                last_batch=entry.number,
                elapsed=0.0,
                offsets=self._offsets,
                states={**(parts or {}), "state": orjson.dumps(self.state)},
                windows=pl.DataFrame(windows, schema=WINDOWS_SCHEMA, orient="row"),
                accounting={
                    place: {name: getattr(total, name) for name in Counts.__slots__} for place, total in totals.items()
                },
                committed_at=committed_at,
            ),
        )
        self.epoch, self.totals = entry.epoch, totals
