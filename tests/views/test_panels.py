"""Panels: the keys with the greatest sums over all sources, in the interval that is the stream's present."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hackwatch import streams
from hackwatch.config import Settings
from hackwatch.store import Store, open_store
from hackwatch.store.aggregates import AGGREGATES_SCHEMA
from hackwatch.views import PanelView, Ranked, Views
from hackwatch.views.panels import panel_view, panels
from tests.store.conftest import address, reopen, store
from tests.store.support import commit
from tests.third.shop import shop_all_along

__all__ = ["address", "reopen", "shop_all_along", "store"]

pytestmark = pytest.mark.usefixtures("shop_all_along")

#: (server, whose clock, number of the minute, visits): what one source counted of one key in one interval.
Row = tuple[str | None, str, int, int]
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["web-1", "web-2", "web-3", "web-4", "web-5", 'we"b\x00\u202e', None]),
        st.sampled_from(["here", "there", "else\x1b[2J"]), st.integers(0, 3), st.integers(0, 9),
    ),
    unique_by=lambda row: row[:3], max_size=60,
)  # fmt: skip


def put(store: Store, *rows: Row, **changes: Any) -> None:
    told: dict[str, Any] = {"stream": "visit", "aggregate": "servers"} | changes
    values = [
        (told["stream"], told["aggregate"], json.dumps({"server": server}), source, 60 * minute, 60 * minute + 60,
         json.dumps({"visits": visits, "suspects": None, "paths": [{"value": "\x00", "count": 1}]}), minute < 2)
        for server, source, minute, visits in rows
    ]  # fmt: skip
    frame = pl.DataFrame(values, AGGREGATES_SCHEMA, orient="row")
    store.checkpoints.commit_epoch("main", replace(commit(1, 1), aggregates=frame))


def shown(store: Store, at: float | None, **more: Any) -> PanelView:
    [panel] = streams.panels("visit")
    return panel_view(store, panel, at=at, **more)


def told(view: PanelView) -> list[tuple[str, float]]:
    return [(row.keys["server"], row.value) for row in view.rows]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, at=st.integers(0, 300))
def test_they_are_the_greatest_sums_of_the_present_interval(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], at: int
) -> None:
    with open_store(tmp_path_factory.mktemp("panels") / "store.sqlite") as store:
        put(store, *rows)
        view = shown(store, at)
    minutes = {minute for _, _, minute, _ in rows}
    begun = [minute for minute in minutes if 60 * minute <= at]
    present = max(begun or [minute for minute in minutes if 60 * minute <= at + 60], default=None)
    sums: Counter[str] = Counter()
    for server, _, minute, visits in rows:
        if minute == present and server is not None:
            sums[server] += visits
    expected = sorted(((server, n) for server, n in sums.items() if n), key=lambda one: (-one[1], json.dumps(one[0])))
    assert told(view) == expected[:3]
    assert (view.start, view.end) == ((None, None) if present is None else (60 * present, 60 * present + 60))
    assert view.whole


def test_a_clock_that_is_ahead_does_not_decide_for_others(store: Store) -> None:
    put(store, ("web-1", "gate", 5, 7), ("liar", "liar", 900, 99))
    assert told(shown(store, 5 * 60.0 + 30)) == [("web-1", 7)]


def test_in_the_first_seconds_it_is_the_interval_that_follows(store: Store) -> None:
    """Records are in the minute of their own time, the present lies behind it by the lateness."""
    put(store, ("web-1", "gate", 5, 7))
    assert told(shown(store, 5 * 60.0 - 15)) == [("web-1", 7)]
    assert told(shown(store, 3 * 60.0)) == []


def test_what_was_hours_ago_is_not_the_present(store: Store) -> None:
    put(store, ("web-1", "gate", 5, 7))
    assert shown(store, 5 * 60 + 7_200.0).rows
    assert not shown(store, 5 * 60 + 7_201.0).rows


def test_other_streams_aggregates_and_sites_are_not_in_it(store: Store) -> None:
    put(store, ("web-1", "gate", 1, 7))
    put(store, ("web-2", "gate", 2, 8), stream="login")
    put(store, ("web-3", "gate", 2, 9), aggregate="paths")
    assert told(shown(store, 200.0, site="here")) == [("web-1", 7)]
    assert shown(store, 200.0, site="there").rows == ()


def test_one_that_looks_at_some_rows_says_so(store: Store) -> None:
    put(store, *((f"web-{n}", "gate", 1, 1) for n in range(4)))
    assert shown(store, 100.0, most=4).whole
    some = shown(store, 100.0, most=2)
    assert (some.whole, len(some.rows)) == (False, 2)


def test_before_the_first_record_there_is_nothing(store: Store) -> None:
    assert shown(store, None) == PanelView("busiest", "the busiest servers", "visit", "servers", "visits")


def test_they_are_those_of_the_streams_that_the_engine_works_off(store: Store) -> None:
    put(store, ("web-1", "gate", 1, 7))
    status = {"site": "here", "streams": {name: {"watermark": 100.0} for name in ("gone", "login", "process")}}
    assert panels(store, status) == ()
    status["streams"]["visit"] = {"watermark": 100.0}  # type: ignore[index]  # a mapping of mappings
    [view] = panels(store, status)
    assert view.rows == (Ranked({"server": "web-1"}, 7),)


def test_views_ask_for_what_the_engine_said_last(tmp_path: Path) -> None:
    own = Settings(data=tmp_path)
    with open_store(own.store_url, site="here") as store, Views(own) as data:
        assert data.panels() == ()
        put(store, ("web-1", "gate", 1, 7))
        store.statuses.write("main", {"site": "here", "streams": {"visit": {"watermark": 100.0}}})
        assert told(data.panels()[0]) == [("web-1", 7)]
