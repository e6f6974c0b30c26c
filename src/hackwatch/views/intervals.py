"""What was counted: windows, the intervals of all other aggregates, and the entities that they are about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from hackwatch.alerts.alert import SEVERITIES, Severity
from hackwatch.store import Store
from hackwatch.store.pages import aggregates_page, entities_page, open_alerts, windows_page
from hackwatch.views.pages import Page, cursor_of, key_of, page_size

__all__ = ["Entity", "Interval", "Window", "aggregates", "entities", "windows"]


@dataclass(frozen=True, slots=True)
class Window:
    """[start, end) of one entity, all its sources together; Unix seconds UTC.

    `records`: rows on time, `suspects`: those of prediction 1, `count`: distinct identities among these. `final`: will
    not change any more.
    """

    site: str
    stream: str
    entity: str
    start: int
    end: int
    records: int
    suspects: int
    count: int
    final: bool


@dataclass(frozen=True, slots=True)
class Interval:
    """[start, end) of an aggregate, for the records of one source; Unix seconds UTC. `measures`: JSON values."""

    site: str
    stream: str
    aggregate: str
    keys: Mapping[str, Any]
    source: str
    start: int
    end: int
    measures: Mapping[str, Any]
    final: bool


@dataclass(frozen=True, slots=True)
class Entity:
    """Whom records are about: sums over its windows, by stream, and its alerts that nobody has looked at.

    `last`: the end of its latest window, Unix seconds UTC. `worst`: the severity of the worst of the alerts.
    """

    name: str
    records: Mapping[str, int]
    suspects: Mapping[str, int]
    last: int
    alerts: int
    worst: Severity | None


def windows(
    store: Store, *, stream: str | None = None, entity: str | None = None, site: str | None = None,
    since: float | None = None, until: float | None = None, limit: int = 100, cursor: str | None = None,
) -> Page[Window]:  # fmt: skip
    """Windows that began within `since <= start < until`, the latest first."""
    after = key_of("windows", cursor, int, str, str, str, int)
    rows, more = windows_page(
        store.database, stream=stream, entity=entity, site=site, since=since, until=until, after=after,
        limit=page_size(limit),
    )  # fmt: skip
    found = tuple(
        Window(where, name, of, start, end, records, suspects, count, final=bool(final))
        for where, name, of, start, end, records, suspects, count, final in rows
    )
    if not more:
        return Page(found)
    last = found[-1]
    return Page(found, cursor_of("windows", (last.start, last.site, last.stream, last.entity, last.end)))


def aggregates(
    store: Store, *, stream: str | None = None, aggregate: str | None = None, site: str | None = None,
    since: float | None = None, until: float | None = None, limit: int = 100, cursor: str | None = None,
) -> Page[Interval]:  # fmt: skip
    """Intervals of aggregates that began within `since <= start < until`, the latest first."""
    after = key_of("aggregates", cursor, int, str, str, str, str, str, int)
    rows, more = aggregates_page(
        store.database, stream=stream, aggregate=aggregate, site=site, since=since, until=until, after=after,
        limit=page_size(limit),
    )  # fmt: skip
    found = tuple(
        Interval(
            where, name, declared, orjson.loads(keys), source, start, end, orjson.loads(measures), final=bool(final)
        )
        for where, name, declared, keys, source, start, end, measures, final in rows
    )
    if not more:
        return Page(found)
    where, name, declared, keys, source, start, end, *_ = rows[-1]
    return Page(found, cursor_of("aggregates", (start, where, name, declared, keys, source, end)))


def entities(
    store: Store, *, site: str | None = None, since: float | None = None, limit: int = 100, cursor: str | None = None
) -> Page[Entity]:
    """Entities with windows that began `since` then, by name."""
    after = key_of("entities", cursor, str)
    rows, more = entities_page(
        store.database, site=site, since=since, after=after[0] if after else None, limit=page_size(limit)
    )
    if not rows:
        return Page(())
    alerts: dict[str, dict[Severity, int]] = {}
    for entity, severity, number in open_alerts(store.database, rows[0][0], rows[-1][0], site):
        alerts.setdefault(entity, {})[severity] = number
    counted: dict[str, list[tuple[Any, ...]]] = {}
    for entity, *figures in rows:
        counted.setdefault(entity, []).append(tuple(figures))
    found = tuple(_entity(name, figures, alerts.get(name, {})) for name, figures in counted.items())
    return Page(found, cursor_of("entities", (found[-1].name,)) if more else None)


def _entity(name: str, figures: list[tuple[Any, ...]], alerts: Mapping[Severity, int]) -> Entity:
    return Entity(
        name,
        records={stream: records for stream, records, _, _ in figures},
        suspects={stream: suspects for stream, _, suspects, _ in figures},
        last=max(end for *_, end in figures),
        alerts=sum(alerts.values()),
        worst=max(alerts, key=SEVERITIES.index, default=None),
    )
