"""A real engine killed with SIGKILL again and again while feeds write: what it keeps equals an undisturbed run."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hackwatch.lake import Lake
from tests.engine.killing import PHASES, Feed, Killer, assert_each_once
from tests.engine.processes import NAMES, Folder, Outcome, until, work_off
from tests.sizes import size
from tests.third.support import SHOP, shop_all_along

__all__ = ["shop_all_along"]

#: Of hosts, and as many of the shop, a family of another kind beside them: with thousands of clients, and many pairs.
RECORDS, KILLS, SEED = size(100_000, 70_000), size(26, 18), 7
ALL = (*NAMES, *SHOP)
CORRELATED = ("attacks", "takeovers", "sprees")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, shop_all_along: None) -> tuple[Feed, Killer, Outcome, Outcome]:
    """(what was fed, how it was killed, what is left of that, what is left of an undisturbed run)."""
    base = tmp_path_factory.mktemp("killed")
    disturbed, calm = (Folder.make(base / name, shop=True) for name in ("disturbed", "calm"))
    chance = random.Random(SEED)
    phases = [PHASES[number % len(PHASES)] for number in range(KILLS)]
    chance.shuffle(phases)
    feed, killer = Feed([disturbed, calm], RECORDS, SEED, KILLS), Killer(disturbed, chance)
    with disturbed.writers(), calm.writers():
        pass  # the topics are there, with all partitions, before the first engine is
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)  # or the feed's thread would keep the killer from its moment
    feed.start()
    for number, phase in enumerate(phases):
        assert not feed.written.is_set(), "the feed writes while engines are killed"
        compact = _compacting(disturbed) if number % 5 == 4 else None
        killer.life(phase)
        if compact is not None:
            compact.join()
        feed.next_life()
    sys.setswitchinterval(usual)
    until(feed.written.is_set, "everything is written")
    assert feed.failure is None
    for folder in (disturbed, calm):
        work_off(folder)
    return feed, killer, Outcome.of(disturbed), Outcome.of(calm)


def _compacting(folder: Folder) -> threading.Thread:
    """Another process may join the lake's files at any time."""

    def compact() -> None:
        lake = Lake(folder.data / "lake")
        for table in lake.tables():
            lake.compact(table)

    thread = threading.Thread(target=compact)
    thread.start()
    return thread


Runs = tuple[Feed, Killer, Outcome, Outcome]
pytestmark = pytest.mark.slow


def test_kills_hit_every_phase(runs: Runs) -> None:
    _, killer, _, _ = runs
    assert sum(killer.left[phase] for phase in set(PHASES)) == KILLS
    assert killer.left["logged batches"] > 3
    assert killer.left["lake ahead of store"] > 0, killer.left


def test_nothing_is_lost_and_nothing_is_doubled(runs: Runs) -> None:
    """Every message that was written is in the lake exactly once, or is a counted repeat."""
    feed, _, disturbed, _ = runs
    assert_each_once(disturbed, feed.messages)
    assert feed.messages >= 2 * RECORDS
    rejected = disturbed.tables["rejected"]
    assert rejected.select("stream", "partition", "offset", "index").is_unique().all()


def test_the_run_had_everything_in_it(runs: Runs) -> None:
    _, _, disturbed, _ = runs
    assert set(disturbed.accounting["stream"]) == set(ALL)
    for column in ("on_time", "late", "duplicate", "rejected", "suspects"):
        assert (disturbed.accounting[column] > 0).all(), column
    for table in CORRELATED:
        assert len(disturbed.tables[table]) > 100, table
    assert {aggregate for _, aggregate, *_ in disturbed.intervals} == {"servers", "gates"}
    assert len(disturbed.windows.filter("final")) > 50
    alerted = Counter(stream for _, stream, *_ in disturbed.alerts.values())
    assert {*SHOP} <= set(alerted), alerted
    kinds = Counter(kind for kind, *_ in disturbed.alerts.values())
    assert {"attack", "rule", "window"} <= set(kinds), kinds
    assert "system" not in kinds


@pytest.mark.parametrize("table", [*ALL, *CORRELATED, "rejected"])
def test_the_lake_equals_an_undisturbed_run(runs: Runs, table: str) -> None:
    _, _, disturbed, calm = runs
    assert_frame_equal(disturbed.tables[table], calm.tables[table], check_exact=True)


PARTS: list[Callable[[Outcome], pl.DataFrame]] = [lambda run: run.windows, lambda run: run.accounting]


@pytest.mark.parametrize("part", PARTS, ids=["windows", "accounting"])
def test_the_store_equals_an_undisturbed_run(runs: Runs, part: Callable[[Outcome], pl.DataFrame]) -> None:
    _, _, disturbed, calm = runs
    assert_frame_equal(part(disturbed), part(calm))


def test_the_aggregates_equal_an_undisturbed_run(runs: Runs) -> None:
    _, _, disturbed, calm = runs
    assert disturbed.intervals == calm.intervals


def test_the_alerts_equal_an_undisturbed_run(runs: Runs) -> None:
    """The same ids with the same final counts and times; which record was the first seen may differ by timing."""
    _, _, disturbed, calm = runs
    assert disturbed.alerts == calm.alerts
