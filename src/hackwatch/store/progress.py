"""The engine's side of the store: batches, epochs, states and windows."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import orjson

from hackwatch.alerts.alert import Alert, AlertUpdate
from hackwatch.errors import InternalError
from hackwatch.store.aggregates import UPSERT_AGGREGATE, UPSERT_WINDOW, rows_of_aggregates, rows_of_windows
from hackwatch.store.base import BatchEntry, Checkpoint, EpochCommit, OffsetRange
from hackwatch.store.holding import PipelineLease
from hackwatch.store.rows import Mute, insert_alerts, to_json, to_row
from hackwatch.store.schema import COUNTERS, Database, Lock, Transaction

__all__ = ["Progress"]

# Snapshots up to this size are written within the epoch's transaction, larger ones ahead of it in parts of
# this size: a writer of alerts never waits longer than one part takes.
_PART_BYTES = 1 << 20
# Alerts stored with one statement; more take several.
_ALERTS_AT_ONCE = 50

_INSERT_BATCH = (
    "INSERT INTO batch (pipeline, number, epoch, wall, elapsed, ranges, models, waiting) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (pipeline, number) DO NOTHING"
)
_UPDATE_ALERT = (
    "UPDATE alerts SET count = ?, first_seen = COALESCE(?, first_seen), last_seen = ?, subjects = ? "
    "WHERE id = ? AND count <= ? AND last_seen <= ?"
)
_INSERT_OUTBOX = (
    "INSERT INTO outbox (alert_id, route, created, attempts, due, pipeline) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (alert_id, route) DO NOTHING"
)
_UPSERT_POSITION = (
    "INSERT INTO position (pipeline, stream, topic, partition_number, next_offset) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (pipeline, stream, topic, partition_number) DO UPDATE SET next_offset = excluded.next_offset"
)
_UPSERT_ACCOUNTING = (
    f"INSERT INTO accounting (pipeline, stream, topic, partition_number, {', '.join(COUNTERS)}) "
    f"VALUES (?, ?, ?, ?{', ?' * len(COUNTERS)}) ON CONFLICT (pipeline, stream, topic, partition_number) "
    f"DO UPDATE SET {', '.join(f'{counter} = excluded.{counter}' for counter in COUNTERS)}"
)
_UPSERT_PIPELINE = (
    "INSERT INTO pipeline (pipeline, epoch, last_batch, elapsed, committed_at) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (pipeline) DO UPDATE SET epoch = excluded.epoch, last_batch = excluded.last_batch, "
    "elapsed = excluded.elapsed, committed_at = excluded.committed_at"
)
_INSERT_STATE = "INSERT INTO state (pipeline, epoch, name, part, snapshot) VALUES (?, ?, ?, ?, ?)"
_UPSERT_STATUS = (
    "INSERT INTO status (pipeline, status) VALUES (?, ?) ON CONFLICT (pipeline) DO UPDATE SET status = excluded.status"
)


class Progress:
    """`hackwatch.store.base.EngineStore` in SQL. Batches and epochs count from 1.

    Everything may be written again after a crash: the same call twice is the same as once.
    """

    def __init__(self, database: Database, site: str) -> None:
        self.database, self.site = database, site
        self._routes: tuple[str, ...] = ()
        self._holds = PipelineLease(database)
        self._epoch_lock = threading.Lock()

    @property
    def identity(self) -> str:
        """A name that no other store has: epochs that a new store counts from 1 are not those of the one before."""
        with self.database.read() as transaction:
            rows = transaction.fetch("SELECT identity FROM store")
        return str(rows[0][0])

    def hold(self, pipeline: str) -> AbstractContextManager[Lock]:
        """Be the one engine of a pipeline, and of its parts `PIPELINE/...`; renew the lock every few seconds.

        Raises ResourceError if another engine works on it. From here on whatever is written for the pipeline
        raises TakenOver once another engine has begun, which it can only after this one's connection was lost.
        """
        return self._holds.hold(pipeline, self.identity)

    @contextmanager
    def _writing(self, pipeline: str) -> Iterator[Transaction]:
        """A transaction in which only the engine that holds the pipeline may write."""
        with self.database.write() as transaction:
            self._holds.check(transaction, pipeline)
            yield transaction

    def set_routes(self, names: Sequence[str]) -> None:
        """Every new alert from now on gets an outbox message for each of these routes."""
        self._routes = tuple(names)

    def checkpoint(self, pipeline: str) -> Checkpoint | None:
        """The last committed epoch (0: none yet) and what was logged after it; None for a new pipeline."""
        with self.database.read() as transaction:
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
                states=_states(transaction, pipeline, epoch),
                accounting=_accounting(transaction, pipeline),
                batches=batches,
            )

    def log_batches(
        self,
        pipeline: str,
        batches: Sequence[BatchEntry],
        alerts: Sequence[Alert] = (),
        updates: Sequence[AlertUpdate] = (),
    ) -> None:
        """Log micro-batches and write their alerts, updates and outbox; known ids stay as they are."""
        logged = [_batch_row(pipeline, batch) for batch in batches]
        changed = [_update_row(update) for update in updates]
        with self._writing(pipeline) as transaction:
            transaction.execute_many(_INSERT_BATCH, logged)
            if alerts:
                self._insert_alerts(transaction, pipeline, alerts)
            transaction.execute_many(_UPDATE_ALERT, changed)

    def _insert_alerts(self, transaction: Transaction, pipeline: str, alerts: Sequence[Alert]) -> None:
        if turn := self.database.dialect.turn:
            # Numbered and committed one after the other, or a follower by number would miss the slower one.
            transaction.fetch(turn, ("alerts",))
        rows = transaction.fetch("SELECT id, rule, entity, until_time, created FROM mutes")
        mutes = [Mute(*row) for row in rows]
        muted = {alert.id for alert in alerts if any(mute.covers(alert) for mute in mutes)}
        new: set[str] = set()
        for start in range(0, len(alerts), _ALERTS_AT_ONCE):
            some = alerts[start : start + _ALERTS_AT_ONCE]
            values = [value for alert in some for value in to_row(alert, "muted" if alert.id in muted else "new")]
            new.update(row[0] for row in transaction.fetch(insert_alerts(len(some)), values))
        # A part of a pipeline sends nothing by itself.
        sender = pipeline.partition("/")[0]
        messages = [
            (alert.id, route, alert.created, 0, alert.created, sender)
            for alert in alerts
            if alert.id in new - muted
            for route in self._routes
        ]
        transaction.execute_many(_INSERT_OUTBOX, messages)

    def commit_epoch(self, pipeline: str, commit: EpochCommit) -> None:
        """Commit an epoch in one transaction and drop the batch log up to its last batch.

        An epoch that is committed already is left as it is; InternalError if one between is missing.
        """
        with self._epoch_lock:
            parts = list(_parts(pipeline, commit))
            ahead = sum(len(snapshot) for snapshot in commit.states.values()) > _PART_BYTES
            with self.database.read() as transaction:
                if not _is_next(transaction, pipeline, commit.epoch):
                    return
            if ahead:
                self._stage(pipeline, commit.epoch, parts)
            windows = rows_of_windows(self.site, commit.windows, commit.committed_at)
            aggregates = rows_of_aggregates(self.site, commit.aggregates, commit.committed_at)
            with self._writing(pipeline) as transaction:
                if turn := self.database.dialect.turn:
                    transaction.fetch(turn, (f"epoch of {pipeline}",))
                if not _is_next(transaction, pipeline, commit.epoch):
                    return
                if not ahead:
                    _delete_states(transaction, pipeline, commit.epoch)
                    transaction.execute_many(_INSERT_STATE, parts)
                transaction.execute_many(UPSERT_WINDOW, windows)
                transaction.execute_many(UPSERT_AGGREGATE, aggregates)
                _write_commit(transaction, pipeline, commit)
            self._drop_old_states(pipeline, commit.epoch)
            self.database.tidy()

    def _stage(self, pipeline: str, epoch: int, parts: Sequence[tuple[Any, ...]]) -> None:
        """Write the states of an epoch before it is committed: nobody reads them until then."""
        with self._writing(pipeline) as transaction:
            _delete_states(transaction, pipeline, epoch)
        for part in parts:
            with self._writing(pipeline) as transaction:
                transaction.execute(_INSERT_STATE, part)
            self.database.tidy()

    def _drop_old_states(self, pipeline: str, epoch: int) -> None:
        where = "pipeline = ? AND epoch < ?"
        with self.database.read() as transaction:
            old = transaction.fetch(f"SELECT epoch, name, part FROM state WHERE {where}", (pipeline, epoch))
        for start in range(0, len(old), 4):
            with self._writing(pipeline) as transaction:
                transaction.execute_many(
                    "DELETE FROM state WHERE pipeline = ? AND epoch = ? AND name = ? AND part = ?",
                    [(pipeline, *key) for key in old[start : start + 4]],
                )

    def write_status(self, pipeline: str, status: Mapping[str, Any]) -> None:
        """Replace the pipeline's live status."""
        text = to_json(status)
        with self._writing(pipeline) as transaction:
            transaction.execute(_UPSERT_STATUS, (pipeline, text))


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


