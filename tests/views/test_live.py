"""From the store to a view, and to JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hackwatch.alerts.alert import Alert
from hackwatch.store import Store, open_store
from hackwatch.store.aggregates import WINDOWS_SCHEMA
from hackwatch.store.commits import EpochCommit
from hackwatch.views.live import Reader, View, snapshot
from tests.top.support import NOW

START = int(NOW) // 120 * 120


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store.sqlite") as opened:
        yield opened


def status(**changes: Any) -> dict[str, Any]:
    ring = [0] * 58 + [7, 3]
    told: dict[str, Any] = {
        "messages": 10, "records": 10, "on_time": 8, "late": 1, "duplicate": 0, "rejected": 1, "suspects": 2,
        "rate": 5.0, "lag_bytes": 512, "watermark": NOW - 20, "model": None, "threshold": None,
        "arrivals": {"web-1": ring}, "suspect_arrivals": {"web-1": [0] * 59 + [2]},
    }  # fmt: skip
    quiet = {**told, "arrivals": {"web-1": ring, "db-1": ring}, "suspect_arrivals": {}, "watermark": None}
    return {
        "pipeline": "main", "pid": 7, "site": "local", "started": NOW - 60, "updated": NOW - 1, "state": "running",
        "epoch": 4, "epoch_age": 2.0, "rate": 10.0, "latency_ms": {"p50": 5.0, "p99": 9.0},
        "streams": {"process": told, "memory": quiet}, **changes,
    }  # fmt: skip


def put_windows(store: Store, *rows: tuple[str, str, int, int]) -> None:
    """(stream, entity, number of the window, distinct suspects)."""
    values = [(s, e, e, START + 120 * n, START + 120 * n + 120, 50, c, c, n < 0) for s, e, n, c in rows]
    frame = pl.DataFrame(values, schema=WINDOWS_SCHEMA, orient="row")
    store.checkpoints.commit_epoch("main", EpochCommit(1, 1, 1.0, {}, {}, frame, {}, NOW))


def an_alert(number: int, title: str = "odd") -> Alert:
    return Alert(
        id=f"{number:032x}", kind="rule", stream="process", entity="web-1", rule="r", title=title, severity="high",
        risk=80, subject="sh", first_seen=NOW, last_seen=NOW, created=NOW,
    )  # fmt: skip


def reader(store: Store, **more: Any) -> Reader:
    return Reader(store, "main", lambda: NOW, **more)


def test_no_engine_has_spoken_yet(store: Store) -> None:
    assert reader(store)() == View(NOW)


def test_the_last_words_of_the_engine_before_are_left_out(store: Store) -> None:
    store.statuses.write("main", status(state="stopped", updated=NOW - 60))
    assert reader(store, since=NOW - 59)() == View(NOW)
    assert reader(store, since=NOW - 61)().state == "stopped"


def test_a_view_holds_what_the_engine_says(store: Store) -> None:
    store.statuses.write("main", status())
    put_windows(
        store, ("process", "web-1", 0, 3), ("process", "web-1", -1, 5), ("process", "web-1", -2, 9),
        ("process", "db-1", -1, 2), ("memory", "web-1", 0, 1),
    )  # fmt: skip
    view = reader(store)()
    assert (view.state, view.rate, view.epoch_age, view.latency_p99) == ("running", 10.0, 3.0, 9.0)
    assert (view.lag_bytes, view.watermark_age, view.total("late"), view.stale) == (1024, 20.0, 2, False)
    db, web = view.entities
    assert (web.name, sum(web.records), sum(web.suspects)) == ("web-1", 20, 2)
    assert web.windows == {"process": (3, 5), "memory": (1, 0)}
    assert db.windows == {"process": (0, 2), "memory": (0, 0)}


@pytest.mark.parametrize(
    ("state", "age", "stale"), [("running", 9, False), ("running", 11, True), ("stopped", 999, False)]
)
def test_an_engine_that_says_nothing_is_stale(store: Store, state: str, age: float, stale: bool) -> None:
    store.statuses.write("main", status(state=state, updated=NOW - age))
    assert reader(store)().stale == stale


def test_the_snapshot_is_json(store: Store) -> None:
    store.statuses.write("main", status())
    store.checkpoints.log_batches("main", (), [an_alert(1, "\x1b[2J")])
    document = json.loads(json.dumps(snapshot(reader(store)()), allow_nan=False))
    assert document["streams"]["process"]["late"] == 1
    assert document["machines"]["web-1"] == {
        "records": 20, "suspects": 2, "windows": {s: {"now": 0, "before": 0} for s in ("process", "memory")},
    }  # fmt: skip
    assert document["alerts"][0]["title"] == "\x1b[2J"
