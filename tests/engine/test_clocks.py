"""Clocks of sources through the whole engine: liars, silence, catching up, keys; and crashes while sources are idle."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from hackwatch.alerts.policy import AlertPolicy
from hackwatch.config import AlertSettings, EngineSettings
from hackwatch.engine.loop import Engine
from hackwatch.pipeline.core import Pipeline
from tests.engine.clocked import WALL, Site
from tests.streams.support import record
from tests.third.support import SHOP, shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")


def visit(t: float, server: str = "m") -> bytes:
    """A suspect visit by the clock of a server, of a client of its own."""
    return orjson.dumps(record("visit", client=server, server=server, status=404, ts=t))


def login(t: float, gate: str = "m") -> bytes:
    """A suspect login by the clock of a gate, of the client of the server that is called so."""
    return orjson.dumps(record("login", client=gate, gate=gate, failed=1, ts=t))


def test_an_outage_of_eight_minutes_of_one_collector_does_not_touch_its_sister(tmp_path: Path) -> None:
    site = Site(tmp_path, partitions=1)
    for second in range(0, 600, 10):
        site.send("visit", [visit(WALL + second)])
        if second < 60 or second >= 540:
            site.send("login", [login(WALL + second)])
        site.run(10)
    site.engine.drain()
    totals = {stream: counts.late for (stream, _, _), counts in site.engine.parts.pipeline.totals.items()}
    assert totals == {"visit": 0, "login": 0}


def test_a_backlog_of_last_year_waits_for_nobody_and_nobody_for_it(tmp_path: Path) -> None:
    """Without a correlation, streams are of two groups: live records are read while the other one catches up."""
    site = Site(tmp_path, partitions=1)
    old = [visit(WALL - 3e7 + second) for second in range(5_000)]
    site.send("visit", old)
    site.send("login", [login(WALL + second) for second in range(5)])
    parts = site.engine.parts
    apart = Pipeline({n: (s.stream, site.options) for n, s in parts.inputs.items()}, [], AlertPolicy(AlertSettings()))
    engine = Engine(replace(parts, pipeline=apart), EngineSettings(batch_bytes=65_536), threading.Event())
    engine.recover()
    for _ in range(3):
        engine.turn()
    site.send("login", [login(WALL + 5)])
    for _ in range(2):
        engine.turn()
    lag = engine.lag()
    assert lag[("login", 0)] == 0
    assert lag[("visit", 0)] > 0


@pytest.mark.parametrize("wait", [1.0, 20.0, 45.0, 200.0], ids=lambda seconds: f"after {seconds:g} s of silence")
@pytest.mark.parametrize("woken", [False, True], ids=["idle", "woken"])
def test_a_kill_while_sources_are_idle_or_wake_repeats_exactly(tmp_path: Path, wait: float, woken: bool) -> None:
    """What was logged is judged again by the engine times that were logged, whenever it is repeated."""
    site = Site(tmp_path)
    for partition in (0, 1):
        site.send("visit", [visit(WALL + t, f"m{partition}") for t in range(0, 200, 5)], partition)
        site.send("login", [login(WALL + t, f"m{partition}") for t in range(0, 200, 5)], partition)
    site.run(wait)
    if woken:
        # Some of these are behind what the idle sources have passed meanwhile, some are not.
        for partition in (0, 1):
            site.send("visit", [visit(WALL + t, f"m{partition}") for t in range(185, 500, 5)], partition)
        site.run(2.0)
    site.engine._log([], [])  # as with an alert: from here on it is repeated, not read again
    before = dict(site.seen.late)
    rows_before = site.engine.parts.pipeline.totals
    site.clock.advance(1_000.0)
    site.seen.late = {}
    site.start()
    site.engine.drain()
    lake = {
        (name, *place): late
        for name in SHOP
        for *place, late in site.lake.rows(name).select("partition", "offset", "index", "late").iter_rows()
    }
    assert lake == before
    assert site.engine.parts.pipeline.totals == rows_before
    if woken and wait >= 200:
        assert any(before.values()), "the case has late records"


def test_state_of_liars_does_not_grow(tmp_path: Path) -> None:
    """A trickle of one old time among honest servers: windows close, and nothing is kept for it."""
    site = Site(tmp_path, partitions=1)
    for second in range(0, 1200, 5):
        site.send("visit", [visit(WALL + second, f"m{n}") for n in range(4)] + [visit(1.0, "stuck")])
        site.run(5)
    rows = site.engine.parts.pipeline.state_rows()
    assert rows["windows_visit"] <= 2 * 4 + 1
    assert set(site.late()) <= {"stuck"}


def test_accounting_holds_for_invented_sources_by_the_thousand(tmp_path: Path) -> None:
    site = Site(tmp_path, partitions=1, max_sources=100)
    site.send("visit", [visit(WALL + n / 100, f"invented-{n}") for n in range(3_000)])
    site.run(3)
    site.engine.drain()
    counts = site.engine.parts.pipeline.totals[("visit", "visit-topic", 0)]
    assert counts.records == counts.on_time + counts.late == 3_000
    assert site.store.windows.find(stream="visit")["records"].sum() == counts.on_time
    assert [alert.rule for alert in site.store.triage.alerts() if alert.kind == "system"].count("too-many-sources") == 1
    site.run(400)
    assert site.engine.parts.pipeline.state_rows()["windows_visit"] == 0, "those that share a clock close too"
