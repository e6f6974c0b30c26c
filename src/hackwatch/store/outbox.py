"""The outbox: alerts on their way to routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hackwatch.alerts.alert import Alert
from hackwatch.store.alerts import SELECT_ALERT, StoredAlert, from_row
from hackwatch.store.conditions import Conditions
from hackwatch.store.database import Database, Transaction

__all__ = ["OUTBOX_STATE", "SENT_BY", "Outbox", "OutboxMessage", "PipelineOutbox"]

#: Messages that a pipeline's engine sends: its own, and those of a time when one store had one engine.
SENT_BY = "coalesce(outbox.pipeline, ?) = ?"
OUTBOX_STATE = "CASE WHEN due IS NOT NULL THEN 'waiting' WHEN done IS NOT NULL THEN 'done' ELSE 'failed' END"
_INSERT = (
    "INSERT INTO outbox (alert_id, route, created, attempts, due, pipeline) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (alert_id, route) DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """An alert on its way to one route. `attempts` that failed so far, `error` of the last one."""

    id: int
    route: str
    attempts: int
    error: str | None
    alert: StoredAlert


class Outbox:
    """A message for each new alert and route, written with the alert and kept until it is sent or given up.

    Each message belongs to the pipeline that raised its alert, and only its engine sends it: routes of the same name
    may lead elsewhere in another engine's settings, and of two engines none sends what the other is sending.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._routes: tuple[str, ...] = ()

    def set_routes(self, names: Sequence[str]) -> None:
        """Every new alert from now on gets a message for each of these routes."""
        self._routes = tuple(names)

    def add(self, transaction: Transaction, pipeline: str, alerts: Sequence[Alert]) -> None:
        """Messages of new alerts, due at once. A part of a pipeline sends nothing by itself: the pipeline does."""
        sender = pipeline.partition("/")[0]
        messages = [
            (alert.id, route, alert.created, 0, alert.created, sender) for alert in alerts for route in self._routes
        ]
        transaction.execute_many(_INSERT, messages)

    def of(self, pipeline: str) -> PipelineOutbox:
        """What the engine of this pipeline has to send."""
        return PipelineOutbox(self, pipeline)

    def due(
        self, now: float, limit: int = 100, *, route: str | None = None, pipeline: str | None = None
    ) -> list[OutboxMessage]:
        """Messages, of one route and pipeline or of all, whose time has come, the longest due first."""
        conditions = Conditions()
        conditions.add("due <= ?", now)
        conditions.add("route = ?", route)
        conditions.add(SENT_BY, pipeline, pipeline)
        sql = SELECT_ALERT.replace("SELECT ", "SELECT outbox.id, route, attempts, error, ", 1)
        sql += f" JOIN outbox ON outbox.alert_id = alerts.id{conditions.where} ORDER BY due, outbox.id LIMIT ?"
        with self._database.read() as transaction:
            rows = transaction.fetch(sql, (*conditions.values, limit))
        return [OutboxMessage(row[0], row[1], row[2], row[3], from_row(row[4:])) for row in rows]

    def done(self, message_id: int, *, now: float) -> None:
        """The route has taken the message."""
        with self._database.write() as transaction:
            transaction.execute("UPDATE outbox SET due = NULL, done = ?, error = NULL WHERE id = ?", (now, message_id))

    def failed(self, message_id: int, error: str, retry_at: float | None) -> None:
        """The route has refused the message: try again at `retry_at`, or never (None)."""
        with self._database.write() as transaction:
            transaction.execute(
                "UPDATE outbox SET due = ?, error = ?, attempts = attempts + 1 WHERE id = ?",
                (retry_at, error, message_id),
            )

    def counts(self, pipeline: str | None = None) -> dict[str, dict[str, int]]:
        """Messages of each route, of one pipeline or of all: `waiting`, `done`, `failed` (given up)."""
        conditions = Conditions()
        conditions.add(SENT_BY, pipeline, pipeline)
        sql = f"SELECT route, {OUTBOX_STATE} AS state, count(*) FROM outbox{conditions.where} GROUP BY route, state"
        with self._database.read() as transaction:
            rows = transaction.fetch(sql, conditions.values)
        counts: dict[str, dict[str, int]] = {}
        for route, state, number in rows:
            counts.setdefault(route, {"waiting": 0, "done": 0, "failed": 0})[state] = number
        return counts


@dataclass(frozen=True, slots=True, eq=False)
class PipelineOutbox:
    """The messages of one pipeline: what the dispatcher of its engine asks for (`hackwatch.routes.dispatch.Outbox`)."""

    outbox: Outbox
    pipeline: str

    def due(self, now: float, limit: int = 100, *, route: str | None = None) -> Sequence[OutboxMessage]:
        return self.outbox.due(now, limit, route=route, pipeline=self.pipeline)

    def done(self, message_id: int, *, now: float) -> None:
        self.outbox.done(message_id, now=now)

    def failed(self, message_id: int, error: str, retry_at: float | None) -> None:
        self.outbox.failed(message_id, error, retry_at)
