"""Triage: alerts as people see and handle them, and what they mute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hackwatch.alerts.alert import SEVERITIES, Kind, Severity
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.store.alerts import (
    ALERT_ID,
    SELECT_ALERT,
    SELECT_MUTE,
    AlertStatus,
    Mute,
    StoredAlert,
    from_row,
)
from hackwatch.store.conditions import Conditions
from hackwatch.store.database import Database

__all__ = ["Triage"]

_EQUAL = ("kind", "stream", "entity", "rule", "site")


class Triage:
    """Alerts as people see and handle them, and mutes.

    Called by the main thread of a command or a screen, while engines write. All raise ResourceError (a server that is
    away, a full disk) and DataError (a damaged store).
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def alerts(
        self,
        *,
        statuses: Sequence[AlertStatus] | None = None,
        severity: Severity | None = None,
        kind: Kind | None = None,
        stream: str | None = None,
        entity: str | None = None,
        rule: str | None = None,
        site: str | None = None,
        since: float | None = None,
        until: float | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = 100,
    ) -> list[StoredAlert]:
        """Alerts, newest first; or, with `after` (a sequence number), those stored later, oldest first.

        `severity` is the least one, `since <= created < until`. `before`: those stored before that sequence number.
        """
        conditions = Conditions()
        conditions.among("status", statuses)
        conditions.among("severity", SEVERITIES[SEVERITIES.index(severity) :] if severity else None)
        for column, value in zip(_EQUAL, (kind, stream, entity, rule, site), strict=True):
            conditions.add(f"{column} = ?", value)
        conditions.add("created >= ?", since)
        conditions.add("created < ?", until)
        conditions.add("sequence > ?", after)
        conditions.add("sequence < ?", before)
        order = "sequence" if after is not None else "sequence DESC"
        sql = f"{SELECT_ALERT}{conditions.where} ORDER BY {order}"
        if limit is not None:
            sql, conditions.values = f"{sql} LIMIT ?", [*conditions.values, limit]
        with self._database.read() as transaction:
            return [from_row(row) for row in transaction.fetch(sql, conditions.values)]

    def alert(self, alert_id: str) -> StoredAlert:
        """One alert by its id or at least 4 characters of its beginning. DataError if none or several match."""
        found: list[tuple[Any, ...]] = []
        if is_id := ALERT_ID.fullmatch(alert_id):
            with self._database.read() as transaction:
                bounds = (alert_id, alert_id + "g")
                found = transaction.fetch(f"{SELECT_ALERT} WHERE id >= ? AND id < ? LIMIT 2", bounds)
        if len(found) != 1:
            start = "several alerts begin" if found else "no alert begins"
            raise DataError(
                f"{start} with {alert_id!r}" if is_id else f"{alert_id!r} is no id, nor 4 or more characters of one",
                where=self._database.name,
                next_step="see the ids with: hackwatch alerts list",
            )
        return from_row(found[0])

    def acknowledge(self, alert_id: str, *, by: str, now: float, note: str | None = None) -> StoredAlert:
        """A person has seen it and takes care."""
        return self._decide(alert_id, "acknowledged", by, now, note)

    def close(self, alert_id: str, *, by: str, now: float, note: str | None = None) -> StoredAlert:
        """A person is done with it."""
        return self._decide(alert_id, "closed", by, now, note)

    def _decide(self, alert_id: str, status: AlertStatus, by: str, now: float, note: str | None) -> StoredAlert:
        full_id = self.alert(alert_id).id
        with self._database.write() as transaction:
            transaction.execute(
                "UPDATE alerts SET status = ?, handled_by = ?, handled_at = ?, note = coalesce(?, note) WHERE id = ?",
                (status, by, now, note, full_id),
            )
        return self.alert(full_id)

    def counts(self) -> dict[tuple[AlertStatus, Severity], int]:
        """How many alerts there are by status and severity."""
        with self._database.read() as transaction:
            rows = transaction.fetch("SELECT status, severity, count(*) FROM alerts GROUP BY status, severity")
        return {(status, severity): number for status, severity, number in rows}

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
        with self._database.write() as transaction:
            rows = transaction.fetch(
                "INSERT INTO mutes (rule, entity, until_time, created, created_by, reason) "
                "VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
                values,
            )
        return Mute(rows[0][0], *values)

    def unmute(self, mute_id: int, *, now: float) -> bool:
        """End a mute now; False if there is no such mute in force."""
        with self._database.write() as transaction:
            changed = transaction.execute(
                "UPDATE mutes SET until_time = ? WHERE id = ? AND until_time > ?", (now, mute_id, now)
            )
        return changed > 0

    def mutes(self, *, now: float | None = None) -> list[Mute]:
        """All mutes, or those in force at `now`, the newest first."""
        conditions = Conditions()
        conditions.add("until_time > ?", now)
        sql = f"{SELECT_MUTE}{conditions.where}"
        with self._database.read() as transaction:
            return [Mute(*row) for row in transaction.fetch(f"{sql} ORDER BY id DESC", conditions.values)]
