"""Pages of the store's tables: rows in a fixed order after a key, so that no page reads what was on those before it.

What changes meanwhile neither moves other rows from page to page nor doubles them.
"""

from __future__ import annotations

from typing import Any

from hackwatch.store.conditions import Conditions
from hackwatch.store.database import Database

__all__ = ["aggregates_page", "entities_page", "newest_interval", "open_alerts", "windows_page"]

Row = tuple[Any, ...]
_WINDOW = "site, stream, entity, window_start, window_end"
_INTERVAL = "site, stream, aggregate, keys, source, start_time, end_time"
_SUMS = "CAST(sum(records) AS BIGINT), CAST(sum(suspects) AS BIGINT)"


def windows_page(
    database: Database, *, stream: str | None, entity: str | None, site: str | None, since: float | None,
    until: float | None, after: Row | None, limit: int,
) -> tuple[list[Row], bool]:  # fmt: skip
    """site, stream, entity, start, end, records, suspects, count, final of windows, the latest first; may more follow?

    Those of all sources of an entity are one, so that a page may have fewer rows than `limit`, though more follow.
    `after`: the start, site, stream, entity and end of the last row of the page before.
    """
    conditions = _between(stream, site, since, until, "window_start")
    conditions.add("entity = ?", entity)
    if after is not None:
        conditions.add(
            "window_start <= ? AND (window_start < ? OR (site, stream, entity, window_end) > (?, ?, ?, ?))",
            after[0], after[0], *after[1:],
        )  # fmt: skip
    with database.read() as transaction:
        # Without a floor the whole table would be grouped, however short the page.
        floor = transaction.fetch(
            f"SELECT window_start FROM windows{conditions.where} ORDER BY window_start DESC LIMIT 1 OFFSET ?",
            (*conditions.values, limit),
        )
        if floor:
            conditions.add("window_start >= ?", floor[0][0])
        rows = transaction.fetch(
            f"SELECT {_WINDOW}, {_SUMS}, CAST(sum(count) AS BIGINT), min(final) FROM windows{conditions.where} "
            f"GROUP BY {_WINDOW} ORDER BY window_start DESC, site, stream, entity, window_end LIMIT ?",
            (*conditions.values, limit),
        )
    return rows, bool(floor)


def aggregates_page(
    database: Database, *, stream: str | None, aggregate: str | None, site: str | None, since: float | None,
    until: float | None, after: Row | None, limit: int,
) -> tuple[list[Row], bool]:  # fmt: skip
    """site, stream, aggregate, keys, source, start, end, measures, final of intervals, the latest first; more?

    `after`: the start, site, stream, aggregate, keys, source and end of the last row of the page before.
    """
    conditions = _between(stream, site, since, until, "start_time")
    conditions.add("aggregate = ?", aggregate)
    if after is not None:
        conditions.add(
            "start_time <= ? AND (start_time < ? OR "
            "(site, stream, aggregate, keys, source, end_time) > (?, ?, ?, ?, ?, ?))",
            after[0], after[0], *after[1:],
        )  # fmt: skip
    with database.read() as transaction:
        rows = transaction.fetch(
            f"SELECT {_INTERVAL}, measures, final FROM aggregates{conditions.where} "
            "ORDER BY start_time DESC, site, stream, aggregate, keys, source, end_time LIMIT ?",
            (*conditions.values, limit + 1),
        )
    return rows[:limit], len(rows) > limit


def newest_interval(
    database: Database, *, stream: str, aggregate: str, site: str | None, since: float, until: float, limit: int
) -> tuple[list[Row], bool]:
    """keys, start, end, measures of the newest interval that began within `since <= start <= until`; are there more?

    A row for each source of each key, in no order.
    """
    conditions = _between(stream, site, since, None, "start_time")
    conditions.add("aggregate = ?", aggregate)
    conditions.add("start_time <= ?", until)
    with database.read() as transaction:
        newest = transaction.fetch(
            f"SELECT start_time FROM aggregates{conditions.where} ORDER BY start_time DESC LIMIT 1", conditions.values
        )
        if not newest:
            return [], False
        conditions.add("start_time = ?", newest[0][0])
        rows = transaction.fetch(
            f"SELECT keys, start_time, end_time, measures FROM aggregates{conditions.where} LIMIT ?",
            (*conditions.values, limit + 1),
        )
    return rows[:limit], len(rows) > limit


def entities_page(
    database: Database, *, site: str | None, since: float | None, after: str | None, limit: int
) -> tuple[list[Row], bool]:
    """entity, stream, records, suspects, end of the latest window; by entity, then stream; of so many entities; more?

    Sums over the windows that began `since` then. `after`: the last entity of the page before.
    """
    conditions = _between(None, site, since, None, "window_start")
    counted, values = conditions.where or " WHERE 1 = 1", tuple(conditions.values)
    conditions.add("entity > ?", after)
    with database.read() as transaction:
        names = transaction.fetch(
            f"SELECT DISTINCT entity FROM windows{conditions.where} ORDER BY entity LIMIT ?",
            (*conditions.values, limit + 1),
        )
        if not names:
            return [], False
        last = names[:limit][-1][0]
        rows = transaction.fetch(
            f"SELECT entity, stream, {_SUMS}, max(window_end) FROM windows{counted} AND entity >= ? AND entity <= ? "
            "GROUP BY entity, stream ORDER BY entity, stream",
            (*values, names[0][0], last),
        )
    return rows, len(names) > limit


def open_alerts(database: Database, first: str, last: str, site: str | None) -> list[Row]:
    """entity, severity and number of the alerts that nobody has looked at, of the entities from `first` to `last`."""
    conditions = Conditions()
    conditions.add("status = ?", "new")
    conditions.add("entity >= ? AND entity <= ?", first, last)
    conditions.add("site = ?", site)
    with database.read() as transaction:
        return transaction.fetch(
            f"SELECT entity, severity, count(*) FROM alerts{conditions.where} GROUP BY entity, severity",
            conditions.values,
        )


def _between(stream: str | None, site: str | None, since: float | None, until: float | None, column: str) -> Conditions:
    conditions = Conditions()
    conditions.add("stream = ?", stream)
    conditions.add("site = ?", site)
    conditions.add(f"{column} >= ?", since)
    conditions.add(f"{column} < ?", until)
    return conditions
