"""The people's side of the store: alerts, mutes, windows and totals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import polars as pl

from hackwatch.alerts.alert import SEVERITIES, Kind, Severity
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.store.base import WINDOWS_SCHEMA
from hackwatch.store.conditions import Conditions
from hackwatch.store.frames import frame
from hackwatch.store.outbox import SENT_BY, Outgoing
from hackwatch.store.rows import ALERT_ID, SELECT_ALERT, AlertStatus, Mute, StoredAlert, from_row
from hackwatch.store.schema import COUNTERS

__all__ = ["Store"]

_PRUNED_AT_ONCE = 2_000
#: Tables of aggregates, and what tells their rows apart.
_AGGREGATED = {
    "windows": "site, stream, entity, source, window_start, window_end",
    "aggregates": "site, stream, aggregate, keys, source, start_time, end_time",
}
_EQUAL = ("kind", "stream", "entity", "rule", "site")


class Store(Outgoing):
    """The whole store: what the engine writes (`Progress`), what routes send (`Outgoing`), what people decide.

    Times are Unix seconds UTC and come from the caller: the store has no clock. Safe for several threads.
    """

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
        with self.database.read() as transaction:
            return [from_row(row) for row in transaction.fetch(sql, conditions.values)]

    def alert(self, alert_id: str) -> StoredAlert:
        """One alert by its id or at least 4 characters of its beginning. DataError if none or several match."""
        found: list[tuple[Any, ...]] = []
        if is_id := ALERT_ID.fullmatch(alert_id):
            with self.database.read() as transaction:
                bounds = (alert_id, alert_id + "g")
                found = transaction.fetch(f"{SELECT_ALERT} WHERE id >= ? AND id < ? LIMIT 2", bounds)
        if len(found) != 1:
            start = "several alerts begin" if found else "no alert begins"
            raise DataError(
                f"{start} with {alert_id!r}" if is_id else f"{alert_id!r} is no id, nor 4 or more characters of one",
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
        conditions = Conditions()
        conditions.add("until_time > ?", now)
        sql = f"SELECT id, rule, entity, until_time, created, created_by, reason FROM mutes{conditions.where}"
        with self.database.read() as transaction:
            return [Mute(*row) for row in transaction.fetch(f"{sql} ORDER BY id DESC", conditions.values)]

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
        """Windows with `since <= start < until` in the order of start: `site`, then WINDOWS_SCHEMA without `source`.

        Those of all sources of an entity are one, final when all are. With `limit`, the latest ones.
        """
        conditions = Conditions()
        for column, value in (("site", site), ("stream", stream), ("entity", entity)):
            conditions.add(f"{column} = ?", value)
        conditions.add("window_start >= ?", since)
        conditions.add("window_start < ?", until)
        having = "" if final is None else f" HAVING min(final) = {int(final)}"
        sql = (
            "SELECT site, stream, entity, window_start, window_end, "
            "CAST(sum(records) AS BIGINT), CAST(sum(suspects) AS BIGINT), CAST(sum(count) AS BIGINT), min(final) "
            f"FROM windows{conditions.where} GROUP BY site, stream, entity, window_start, window_end{having} "
            "ORDER BY window_start DESC, site, stream, entity"
        )
        if limit is not None:
            sql, conditions.values = f"{sql} LIMIT ?", [*conditions.values, limit]
        with self.database.read() as transaction:
            rows = transaction.fetch(sql, conditions.values)
        schema = {"site": pl.String(), **WINDOWS_SCHEMA, "final": pl.Int64()}
        del schema["source"]
        frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("final").cast(pl.Boolean))
        return frame.sort("start", "site", "stream", "entity")

    def accounting(self, pipeline: str | None = None) -> pl.DataFrame:
        """Absolute totals: pipeline, stream, topic, partition, next_offset (null: nothing read), COUNTERS."""
        conditions = Conditions()
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
        pipeline: str | None = None,
        now: float | None = None,
    ) -> dict[str, int]:
        """Delete this site's final windows and alerts, and finished outbox messages, made before; how many.

        Ages are those of the rows, not of the events in them; rows whose age an older version did not keep count as
        made `now`, if that is given. An alert that still waits in the outbox stays. None keeps everything. Messages are
        those of `pipeline`, if given. A few thousand rows at a time, so that no writer waits long; rows that another
        one deletes are left to it.
        """
        jobs = (
            *(
                (table, key, "site = ? AND final = 1 AND made < ?", windows_before, (self.site, windows_before))
                for table, key in _AGGREGATED.items()
            ),
            ("outbox", "id", f"due IS NULL AND created < ?{'' if pipeline is None else f' AND {SENT_BY}'}",
             outbox_before, (outbox_before, *([] if pipeline is None else [pipeline, pipeline]))),
            (
                "alerts",
                "id",
                "site = ? AND last_seen < ? AND created < ? AND NOT EXISTS "
                "(SELECT 1 FROM outbox WHERE outbox.alert_id = alerts.id AND due IS NOT NULL)",
                alerts_before,
                (self.site, alerts_before, alerts_before),
            ),
        )  # fmt: skip
        if now is not None:
            self._date(now)
        return {
            table: self._delete(table, key, condition, parameters)
            for table, key, condition, before, parameters in jobs
            if before is not None
        }

    def _date(self, now: float) -> None:
        """Give what an older version has left without a time this one."""
        for table in _AGGREGATED:
            with self.database.read() as transaction:
                undated = transaction.fetch(f"SELECT 1 FROM {table} WHERE made IS NULL LIMIT 1")
            if undated:
                with self.database.write() as transaction:
                    transaction.execute(f"UPDATE {table} SET made = ? WHERE made IS NULL", (now,))

    def _delete(self, table: str, key: str, condition: str, parameters: Sequence[Any]) -> int:
        chosen = f"SELECT {key} FROM {table} WHERE {condition} LIMIT ?{self.database.dialect.unclaimed}"
        total = 0
        while True:
            with self.database.write() as transaction:
                deleted = transaction.execute(
                    f"DELETE FROM {table} WHERE ({key}) IN ({chosen})", (*parameters, _PRUNED_AT_ONCE)
                )
            total += deleted
            if deleted < _PRUNED_AT_ONCE:
                return total
