"""Alerts as rows of the store and back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from hackwatch.alerts.alert import Alert, Cause
from hackwatch.detect.base import Driver

__all__ = ["ALERT_COLUMNS", "STATUSES", "AlertStatus", "Mute", "OutboxMessage", "StoredAlert", "to_json"]

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
_LONGEST = 512


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
class OutboxMessage:
    """An alert on its way to one route. `attempts` that failed so far, `error` of the last one."""

    id: int
    route: str
    attempts: int
    error: str | None
    alert: StoredAlert


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


def to_json(value: Any) -> str:
    """JSON text; what JSON does not know (times, bytes) becomes text, NaN becomes null."""
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return orjson.dumps(value, default=_plain, option=options).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return list(value)
    return str(value)


def indexed(text: str) -> str:
    """A text that fits into an index (PostgreSQL takes 2.7 kB): what is longer is cut, and told apart by its hash.

    A machine says itself what it is called.
    """
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 17]}~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


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


def insert_alerts(number: int) -> str:
    """A statement that stores so many rows of `to_row` and gives the ids of those that were not there."""
    rows = ", ".join([f"({', '.join('?' * _BORN)})"] * number)
    columns = ", ".join(ALERT_COLUMNS[:_BORN])
    return f"INSERT INTO alerts ({columns}) VALUES {rows} ON CONFLICT (id) DO NOTHING RETURNING id"


SELECT_ALERT = "SELECT " + ", ".join(f"alerts.{column}" for column in ALERT_COLUMNS) + " FROM alerts"
ALERT_ID = re.compile(r"[0-9a-f]{4,32}")
