"""What one query has done, in the store: each of its batches counts once, and a repeated one is repeated exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from hackwatch.alerts.alert import Alert, AlertUpdate
from hackwatch.counts import Counts
from hackwatch.errors import DataError
from hackwatch.pipeline.core import Changed, Now
from hackwatch.store.aggregates import aggregate_rows, window_rows
from hackwatch.store.commits import BatchEntry, EpochCommit, OffsetRange
from hackwatch.store.protocols import CheckpointStore

__all__ = ["DRIVER", "QueryCheckpoint"]

Place = tuple[str, str, int]
#: In place of the name of Spark's query: batches that the driver plans.
DRIVER = "spool"
#: In place of a topic: a batch without messages, only time passes.
TICK = "(time)"


class QueryCheckpoint:
    """The store's side of one query: `<pipeline>/<query>` there, with epochs that count its batches from 1.

    Before a batch writes anything, what it depends on beside its messages (wall clock, engine time, versions of models)
    is logged; with its commit the state after it is kept. Spark gives a repeated batch the same messages, so it does
    the same. Between Spark's batches there may be ticks: epochs without messages, of which Spark knows nothing.
    """

    def __init__(self, checkpoints: CheckpointStore, pipeline: str, query: str) -> None:
        self._pipeline, self.query, self.name = pipeline, query, f"{pipeline}/{query}"
        #: Tells the batches of this query from those of another store's in the lake.
        self.application = f"{self.name}@{checkpoints.identity}"
        self._checkpoints = checkpoints
        found = checkpoints.latest(self.name)
        self.epoch, self.elapsed = (found.epoch, found.elapsed) if found else (0, 0.0)
        self.state: dict[str, Any] = orjson.loads(found.states["state"]) if found and found.states else {}
        self.totals: dict[Place, Counts] = dict(found.accounting) if found else {}
        self._parts = dict(found.states) if found else {}
        self._offsets: dict[Place, int] = dict(found.offsets) if found else {}
        self._logged = {entry.epoch: entry for entry in (found.batches if found else ())}
        #: The last batch of Spark that is done. (A version without ticks counted batches as epochs.)
        self._batch = int(self.state.get("batch", self.epoch - 1))
        #: The name of Spark's query, DRIVER where there is none.
        self.spark_query = str(self.state.get("spark_query", DRIVER))
        self._at_work = self._batch, self.spark_query

    @property
    def offsets(self) -> Mapping[Place, int]:
        """(stream, topic, partition) -> the position behind what is done."""
        return self._offsets

    def logged(self, epoch: int) -> BatchEntry | None:
        """What was logged of a batch that is not done."""
        return self._logged.get(epoch)

    def begin(
        self,
        batch: int | None,
        spark_query: str,
        now: Now,
        models: Mapping[str, str],
        ranges: tuple[OffsetRange, ...] = (),
        waiting: tuple[tuple[str, int], ...] = (),
    ) -> BatchEntry | None:
        """Log a batch, or take up what was logged of it; None if it is done. Raises DataError (another checkpoint).

        `batch`: Spark's number of it, None: planned here. `ranges`: its messages, where Spark does not keep them.
        `waiting`: (stream, partition) that have further ones.
        """
        if batch is not None:
            self._check(batch, spark_query)
            if batch <= self._batch:
                return None
        epoch = self.epoch + 1
        entry = self._logged.pop(epoch, None)
        if entry is None:
            entry = BatchEntry(epoch, epoch, now.wall, now.elapsed, ranges, dict(models), waiting)
            self._checkpoints.log_batches(self.name, [entry])
        self._at_work = self._batch if batch is None else batch, spark_query
        return entry

    def tick(self, stream: str, now: Now, models: Mapping[str, str]) -> BatchEntry:
        """Log that time has come to `now` without messages, or take up what was logged."""
        entry = self.begin(None, self.spark_query, now, models, (OffsetRange(stream, TICK, 0, 0, 0),))
        assert entry is not None
        return entry

    def _check(self, batch: int, spark_query: str) -> None:
        """Whether store and checkpoint belong together: otherwise batches would be taken for others."""
        if self.state.get("spark_query", spark_query) != spark_query:
            raise DataError(
                f"the store knows another checkpoint of {self.name} than the one Spark uses now",
                where=f"query {self.query}",
                next_step="put the checkpoint folder back, or give the settings another `pipeline` name: topics are "
                "then read from their start",
            )
        if batch > self._batch + 1:
            raise DataError(
                f"Spark's checkpoint is at batch {batch}, the store at {self._batch + 1}: they do not belong together",
                where=f"query {self.query}",
                next_step="put the store back, or move the checkpoints away: topics are then read from their start",
            )

    def tick_logged(self) -> bool:
        """Whether a batch without messages was logged, and is not done."""
        entry = self._logged.get(self.epoch + 1)
        return entry is not None and any(part.topic == TICK for part in entry.ranges)

    @property
    def parts(self) -> Mapping[str, bytes]:
        """Further parts of the state, as they were committed."""
        return self._parts

    def tell(self, alerts: Sequence[Alert], updates: Sequence[AlertUpdate]) -> None:
        """Write alerts with their outbox messages, and what has changed of earlier ones."""
        if alerts or updates:
            self._checkpoints.log_batches(self._pipeline, (), alerts, updates)

    def commit(
        self,
        entry: BatchEntry,
        state: Mapping[str, Any],
        committed_at: float,
        *,
        changed: Sequence[Changed] = (),
        offsets: Mapping[Place, int] | None = None,
        counts: Mapping[Place, Counts] | None = None,
        parts: Mapping[str, bytes] | None = None,
    ) -> None:
        """The batch is done: its aggregates, offsets and totals, and the state from which the next one goes on.

        It may be tried again if the store fails.
        """
        batch, spark_query = self._at_work
        totals = {place: total.copy() for place, total in self.totals.items()}
        for place, added in (counts or {}).items():
            totals.setdefault(place, Counts()).add(added)
        self._offsets |= offsets or {}
        self.state = {**state, "spark_query": spark_query, "batch": batch}
        self._checkpoints.commit_epoch(
            self.name,
            EpochCommit(
                epoch=entry.epoch,
                last_batch=entry.number,
                elapsed=entry.elapsed,
                offsets=self._offsets,
                states={**(parts or {}), "state": orjson.dumps(self.state)},
                windows=window_rows(changed),
                aggregates=aggregate_rows(changed),
                accounting=totals,
                committed_at=committed_at,
            ),
        )
        self.totals, self._parts, self.elapsed = totals, dict(parts or {}), entry.elapsed
        self._batch, self.spark_query = batch, spark_query
        self.epoch = entry.epoch
