"""What families show of their aggregates: the keys with the greatest values in the newest interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Any

import orjson

from hackwatch import streams
from hackwatch.store import Store
from hackwatch.store.pages import newest_interval
from hackwatch.streams.declarations import Panel

__all__ = ["MOST_ROWS", "PanelView", "Ranked", "panel_view", "panels"]

#: Rows of an interval, one for each source of each key, that are looked at.
MOST_ROWS = 20_000
#: Seconds, or intervals if these last longer, behind which nothing counts as the present of a stream.
_BACK_SECONDS, _BACK = 7_200, 2


@dataclass(frozen=True, slots=True)
class Ranked:
    """One key and the value of the measure, all its sources together."""

    keys: Mapping[str, Any]
    value: float


@dataclass(frozen=True, slots=True)
class PanelView:
    """A declared panel, and its keys in [start, end), Unix seconds UTC, the greatest value first.

    `start` and `end` are None while nothing has been counted. `whole`: whether all rows of the interval were looked at.
    """

    name: str
    title: str
    stream: str
    aggregate: str
    measure: str
    start: int | None = None
    end: int | None = None
    rows: tuple[Ranked, ...] = ()
    whole: bool = True


def panels(store: Store, status: Mapping[str, Any]) -> tuple[PanelView, ...]:
    """The panels of the streams that an engine works off. `status`: what it said last."""
    return tuple(
        panel_view(store, panel, at=told["watermark"], site=status["site"])
        for name, told in status["streams"].items()
        for panel in streams.panels(name)
    )


def panel_view(
    store: Store, panel: Panel, *, at: float | None, site: str | None = None, most: int = MOST_ROWS
) -> PanelView:
    """One panel. `at`: the present of its stream, its watermark; None before the first record.

    The newest interval is the last one that had begun then, so that a clock that is ahead does not decide for others;
    in a stream's first seconds, when none had, the one that follows.
    """
    empty = PanelView(panel.name, panel.title, panel.stream, panel.aggregate, panel.measure)
    [declared] = [one for one in streams.aggregates(panel.stream) if one.name == panel.aggregate]
    if at is None:
        return empty
    for until in (at, at + declared.seconds):
        rows, more = newest_interval(
            store.database, stream=panel.stream, aggregate=panel.aggregate, site=site,
            since=at - max(_BACK_SECONDS, _BACK * declared.seconds), until=until, limit=most,
        )  # fmt: skip
        if rows:
            break
    else:
        return empty
    ranked = _ranked(((keys, measures) for keys, _, _, measures in rows), panel)
    start, end = rows[0][1], max(end for _, _, end, _ in rows)
    return replace(empty, start=start, end=end, rows=ranked, whole=not more)


def _ranked(rows: Iterable[tuple[str, str]], panel: Panel) -> tuple[Ranked, ...]:
    sums: dict[str, float] = defaultdict(int)
    for keys, measures in rows:
        sums[keys] += orjson.loads(measures).get(panel.measure) or 0
    named = ((value, text, orjson.loads(text)) for text, value in sums.items() if value > 0)
    # Keys that are all null stand for those beyond the limit.
    known = (one for one in named if any(key is not None for key in one[2].values()))
    greatest = nsmallest(panel.top, known, key=lambda one: (-one[0], one[1]))
    return tuple(Ranked(keys, value) for value, _, keys in greatest)
