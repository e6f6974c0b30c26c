"""Feeds that go on while engines are killed, a killer that strikes in all phases of a life, and what must be left."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

from hackwatch.lake import Lake
from tests.engine.processes import FAULTS, NAMES, EngineProcess, Folder, Outcome, stretches, until

__all__ = ["PHASES", "Feed", "Killer", "assert_each_once"]

#: Phases of an engine's life, the dangerous ones twice.
PHASES = ("starting", "recovering", "working", "working", "committing", "committing")


class Feed(threading.Thread):
    """Writes simulated records to all folders, a share for each of so many `lives` of an engine.

    `records`: of hosts; of the shop as many more where it is among the streams of the folders.
    """

    def __init__(self, folders: Sequence[Folder], records: int, seed: int, lives: int, *, pause: float = 0.02) -> None:
        super().__init__(daemon=True)
        self._folders, self._lives, self._pause = folders, lives, pause
        self._life = 0
        self._stretches = list(stretches(folders[0].names, records, seed, FAULTS))
        self.messages = sum(len(payload) for stretch in self._stretches for payload in stretch.values())
        self.written = threading.Event()
        self.failure: BaseException | None = None

    def next_life(self) -> None:
        self._life += 1

    def run(self) -> None:
        try:
            with ExitStack() as stack:
                topics = [stack.enter_context(folder.writers()) for folder in self._folders]
                for number, stretch in enumerate(self._stretches):
                    while number * self._lives > (self._life + 1) * len(self._stretches):
                        time.sleep(0.01)
                    for writers in topics:
                        for name, payload in stretch.items():
                            payload.write_to(writers[name])
                    time.sleep(self._pause)
        except BaseException as error:  # a thread's exception would be lost: the test looks at it
            self.failure = error
        self.written.set()


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
            checkpoint = store.checkpoints.latest("main")
            identity = store.checkpoints.identity
        if checkpoint is not None:
            self.left["logged batches"] += bool(checkpoint.batches)
            lake = Lake(self._folder.data / "lake")
            epochs = {lake.last_epoch(name, f"main@{identity}") or 0 for name in self._folder.names}
            self.left["lake ahead of store"] += max(epochs) > checkpoint.epoch
            self.left["lake half ahead"] += len(epochs) == 2


def assert_each_once(run: Outcome, messages: int) -> None:
    """Every one of so many messages is in the lake exactly once, or rejected, or a counted repeat."""
    counts = run.accounting
    assert int(counts["messages"].sum()) == messages
    kept = 0
    for name in counts["stream"].unique():
        table = run.tables[name]
        assert table.select("partition", "offset", "index").is_unique().all()
        of = counts.filter(stream=name)
        assert len(table) == int(of["on_time"].sum()) + int(of["late"].sum())
        kept += len(table)
    assert kept + len(run.tables["rejected"]) + int(counts["duplicate"].sum()) == messages
