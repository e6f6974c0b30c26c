"""Exactly once from Kafka: engines killed with SIGKILL while a feed produces, against an engine left in peace."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.engine import killing
from tests.engine.kafka_folder import KafkaFolder
from tests.engine.killing import Feed, Killer, assert_each_once
from tests.engine.processes import NAMES, Outcome, until, work_off
from tests.servers.kafka import Broker

RECORDS, SEED = 120_000, 11
PHASES = killing.PHASES * 2

pytestmark = pytest.mark.slow
Runs = tuple[Feed, Killer, Outcome, Outcome]


@pytest.fixture(scope="module")
def runs(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """(what was fed, how it was killed, what is left of that, what an undisturbed engine made of the same topics)."""
    base = tmp_path_factory.mktemp("kafka-killed")
    disturbed = KafkaFolder.on(base / "disturbed", kafka, "killed")
    calm = KafkaFolder.on(base / "calm", kafka, "killed", more='[kafka]\ngroup = "calm"\n')
    chance = random.Random(SEED)
    phases = list(PHASES)
    chance.shuffle(phases)
    feed, killer = Feed([disturbed], RECORDS, SEED, len(phases)), Killer(disturbed, chance)
    with disturbed.writers():
        pass  # the topics are there, with all partitions, before the first engine is
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)  # or the feed's thread would keep the killer from its moment
    feed.start()
    for phase in phases:
        assert not feed.written.is_set(), "the feed writes while engines are killed"
        killer.life(phase)
        feed.next_life()
    sys.setswitchinterval(usual)
    until(feed.written.is_set, "everything is written")
    assert feed.failure is None
    for folder in (disturbed, calm):
        work_off(folder)
        folder.close()
    return feed, killer, Outcome.of(disturbed), Outcome.of(calm)


def test_engines_were_killed_between_lake_and_store_too(runs: Runs) -> None:
    _, killer, _, _ = runs
    assert sum(killer.left[phase] for phase in set(PHASES)) == len(PHASES) >= 10
    assert killer.left["logged batches"] > 1
    assert killer.left["lake ahead of store"] > 0, killer.left


def test_every_message_is_in_the_lake_once_or_a_counted_repeat(runs: Runs) -> None:
    feed, _, disturbed, _ = runs
    assert_each_once(disturbed, feed.messages)
    assert feed.messages >= RECORDS


@pytest.mark.parametrize("table", [*NAMES, "attacks", "rejected"])
def test_the_lake_equals_an_undisturbed_run(runs: Runs, table: str) -> None:
    _, _, disturbed, calm = runs
    assert len(calm.tables[table]) > 100
    assert_frame_equal(disturbed.tables[table], calm.tables[table], check_exact=True)


PARTS: list[Callable[[Outcome], pl.DataFrame]] = [lambda run: run.windows, lambda run: run.accounting]


@pytest.mark.parametrize("part", PARTS, ids=["windows", "accounting"])
def test_the_store_equals_an_undisturbed_run(runs: Runs, part: Callable[[Outcome], pl.DataFrame]) -> None:
    _, _, disturbed, calm = runs
    assert_frame_equal(part(disturbed), part(calm))


def test_the_alerts_equal_an_undisturbed_run(runs: Runs) -> None:
    _, _, disturbed, calm = runs
    assert {"attack", "rule", "window"} <= set(Counter(kind for kind, *_ in calm.alerts.values()))
    assert disturbed.alerts == calm.alerts
