"""A real engine killed with SIGKILL again and again while feeds write: what it keeps equals an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hackwatch.feeds.simulate.bulk import Batch
from hackwatch.lake import Lake
from hackwatch.topics import TopicWriter
from tests.engine.processes import FAULTS, NAMES, EngineProcess, Folder, Outcome, simulated, until, work_off

RECORDS, KILLS, SEED = 500_000, 26, 7
PHASES = ("starting", "recovering", "working", "working", "committing", "committing")


class Feed(threading.Thread):
    """Writes to both folders, a share for each life of the engine: writing outlasts the kills."""

    def __init__(self, disturbed: Folder, calm: Folder, lives: int) -> None:
        super().__init__(daemon=True)
        self._folders, self._lives = (disturbed, calm), lives
        self._life = 0
        self._batches = list(simulated(RECORDS, SEED, FAULTS))
        self.messages = sum(len(batch.process) + len(batch.memory) for batch in self._batches)
        self.written = threading.Event()
        self.failure: BaseException | None = None

    def next_life(self) -> None:
        self._life += 1

    def run(self) -> None:
        try:
            with self._folders[0].writers() as disturbed, self._folders[1].writers() as calm:
                for number, batch in enumerate(self._batches):
                    while number * self._lives > (self._life + 1) * len(self._batches):
                        time.sleep(0.01)
                    self._write(batch, disturbed, calm)
                    time.sleep(0.02)
        except BaseException as error:  # a thread's exception would be lost: the test looks at it
            self.failure = error
        self.written.set()

    @staticmethod
    def _write(batch: Batch, *writers: dict[str, TopicWriter]) -> None:
        for of in writers:
            for name in NAMES:
                getattr(batch, name).write_to(of[name])


class Killer:
    """Starts an engine and kills it in a phase of its life; notes what it left."""

    def __init__(self, folder: Folder, chance: random.Random) -> None:
        self._folder, self._chance = folder, chance
        self.left: Counter[str] = Counter()

    def life(self, phase: str) -> None:
        with self._folder.run() as engine:
            getattr(self, f"_{phase}")(engine)
            engine.kill()
            assert engine.process.returncode == -signal.SIGKILL, engine.log
        self._look(phase)

    def _starting(self, engine: EngineProcess) -> None:
        time.sleep(self._chance.uniform(0.0, 2.5))

    def _recovering(self, engine: EngineProcess) -> None:
        engine.started()
        time.sleep(self._chance.uniform(0.0, 0.3))

    def _working(self, engine: EngineProcess) -> None:
        engine.started()
        time.sleep(self._chance.uniform(0.3, 2.5))

    def _committing(self, engine: EngineProcess) -> None:
        """In the moment in which the first table of the lake has grown, within a few milliseconds of the store."""
        engine.started()
        time.sleep(self._chance.uniform(0.2, 1.0))
        log = self._folder.data / "lake" / NAMES[0] / "_delta_log"
        expected = str(log / f"{max((int(path.stem) for path in log.glob('*.json')), default=-1) + 1:020d}.json")
        until(lambda: os.path.exists(expected), "a commit to the lake", pause=0.0)

    def _look(self, phase: str) -> None:
        self.left[phase] += 1
        if not self._folder.committed():
            return
        with self._folder.store() as store:
            checkpoint = store.checkpoint("main")
            identity = store.identity
        if checkpoint is not None:
            self.left["logged batches"] += bool(checkpoint.batches)
            lake = Lake(self._folder.data / "lake")
            epochs = {lake.last_epoch(name, f"main@{identity}") or 0 for name in NAMES}
            self.left["lake ahead of store"] += max(epochs) > checkpoint.epoch
            self.left["lake half ahead"] += len(epochs) == 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Feed, Killer, Outcome, Outcome]:
    """(what was fed, how it was killed, what is left of that, what is left of an undisturbed run)."""
    base = tmp_path_factory.mktemp("killed")
    disturbed, calm = (Folder.make(base / name) for name in ("disturbed", "calm"))
    chance = random.Random(SEED)
    phases = [PHASES[number % len(PHASES)] for number in range(KILLS)]
    chance.shuffle(phases)
    feed, killer = Feed(disturbed, calm, KILLS), Killer(disturbed, chance)
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
    assert sum(killer.left[phase] for phase in set(PHASES)) == KILLS >= 25
    assert killer.left["logged batches"] > 3
    assert killer.left["lake ahead of store"] > 0, killer.left


def test_nothing_is_lost_and_nothing_is_doubled(runs: Runs) -> None:
    """Every message that was written is in the lake exactly once, or is a counted repeat."""
    feed, _, disturbed, _ = runs
    counts = disturbed.accounting
    assert int(counts["messages"].sum()) == feed.messages >= RECORDS
    kept = 0
    for name in NAMES:
        table = disturbed.tables[name]
        assert table.select("partition", "offset", "index").is_unique().all()
        of = counts.filter(stream=name)
        assert len(table) == int(of["on_time"].sum()) + int(of["late"].sum())
        kept += len(table)
    rejected = disturbed.tables["rejected"]
    assert rejected.select("stream", "partition", "offset", "index").is_unique().all()
    assert kept + len(rejected) + int(counts["duplicate"].sum()) == feed.messages


def test_the_run_had_everything_in_it(runs: Runs) -> None:
    _, _, disturbed, _ = runs
    for column in ("on_time", "late", "duplicate", "rejected", "suspects"):
        assert (disturbed.accounting[column] > 0).all(), column
    assert len(disturbed.tables["attacks"]) > 100
    assert len(disturbed.windows.filter("final")) > 50
    kinds = Counter(kind for kind, *_ in disturbed.alerts.values())
    assert {"attack", "rule", "window"} <= set(kinds), kinds
    assert "system" not in kinds


@pytest.mark.parametrize("table", [*NAMES, "attacks", "rejected"])
def test_the_lake_equals_an_undisturbed_run(runs: Runs, table: str) -> None:
    _, _, disturbed, calm = runs
    assert_frame_equal(disturbed.tables[table], calm.tables[table], check_exact=True)


PARTS: list[Callable[[Outcome], pl.DataFrame]] = [lambda run: run.windows, lambda run: run.accounting]


@pytest.mark.parametrize("part", PARTS, ids=["windows", "accounting"])
def test_the_store_equals_an_undisturbed_run(runs: Runs, part: Callable[[Outcome], pl.DataFrame]) -> None:
    _, _, disturbed, calm = runs
    assert_frame_equal(part(disturbed), part(calm))


def test_the_alerts_equal_an_undisturbed_run(runs: Runs) -> None:
    """The same ids with the same final counts and times; which record was the first seen may differ by timing."""
    _, _, disturbed, calm = runs
    assert disturbed.alerts == calm.alerts
