"""The people's side of the store: alerts, mutes, the outbox, windows and totals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import polars as pl

from hackwatch.errors import ConfigurationError, DataError
from hackwatch.pipeline.alert import SEVERITIES, Kind, Severity
from hackwatch.store.base import WINDOWS_SCHEMA
from hackwatch.store.frames import frame
from hackwatch.store.progress import Progress
from hackwatch.store.rows import (
    ALERT_ID,
    SELECT_ALERT,
    AlertStatus,
    Mute,
    OutboxMessage,
    StoredAlert,
    from_row,
)
from hackwatch.store.schema import COUNTERS

__all__ = ["Store"]

_PRUNED_AT_ONCE = 2_000


class Store(Progress):
    """The whole store: what the engine writes (`Progress`), what people and programs read and decide.

    Times are Unix seconds UTC and come from the caller: the store has no clock. Safe for several threads.
    """

    @property
    def identity(self) -> str:
        """A name that no other store has: epochs that a new store counts from 1 are not those of the one before."""
        with self.database.read() as transaction:
            rows = transaction.fetch("SELECT identity FROM store")
        return str(rows[0][0])

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ alerts

    def alerts(
        self,
        *,
        statuses: Sequence[AlertStatus] | None = None,
        severity: Severity | None = None,
        kind: Kind | None = None,
        stream: str | None = None,
        entity: str | None = None,
        rule: str | None = None,
        since: float | None = None,
        until: float | None = None,
        after: int | None = None,
        limit: int | None = 100,
    ) -> list[StoredAlert]:
        """Alerts, newest first; or, with `after` (a sequence number), those stored later, oldest first.

        `severity` is the least one, `since <= created < until`.
        """
        conditions = _Conditions()
        conditions.among("status", statuses)
        conditions.among("severity", SEVERITIES[SEVERITIES.index(severity) :] if severity else None)
        for column, value in (("kind", kind), ("stream", stream), ("entity", entity), ("rule", rule)):
            conditions.add(f"{column} = ?", value)
        conditions.add("created >= ?", since)
        conditions.add("created < ?", until)
        conditions.add("sequence > ?", after)
        order = "sequence" if after is not None else "sequence DESC"
        sql = f"{SELECT_ALERT}{conditions.where} ORDER BY {order}"
        if limit is not None:
            sql, conditions.values = f"{sql} LIMIT ?", [*conditions.values, limit]
        with self.database.read() as transaction:
            return [from_row(row) for row in transaction.fetch(sql, conditions.values)]

    def alert(self, alert_id: str) -> StoredAlert:
        """One alert by its id or at least 4 characters of its beginning. DataError if none or several match."""
        found: list[tuple[Any, ...]] = []
        if ALERT_ID.fullmatch(alert_id):
            with self.database.read() as transaction:
                bounds = (alert_id, alert_id + "g")
                found = transaction.fetch(f"{SELECT_ALERT} WHERE id >= ? AND id < ? LIMIT 2", bounds)
        if len(found) != 1:
            raise DataError(
                f"{'several alerts begin' if found else 'no alert begins'} with {alert_id!r}",
                where=self.database.name,
                next_step="see the ids with: hackwatch alerts list",
            )
        return from_row(found[0])

    def acknowledge(self, alert_id: str, *, by: str, now: float, note: str | None = None) -> StoredAlert:
        """A person has seen it and takes care."""
        return self._decide(alert_id, "acknowledged", by, now, note)

    def close_alert(self, alert_id: str, *, by: str, now: float, note: str | None = None) -> StoredAlert:
        """A person is done with it."""
        return self._decide(alert_id, "closed", by, now, note)

    def _decide(self, alert_id: str, status: AlertStatus, by: str, now: float, note: str | None) -> StoredAlert:
        full_id = self.alert(alert_id).id
        with self.database.write() as transaction:
            transaction.execute(
                "UPDATE alerts SET status = ?, handled_by = ?, handled_at = ?, note = coalesce(?, note) WHERE id = ?",
                (status, by, now, note, full_id),
            )
        return self.alert(full_id)

    def alert_counts(self) -> dict[tuple[AlertStatus, Severity], int]:
        """How many alerts there are by status and severity."""
        with self.database.read() as transaction:
            rows = transaction.fetch("SELECT status, severity, count(*) FROM alerts GROUP BY status, severity")
        return {(status, severity): number for status, severity, number in rows}

    # ------------------------------------------------------------------ mutes

    def mute(
        self,
        rule: str | None,
        entity: str | None,
        until: float,
        *,
        now: float,
        by: str | None = None,
        reason: str | None = None,
    ) -> Mute:
        """Silence a rule, an entity, or a rule at an entity: alerts are kept as `muted` and sent nowhere."""
        if rule is None and entity is None:
            raise ConfigurationError("a mute needs a rule, an entity or both", next_step="name what should be silent")
        values = (rule, entity, until, now, by, reason)
        with self.database.write() as transaction:
            rows = transaction.fetch(
                "INSERT INTO mutes (rule, entity, until_time, created, created_by, reason) "
                "VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
                values,
            )
        return Mute(rows[0][0], *values)

    def unmute(self, mute_id: int, *, now: float) -> bool:
        """End a mute now; False if there is no such mute in force."""
        with self.database.write() as transaction:
            changed = transaction.execute(
                "UPDATE mutes SET until_time = ? WHERE id = ? AND until_time > ?", (now, mute_id, now)
            )
        return changed > 0

    def mutes(self, *, now: float | None = None) -> list[Mute]:
        """All mutes, or those in force at `now`, the newest first."""
        conditions = _Conditions()
        conditions.add("until_time > ?", now)
        sql = f"SELECT id, rule, entity, until_time, created, created_by, reason FROM mutes{conditions.where}"
        with self.database.read() as transaction:
            return [Mute(*row) for row in transaction.fetch(f"{sql} ORDER BY id DESC", conditions.values)]

    # ------------------------------------------------------------------ outbox

    def outbox_due(self, now: float, limit: int = 100, *, route: str | None = None) -> list[OutboxMessage]:
        """Messages, of one route or of all, whose time has come, the longest due first."""
        conditions = _Conditions()
        conditions.add("due <= ?", now)
        conditions.add("route = ?", route)
        sql = SELECT_ALERT.replace("SELECT ", "SELECT outbox.id, route, attempts, error, ", 1)
        sql += f" JOIN outbox ON outbox.alert_id = alerts.id{conditions.where} ORDER BY due, outbox.id LIMIT ?"
        with self.database.read() as transaction:
            rows = transaction.fetch(sql, (*conditions.values, limit))
        return [OutboxMessage(row[0], row[1], row[2], row[3], from_row(row[4:])) for row in rows]

    def outbox_done(self, message_id: int, *, now: float) -> None:
        """The route has taken the message."""
        with self.database.write() as transaction:
            transaction.execute("UPDATE outbox SET due = NULL, done = ?, error = NULL WHERE id = ?", (now, message_id))

    def outbox_failed(self, message_id: int, error: str, retry_at: float | None) -> None:
        """The route has refused the message: try again at `retry_at`, or never (None)."""
        with self.database.write() as transaction:
            transaction.execute(
                "UPDATE outbox SET due = ?, error = ?, attempts = attempts + 1 WHERE id = ?",
                (retry_at, error, message_id),
            )

    def outbox_counts(self) -> dict[str, dict[str, int]]:
        """Messages of each route: `waiting`, `done`, `failed` (given up)."""
        state = "CASE WHEN due IS NOT NULL THEN 'waiting' WHEN done IS NOT NULL THEN 'done' ELSE 'failed' END"
        with self.database.read() as transaction:
            rows = transaction.fetch(f"SELECT route, {state} AS state, count(*) FROM outbox GROUP BY route, state")
        counts: dict[str, dict[str, int]] = {}
        for route, state_name, number in rows:
            counts.setdefault(route, {"waiting": 0, "done": 0, "failed": 0})[state_name] = number
        return counts

    # ------------------------------------------------------------------ windows, totals, status

    def windows(
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
        """Windows with `since <= start < until` in the order of start: column `site`, then WINDOWS_SCHEMA.

        With `limit`, the latest ones.
        """
        conditions = _Conditions()
        for column, value in (("site", site), ("stream", stream), ("entity", entity)):
            conditions.add(f"{column} = ?", value)
        conditions.add("window_start >= ?", since)
        conditions.add("window_start < ?", until)
        conditions.add("final = ?", None if final is None else int(final))
        sql = (
            "SELECT site, stream, entity, window_start, window_end, records, suspects, count, final "
            f"FROM windows{conditions.where} ORDER BY window_start DESC, site, stream, entity"
        )
        if limit is not None:
            sql, conditions.values = f"{sql} LIMIT ?", [*conditions.values, limit]
        with self.database.read() as transaction:
            rows = transaction.fetch(sql, conditions.values)
        schema = {"site": pl.String(), **WINDOWS_SCHEMA, "final": pl.Int64()}
        frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("final").cast(pl.Boolean))
        return frame.sort("start", "site", "stream", "entity")

    def accounting(self, pipeline: str | None = None) -> pl.DataFrame:
        """Absolute totals: pipeline, stream, topic, partition, next_offset (null: nothing read), COUNTERS."""
        conditions = _Conditions()
        conditions.add("a.pipeline = ?", pipeline)
        key = ("pipeline", "stream", "topic", "partition_number")
        join = " AND ".join(f"p.{column} = a.{column}" for column in key)
        sql = (
            f"SELECT {', '.join(f'a.{column}' for column in key)}, p.next_offset, {', '.join(COUNTERS)} "
            f"FROM accounting a LEFT JOIN position p ON {join}"
            f"{conditions.where} ORDER BY 1, 2, 3, 4"
        )
        texts = {name: pl.String() for name in ("pipeline", "stream", "topic")}
        numbers = {name: pl.Int64() for name in ("partition", "next_offset", *COUNTERS)}
        with self.database.read() as transaction:
            return pl.DataFrame(transaction.fetch(sql, conditions.values), schema={**texts, **numbers}, orient="row")

    def status(self) -> dict[str, dict[str, Any]]:
        """The last live status of each pipeline."""
        with self.database.read() as transaction:
            rows = transaction.fetch("SELECT pipeline, status FROM status ORDER BY pipeline")
        return {pipeline: orjson.loads(text) for pipeline, text in rows}

    def frame(self, name: str) -> pl.DataFrame:
        """A table as SQL users see it: one of `hackwatch.store.frames.FRAMES`, times as timestamps in UTC."""
        return frame(self.database, name)

    # ------------------------------------------------------------------ pruning

    def prune(
        self,
        *,
        windows_before: float | None = None,
        alerts_before: float | None = None,
        outbox_before: float | None = None,
    ) -> dict[str, int]:
        """Delete final windows, alerts and finished outbox messages that ended before; how many of each.

        An alert that still waits in the outbox stays. None keeps everything. A few thousand rows at a time, so
        that no writer waits long.
        """
        jobs = (
            ("windows", "site, stream, entity, window_start", "final = 1 AND window_end < ?", windows_before),
            ("outbox", "id", "due IS NULL AND created < ?", outbox_before),
            (
                "alerts",
                "id",
                "last_seen < ? AND created < ? AND NOT EXISTS "
                "(SELECT 1 FROM outbox WHERE outbox.alert_id = alerts.id AND due IS NOT NULL)",
                alerts_before,
            ),
        )
        return {
            table: self._delete(table, key, condition, before)
            for table, key, condition, before in jobs
            if before is not None
        }

    def _delete(self, table: str, key: str, condition: str, before: float) -> int:
        sql = f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {condition} LIMIT ?)"
        parameters = [before] * (condition.count("?")) + [_PRUNED_AT_ONCE]
        total = 0
        while True:
            with self.database.write() as transaction:
                deleted = transaction.execute(sql, parameters)
            total += deleted
            if deleted < _PRUNED_AT_ONCE:
                return total


class _Conditions:
    """The WHERE part of a query, from the filters that were given."""

    def __init__(self) -> None:
        self.clauses: list[str] = []
        self.values: list[Any] = []

    def add(self, clause: str, value: Any) -> None:
        if value is not None:
            self.clauses.append(clause)
            self.values.append(value)

    def among(self, column: str, values: Sequence[str] | None) -> None:
        if values is not None:
            self.clauses.append(f"{column} IN ({', '.join('?' * len(values))})" if values else "1 = 0")
            self.values.extend(values)

    @property
    def where(self) -> str:
        return f" WHERE {' AND '.join(self.clauses)}" if self.clauses else ""