def _update_row(update: AlertUpdate) -> tuple[Any, ...]:
    subjects = to_json(update.subjects)
    times = update.first_seen, update.last_seen
    return (update.count, *times, subjects, update.id, update.count, update.last_seen)


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


def _accounting(transaction: Transaction, pipeline: str) -> dict[tuple[str, str, int], dict[str, int]]:
    columns = ", ".join(COUNTERS)
    rows = transaction.fetch(
        f"SELECT stream, topic, partition_number, {columns} FROM accounting WHERE pipeline = ?", (pipeline,)
    )
    return {(row[0], row[1], row[2]): dict(zip(COUNTERS, row[3:], strict=True)) for row in rows}


def _states(transaction: Transaction, pipeline: str, epoch: int) -> dict[str, bytes]:
    rows = transaction.fetch(
        "SELECT name, snapshot FROM state WHERE pipeline = ? AND epoch = ? ORDER BY name, part",
        (pipeline, epoch),
    )
    parts: dict[str, list[bytes]] = {}
    for name, snapshot in rows:
        parts.setdefault(name, []).append(snapshot)
    return {name: b"".join(snapshots) for name, snapshots in parts.items()}


def _parts(pipeline: str, commit: EpochCommit) -> Iterator[tuple[Any, ...]]:
    for name, snapshot in commit.states.items():
        for part, start in enumerate(range(0, max(len(snapshot), 1), _PART_BYTES)):
            yield (pipeline, commit.epoch, name, part, snapshot[start : start + _PART_BYTES])


