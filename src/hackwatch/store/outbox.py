"""The outbox: alerts on their way to routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hackwatch.store.conditions import Conditions
from hackwatch.store.progress import Progress
from hackwatch.store.rows import SELECT_ALERT, OutboxMessage, from_row

__all__ = ["SENT_BY", "Outgoing", "PipelineOutbox"]

#: Messages that a pipeline's engine sends: its own, and those of a time when one store had one engine.
SENT_BY = "coalesce(outbox.pipeline, ?) = ?"


class Outgoing(Progress):
    """The routes' side of the store.

    Each message belongs to the pipeline that raised its alert, and only its engine sends it: routes of the same name
    may lead elsewhere in another engine's settings, and of two engines none sends what the other is sending.
    """

    def outbox(self, pipeline: str) -> PipelineOutbox:
        """What the engine of this pipeline has to send."""
        return PipelineOutbox(self, pipeline)

    def outbox_due(
        self, now: float, limit: int = 100, *, route: str | None = None, pipeline: str | None = None
    ) -> list[OutboxMessage]:
        """Messages, of one route and pipeline or of all, whose time has come, the longest due first."""
        conditions = Conditions()
        conditions.add("due <= ?", now)
        conditions.add("route = ?", route)
        conditions.add(SENT_BY, pipeline, pipeline)
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

    def outbox_counts(self, pipeline: str | None = None) -> dict[str, dict[str, int]]:
        """Messages of each route, of one pipeline or of all: `waiting`, `done`, `failed` (given up)."""
        state = "CASE WHEN due IS NOT NULL THEN 'waiting' WHEN done IS NOT NULL THEN 'done' ELSE 'failed' END"
        conditions = Conditions()
        conditions.add(SENT_BY, pipeline, pipeline)
        sql = f"SELECT route, {state} AS state, count(*) FROM outbox{conditions.where} GROUP BY route, state"
        with self.database.read() as transaction:
            rows = transaction.fetch(sql, conditions.values)
        counts: dict[str, dict[str, int]] = {}
        for route, state_name, number in rows:
            counts.setdefault(route, {"waiting": 0, "done": 0, "failed": 0})[state_name] = number
        return counts


@dataclass(frozen=True, slots=True, eq=False)
class PipelineOutbox:
    """The messages of one pipeline, as the dispatcher of its engine wants them."""

    store: Outgoing
    pipeline: str

    def outbox_due(self, now: float, limit: int = 100, *, route: str | None = None) -> Sequence[OutboxMessage]:
        return self.store.outbox_due(now, limit, route=route, pipeline=self.pipeline)

    def outbox_done(self, message_id: int, *, now: float) -> None:
        self.store.outbox_done(message_id, now=now)

    def outbox_failed(self, message_id: int, error: str, retry_at: float | None) -> None:
        self.store.outbox_failed(message_id, error, retry_at)
