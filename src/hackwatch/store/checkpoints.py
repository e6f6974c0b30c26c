"""Checkpoints: the log of micro-batches, and the epochs from which an engine goes on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import orjson

from hackwatch.alerts.alert import Alert, AlertUpdate
from hackwatch.errors import InternalError
from hackwatch.store.accounting import Accounting
from hackwatch.store.alerts import UPDATE_ALERT, insert_alerts, update_row
from hackwatch.store.commits import BatchEntry, Checkpoint, EpochCommit, OffsetRange
from hackwatch.store.database import Database, Transaction, take_turn
from hackwatch.store.locks import PipelineLocks
from hackwatch.store.outbox import Outbox
from hackwatch.store.schema import identity
from hackwatch.store.states import States
from hackwatch.store.values import to_json
from hackwatch.store.windows import Windows

__all__ = ["Checkpoints"]

_INSERT_BATCH = (
    "INSERT INTO batch (pipeline, number, epoch, wall, elapsed, ranges, models, waiting) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (pipeline, number) DO NOTHING"
)
_DELETE_BATCHES = "DELETE FROM batch WHERE pipeline = ? AND number <= ?"
_UPSERT_POSITION = (
    "INSERT INTO position (pipeline, stream, topic, partition_number, next_offset) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (pipeline, stream, topic, partition_number) DO UPDATE SET next_offset = excluded.next_offset"
)
_UPSERT_PIPELINE = (
    "INSERT INTO pipeline (pipeline, epoch, last_batch, elapsed, committed_at) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (pipeline) DO UPDATE SET epoch = excluded.epoch, last_batch = excluded.last_batch, "
    "elapsed = excluded.elapsed, committed_at = excluded.committed_at"
)


class Checkpoints:
    """What an engine needs of the store (`hackwatch.store.protocols.CheckpointStore`), written through its other parts.

    Batches and epochs count from 1. Everything may be written again after a crash: the same call twice is the same as
    once.
    """

    def __init__(
        self,
        database: Database,
        locks: PipelineLocks,
        accounting: Accounting,
        windows: Windows,
        outbox: Outbox,
    ) -> None:
        self._database, self._locks = database, locks
        self._accounting, self._windows, self._outbox = accounting, windows, outbox
        self._states = States(database, locks)
        self._epoch_lock = threading.Lock()

    @property
    def identity(self) -> str:
        """A name that no other store has: epochs that a new store counts from 1 are not those of the one before."""
        return identity(self._database)

    def latest(self, pipeline: str) -> Checkpoint | None:
        """The last committed epoch (0: none yet) and what was logged after it; None for a new pipeline."""
        with self._database.read() as transaction:
            heads = transaction.fetch("SELECT epoch, last_batch, elapsed FROM pipeline WHERE pipeline = ?", (pipeline,))
            epoch, last_batch, elapsed = heads[0] if heads else (0, 0, 0.0)
            # What was logged again after its commit does not count, and goes with the next one.
            batches = _batches(transaction, pipeline, last_batch if heads else -1)
            if not (heads or batches):
                return None
            return Checkpoint(
                epoch=epoch,
                last_batch=last_batch,
                elapsed=elapsed,
                offsets=_offsets(transaction, pipeline),
                states=self._states.read(transaction, pipeline, epoch),
                accounting=self._accounting.read(transaction, pipeline),
                batches=batches,
            )

    def log_batches(
        self,
        pipeline: str,
        batches: Sequence[BatchEntry],
        alerts: Sequence[Alert] = (),
        updates: Sequence[AlertUpdate] = (),
    ) -> None:
        """Log micro-batches and write their alerts, updates and outbox at once; known ids stay as they are."""
        logged = [_batch_row(pipeline, batch) for batch in batches]
        changed = [update_row(update) for update in updates]
        with self._locks.write(pipeline) as transaction:
            transaction.execute_many(_INSERT_BATCH, logged)
            if alerts:
                self._outbox.add(transaction, pipeline, insert_alerts(transaction, self._database.dialect, alerts))
            transaction.execute_many(UPDATE_ALERT, changed)

    def commit_epoch(self, pipeline: str, commit: EpochCommit) -> None:
        """Commit an epoch in one transaction and drop the batch log up to its last batch.

        An epoch that is committed already is left as it is; InternalError if one between is missing.
        """
        with self._epoch_lock:
            with self._database.read() as transaction:
                if not _is_next(transaction, pipeline, commit.epoch):
                    return
            ahead = self._states.large(commit.states)
            if ahead:
                self._states.write_ahead(pipeline, commit.epoch, commit.states)
            upserts = self._windows.upserts(commit)
            with self._locks.write(pipeline) as transaction:
                take_turn(transaction, self._database.dialect, f"epoch of {pipeline}")
                if not _is_next(transaction, pipeline, commit.epoch):
                    return
                if not ahead:
                    self._states.write(transaction, pipeline, commit.epoch, commit.states)
                for sql, rows in upserts:
                    transaction.execute_many(sql, rows)
                self._accounting.write(transaction, pipeline, commit.accounting)
                _write_head(transaction, pipeline, commit)
            self._states.drop_before(pipeline, commit.epoch)
            self._database.tidy()


def _batch_row(pipeline: str, batch: BatchEntry) -> tuple[Any, ...]:
    ranges = [[part.stream, part.topic, part.partition, part.start, part.end] for part in batch.ranges]
    return (
        pipeline,
        batch.number,
        batch.epoch,
        batch.wall,
        batch.elapsed,
        to_json(ranges),
        to_json(batch.models),
        to_json(batch.waiting),
    )


def _batches(transaction: Transaction, pipeline: str, after: int) -> tuple[BatchEntry, ...]:
    rows = transaction.fetch(
        "SELECT number, epoch, wall, elapsed, ranges, models, waiting FROM batch "
        "WHERE pipeline = ? AND number > ? ORDER BY number",
        (pipeline, after),
    )
    return tuple(
        BatchEntry(
            number,
            epoch,
            wall,
            elapsed,
            tuple(OffsetRange(*part) for part in orjson.loads(ranges)),
            orjson.loads(models),
            tuple((stream, partition) for stream, partition in orjson.loads(waiting or "[]")),
        )
        for number, epoch, wall, elapsed, ranges, models, waiting in rows
    )


def _offsets(transaction: Transaction, pipeline: str) -> dict[tuple[str, str, int], int]:
    rows = transaction.fetch(
        "SELECT stream, topic, partition_number, next_offset FROM position WHERE pipeline = ?", (pipeline,)
    )
    return {(stream, topic, partition): offset for stream, topic, partition, offset in rows}


def _is_next(transaction: Transaction, pipeline: str, epoch: int) -> bool:
    rows = transaction.fetch("SELECT epoch FROM pipeline WHERE pipeline = ?", (pipeline,))
    current = rows[0][0] if rows else 0
    if epoch > current + 1 or epoch < 1:
        raise InternalError(
            f"epoch {epoch} cannot follow epoch {current}: epochs are committed one after the other, from 1",
            where=f"pipeline {pipeline}",
        )
    return bool(epoch > current)


def _write_head(transaction: Transaction, pipeline: str, commit: EpochCommit) -> None:
    """Positions and number of an epoch; its part of the log is no longer needed."""
    positions = [(pipeline, *place, offset) for place, offset in commit.offsets.items()]
    transaction.execute_many(_UPSERT_POSITION, positions)
    head = (pipeline, commit.epoch, commit.last_batch, commit.elapsed, commit.committed_at)
    transaction.execute(_UPSERT_PIPELINE, head)
    transaction.execute(_DELETE_BATCHES, (pipeline, commit.last_batch))
