"""Alerts in the store: as rows and back, and how an engine's transaction writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from hackwatch.alerts.alert import Alert, AlertUpdate, Cause
from hackwatch.detect.detector import Driver
from hackwatch.store.database import Dialect, Transaction, take_turn
from hackwatch.store.values import indexed, to_json

__all__ = [
    "ALERT_ID",
    "SELECT_ALERT",
    "SELECT_MUTE",
    "STATUSES",
    "UPDATE_ALERT",
    "AlertStatus",
    "Mute",
    "StoredAlert",
    "from_row",
    "insert_alerts",
    "to_row",
    "update_row",
]

AlertStatus = Literal["new", "acknowledged", "muted", "closed"]
STATUSES: tuple[AlertStatus, ...] = ("new", "acknowledged", "muted", "closed")

#: The columns of `alerts` in the order of `to_row` and `from_row`.
ALERT_COLUMNS = (
    *(
        "id",
        "kind",
        "stream",
        "entity",
        "rule",
        "title",
        "severity",
        "risk",
        "subject",
        "first_seen",
        "last_seen",
    ),
    *("created", "site", "technique", "tactic", "count", "drivers", "evidence", "causes", "models"),
    *("subjects", "status", "handled_by", "handled_at", "note", "sequence"),
)
#: How many of them an alert is born with; the others are the store's.
_BORN = ALERT_COLUMNS.index("handled_by")
_ENTITY = ALERT_COLUMNS.index("entity")
# Alerts stored with one statement; more take several.
_AT_ONCE = 50

SELECT_ALERT = "SELECT " + ", ".join(f"alerts.{column}" for column in ALERT_COLUMNS) + " FROM alerts"
SELECT_MUTE = "SELECT id, rule, entity, until_time, created, created_by, reason FROM mutes"
ALERT_ID = re.compile(r"[0-9a-f]{4,32}")
#: Brings a stored alert up to date; one that is further already stays as it is.
UPDATE_ALERT = (
    "UPDATE alerts SET count = ?, first_seen = COALESCE(?, first_seen), last_seen = ?, subjects = ? "
    "WHERE id = ? AND count <= ? AND last_seen <= ?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAlert(Alert):
    """An alert as the store keeps it: `count` and `last_seen` are the latest, the rest as first raised.

    `sequence` grows with every alert stored (follow by it). `subjects`: up to 10 distinct ones, first first.
    `handled_by`, `handled_at` (Unix seconds UTC), `note`: of the person who acknowledged or closed it last.
    """

    sequence: int
    status: AlertStatus = "new"
    subjects: tuple[str, ...] = ()
    handled_by: str | None = None
    handled_at: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Mute:
    """Alerts of this rule and entity (None: any) stay silent until `until` (Unix seconds UTC)."""

    id: int
    rule: str | None
    entity: str | None
    until: float
    created: float
    created_by: str | None = None
    reason: str | None = None

    def covers(self, alert: Alert) -> bool:
        """Is the alert silenced? Judged by its own time, so that a repeated batch is judged the same."""
        return (
            self.rule in (None, alert.rule)
            and self.entity in (None, alert.entity)
            and self.created <= alert.created < self.until
        )


def to_row(alert: Alert, status: AlertStatus) -> tuple[Any, ...]:
    """The first columns of ALERT_COLUMNS, those that an alert is born with."""
    row = [getattr(alert, column) for column in ALERT_COLUMNS[: ALERT_COLUMNS.index("drivers")]]
    drivers = {stream: [_driver_row(driver) for driver in drivers] for stream, drivers in alert.drivers.items()}
    causes = [[cause.topic, cause.partition, cause.offset, cause.index] for cause in alert.causes]
    row[_ENTITY] = indexed(alert.entity)
    parts = (drivers, alert.evidence, causes, alert.models, [alert.subject])
    return (*row, *(to_json(part) for part in parts), status)


def _driver_row(driver: Driver) -> list[Any]:
    return [driver.column, driver.seen, driver.usual, driver.contribution]


def from_row(row: Sequence[Any]) -> StoredAlert:
    """A row of ALERT_COLUMNS as an alert."""
    values = dict(zip(ALERT_COLUMNS, row, strict=True))
    for column in ("drivers", "evidence", "causes", "models", "subjects"):
        values[column] = orjson.loads(values[column])
    values["drivers"] = {
        stream: tuple(
            Driver(column, seen, usual, float(contribution or 0)) for column, seen, usual, contribution in rows
        )
        for stream, rows in values["drivers"].items()
    }
    values["causes"] = tuple(Cause(*cause) for cause in values["causes"])
    values["subjects"] = tuple(values["subjects"])
    return StoredAlert(**values)


def insert_alerts(transaction: Transaction, dialect: Dialect, alerts: Sequence[Alert]) -> list[Alert]:
    """Store alerts whose ids are not there yet, as `muted` or `new`; gives those that are new."""
    # Numbered and committed one after the other, or a follower by number would miss the slower one.
    take_turn(transaction, dialect, "alerts")
    mutes = [Mute(*row) for row in transaction.fetch(SELECT_MUTE)]
    muted = {alert.id for alert in alerts if any(mute.covers(alert) for mute in mutes)}
    stored: set[str] = set()
    for start in range(0, len(alerts), _AT_ONCE):
        some = alerts[start : start + _AT_ONCE]
        values = [value for alert in some for value in to_row(alert, "muted" if alert.id in muted else "new")]
        stored.update(row[0] for row in transaction.fetch(_insert(len(some)), values))
    return [alert for alert in alerts if alert.id in stored - muted]


def _insert(number: int) -> str:
    """A statement that stores so many rows of `to_row` and gives the ids of those that were not there."""
    rows = ", ".join([f"({', '.join('?' * _BORN)})"] * number)
    columns = ", ".join(ALERT_COLUMNS[:_BORN])
    return f"INSERT INTO alerts ({columns}) VALUES {rows} ON CONFLICT (id) DO NOTHING RETURNING id"


def update_row(update: AlertUpdate) -> tuple[Any, ...]:
    """Parameters of UPDATE_ALERT."""
    times = update.first_seen, update.last_seen
    return (update.count, *times, to_json(update.subjects), update.id, update.count, update.last_seen)
