"""Retention: what is old enough is deleted, a little at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hackwatch.store.database import Database
from hackwatch.store.outbox import SENT_BY

__all__ = ["Retention"]

_AT_ONCE = 2_000
#: Tables of aggregates, and what tells their rows apart.
_AGGREGATED = {
    "windows": "site, stream, entity, source, window_start, window_end",
    "aggregates": "site, stream, aggregate, keys, source, start_time, end_time",
}
_OLD_AGGREGATE = "site = ? AND final = 1 AND made < ?"
_OLD_MESSAGE = "due IS NULL AND created < ?"
_OLD_ALERT = (
    "site = ? AND last_seen < ? AND created < ? AND NOT EXISTS "
    "(SELECT 1 FROM outbox WHERE outbox.alert_id = alerts.id AND due IS NOT NULL)"
)


class Retention:
    """Deletes old rows of all parts of the store, of this site only."""

    def __init__(self, database: Database, site: str) -> None:
        self._database, self._site = database, site

    def prune(
        self,
        *,
        windows_before: float | None = None,
        alerts_before: float | None = None,
        outbox_before: float | None = None,
        pipeline: str | None = None,
        now: float | None = None,
    ) -> dict[str, int]:
        """Delete this site's final windows and alerts, and finished outbox messages, made before; how many.

        Ages are those of the rows, not of the events in them; rows whose age an older version did not keep count as
        made `now`, if that is given. An alert that still waits in the outbox stays. None keeps everything. Messages are
        those of `pipeline`, if given. A few thousand rows at a time, so that no writer waits long; rows that another
        one deletes are left to it.
        """
        if now is not None:
            self._date(now)
        deleted: dict[str, int] = {}
        if windows_before is not None:
            for table, key in _AGGREGATED.items():
                deleted[table] = self._delete(table, key, _OLD_AGGREGATE, (self._site, windows_before))
        if outbox_before is not None:
            mine = ("", ()) if pipeline is None else (f" AND {SENT_BY}", (pipeline, pipeline))
            deleted["outbox"] = self._delete("outbox", "id", _OLD_MESSAGE + mine[0], (outbox_before, *mine[1]))
        if alerts_before is not None:
            deleted["alerts"] = self._delete("alerts", "id", _OLD_ALERT, (self._site, alerts_before, alerts_before))
        return deleted

    def _date(self, now: float) -> None:
        """Give what an older version has left without a time this one."""
        for table in _AGGREGATED:
            with self._database.read() as transaction:
                undated = transaction.fetch(f"SELECT 1 FROM {table} WHERE made IS NULL LIMIT 1")
            if undated:
                with self._database.write() as transaction:
                    transaction.execute(f"UPDATE {table} SET made = ? WHERE made IS NULL", (now,))

    def _delete(self, table: str, key: str, condition: str, parameters: Sequence[Any]) -> int:
        chosen = f"SELECT {key} FROM {table} WHERE {condition} LIMIT ?{self._database.dialect.unclaimed}"
        total = 0
        while True:
            with self._database.write() as transaction:
                deleted = transaction.execute(
                    f"DELETE FROM {table} WHERE ({key}) IN ({chosen})", (*parameters, _AT_ONCE)
                )
            total += deleted
            if deleted < _AT_ONCE:
                return total
