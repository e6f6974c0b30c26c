"""What was found: alerts by page, the latest first."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hackwatch.store import AlertStatus, Store, StoredAlert
from hackwatch.views.pages import Page, cursor_of, key_of, page_size

__all__ = ["alerts"]


def alerts(
    store: Store, *, statuses: Collection[AlertStatus] | None = None, limit: int = 100, cursor: str | None = None,
    **filters: Any,
) -> Page[StoredAlert]:  # fmt: skip
    """Alerts, the latest first; `filters` are those of the store's `alerts`: `severity` (the least one), `kind`,
    `stream`, `entity`, `rule`, `site`, and `since <= created < until` in Unix seconds UTC."""
    key, size = key_of("alerts", cursor, int), page_size(limit)
    chosen = None if statuses is None else tuple(statuses)
    found = store.triage.alerts(statuses=chosen, before=key[0] if key else None, limit=size + 1, **filters)
    more = len(found) > size
    return Page(tuple(found[:size]), cursor_of("alerts", (found[size - 1].sequence,)) if more else None)
