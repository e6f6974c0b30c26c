"""Pages: whatever their size, together they are the list, once each and in order; no other cursor is taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.alerts.alert import SEVERITIES
from hackwatch.errors import ConfigurationError
from hackwatch.store import Store, open_store
from hackwatch.store.aggregates import AGGREGATES_SCHEMA, WINDOWS_SCHEMA
from hackwatch.views import Page, every
from hackwatch.views.alerts import alerts
from hackwatch.views.intervals import Entity, aggregates, entities, windows
from hackwatch.views.pages import MOST, cursor_of, key_of, page_size
from tests.store.support import alert, commit

OTHER = [("windows", (1,)), ("alerts", ("1",)), ("alerts", (1, 2)), ("alerts", ())]
SIZES = [1, 2, 3, 5, 7, 100]
#: (stream, entity, source, number of the window, records): clients that several servers see.
WINDOWS = [
    (stream, f"192.0.2.{client}", f"web-{server}", number, 1 + client)
    for stream in ("visit", "login") for client in range(4) for server in range(1 + client % 2) for number in range(3)
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    frame = pl.DataFrame(
        [(s, e, w, 120 * n, 120 * n + 120, r, 1, 1, n < 2) for s, e, w, n, r in WINDOWS], WINDOWS_SCHEMA, orient="row"
    )
    counted = pl.DataFrame(
        [
            ("visit", "paths", f'{{"path":"/{n % 3}"}}', "web-0", 60 * (n // 2), 60, f'{{"n":{n}}}', True)
            for n in range(9)
        ],
        AGGREGATES_SCHEMA, orient="row",
    )  # fmt: skip
    with open_store(tmp_path_factory.mktemp("pages") / "store.sqlite", site="here") as opened:
        opened.checkpoints.commit_epoch("main", replace(commit(1, 1, counted=frame), aggregates=counted))
        raised = [
            alert(n, stream="visit", entity=f"192.0.2.{n % 3}", severity=SEVERITIES[n % 5], created=n * 10.0)
            for n in range(1, 12)
        ]
        opened.checkpoints.log_batches("main", (), raised)
        opened.triage.close(f"{3:032x}", by="ann", now=1.0)
        yield opened


@pytest.mark.parametrize("size", SIZES)
def test_alerts(store: Store, size: int) -> None:
    listed = list(every(lambda cursor: alerts(store, limit=size, cursor=cursor)))
    assert [found.sequence for found in listed] == list(range(11, 0, -1))
    high = list(every(lambda cursor: alerts(store, severity="high", limit=size, cursor=cursor)))
    assert high == [found for found in listed if found.severity in ("high", "critical")]


@pytest.mark.parametrize("size", SIZES)
def test_windows_of_all_sources_are_one(store: Store, size: int) -> None:
    found = list(every(lambda cursor: windows(store, limit=size, cursor=cursor)))
    counted: dict[tuple[int, str, str], int] = {}
    for stream, entity, _, number, records in WINDOWS:
        key = (-120 * number, stream, entity)
        counted[key] = counted.get(key, 0) + records
    assert [(-one.start, one.stream, one.entity, one.records) for one in found] == [
        (*key, records) for key, records in sorted(counted.items())
    ]
    assert {one.start for one in found if not one.final} == {240}


@pytest.mark.parametrize("size", SIZES)
def test_some_windows(store: Store, size: int) -> None:
    def ask(cursor: str | None) -> Page[object]:
        return windows(store, stream="visit", entity="192.0.2.1", since=120, until=240, limit=size, cursor=cursor)  # type: ignore[return-value]  # of windows

    (found,) = every(ask)
    assert (found.start, found.records, found.site) == (120, 4, "here")  # type: ignore[attr-defined]  # it is one


@pytest.mark.parametrize("size", SIZES)
def test_intervals_of_aggregates(store: Store, size: int) -> None:
    found = list(every(lambda cursor: aggregates(store, stream="visit", limit=size, cursor=cursor)))
    assert sorted(one.measures["n"] for one in found) == list(range(9))
    assert [one.start for one in found] == sorted((one.start for one in found), reverse=True)
    assert found[0].keys == {"path": "/2"}


@pytest.mark.parametrize("size", SIZES)
def test_entities(store: Store, size: int) -> None:
    found = list(every(lambda cursor: entities(store, limit=size, cursor=cursor)))
    assert [one.name for one in found] == [f"192.0.2.{client}" for client in range(4)]
    # Alerts 1, 4, 7, 10 are its own, of severities low, critical, medium and informational.
    assert found[1] == Entity(
        "192.0.2.1", {"login": 12, "visit": 12}, {"login": 6, "visit": 6}, last=360, alerts=4, worst="critical"
    )
    # One of the four that the first one has is closed.
    assert [one.alerts for one in found] == [2, 4, 4, 0]
    assert found[3].worst is None


def test_entities_of_late(store: Store) -> None:
    found = entities(store, since=240)
    assert [one.records["visit"] for one in found] == [1, 4, 3, 8]


def test_what_comes_meanwhile_is_on_no_later_page(tmp_path: Path) -> None:
    with open_store(tmp_path / "store.sqlite") as store:
        store.checkpoints.log_batches("main", (), [alert(n) for n in range(1, 5)])
        first = alerts(store, limit=2)
        store.checkpoints.log_batches("main", (), [alert(9)])
        assert [found.sequence for found in alerts(store, limit=9, cursor=first.next)] == [2, 1]


@given(key=st.tuples(st.integers(-(2**53), 2**53), st.text(st.characters(codec="utf-8"))))
def test_a_cursor_holds_its_key(key: tuple[int, str]) -> None:
    assert key_of("rows", cursor_of("rows", key), int, str) == key


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "%", "AAAA", cursor_of("windows", (1,)), cursor_of("alerts", ("1",)), cursor_of("alerts", (1, 2))],
)
def test_another_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(ConfigurationError, match="no cursor of alerts"):
        alerts(store, cursor=cursor)


def test_a_page_is_never_everything() -> None:
    assert page_size(10**9) == MOST
    with pytest.raises(ConfigurationError, match="a page of 0 rows"):
        page_size(0)