def _delete_states(transaction: Transaction, pipeline: str, epoch: int) -> None:
    transaction.execute("DELETE FROM state WHERE pipeline = ? AND epoch = ?", (pipeline, epoch))


def _is_next(transaction: Transaction, pipeline: str, epoch: int) -> bool:
    rows = transaction.fetch("SELECT epoch FROM pipeline WHERE pipeline = ?", (pipeline,))
    current = rows[0][0] if rows else 0
    if epoch > current + 1 or epoch < 1:
        raise InternalError(
            f"epoch {epoch} cannot follow epoch {current}: epochs are committed one after the other, from 1",
            where=f"pipeline {pipeline}",
        )
    return bool(epoch > current)


def _write_commit(transaction: Transaction, pipeline: str, commit: EpochCommit) -> None:
    transaction.execute_many(
        _UPSERT_POSITION, [(pipeline, *source, offset) for source, offset in commit.offsets.items()]
    )
    transaction.execute_many(
        _UPSERT_ACCOUNTING,
        [
            (pipeline, *source, *(totals.get(counter, 0) for counter in COUNTERS))
            for source, totals in commit.accounting.items()
        ],
    )
    transaction.execute(
        _UPSERT_PIPELINE, (pipeline, commit.epoch, commit.last_batch, commit.elapsed, commit.committed_at)
    )
    transaction.execute("DELETE FROM batch WHERE pipeline = ? AND number <= ?", (pipeline, commit.last_batch))
