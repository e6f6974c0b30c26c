"""Engines over topics in memory by a clock that tests move, and what became of each record."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from hackwatch import streams
from hackwatch.alerts.policy import AlertPolicy
from hackwatch.config import AlertSettings, EngineSettings, StreamSettings
from hackwatch.detect.rules import load_rules
from hackwatch.engine.loop import Engine
from hackwatch.engine.parts import EngineParts, StreamInput
from hackwatch.pipeline.core import Output, Pipeline
from hackwatch.pipeline.options import StreamOptions
from hackwatch.runtime.detectors import Models
from hackwatch.store import Store, open_store
from hackwatch.streams.stream import DecodeOptions
from hackwatch.testing import FakeClock, MemoryTopic
from tests.engine.support import Inline, MemoryLake, PlantedSource, Quiet
from tests.third.support import SHOP

__all__ = ["WALL", "Site"]

WALL = 1_795_720_100.0


class Seen(Quiet):
    """Remembers what became of each record: its place -> whether it was late."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = names
        self.late: dict[tuple[str, int, int, int], bool] = {}

    def batch(self, output: Output, began: float, wall: float) -> None:
        for name in self._names:
            for frame in output.rows.get(name, []):
                for partition, offset, index, late in frame.select("partition", "offset", "index", "late").iter_rows():
                    self.late[(name, partition, offset, index)] = late


class Site:
    """Topics, store and lake, and engines that come and go over them by a clock that tests move.

    `names`: its streams; the first is the one that is asked about.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str] = SHOP,
        *,
        partitions: int = 2,
        duplicates_key: str | None = None,
        max_sources: int = 100_000,
    ) -> None:
        self.names = names
        self.topics = {name: MemoryTopic(f"{name}-topic", partitions) for name in names}
        self.store: Store = open_store(folder / "store.sqlite")
        self.lake, self.clock = MemoryLake(), FakeClock(WALL)
        self.options = StreamOptions(
            StreamSettings(duplicates_key=duplicates_key), EngineSettings(max_sources=max_sources)
        )
        self.seen = Seen(names)
        self.engine = self.start()

    def start(self, batch_bytes: int = 1 << 20) -> Engine:
        known = {name: streams.get(name) for name in self.names}
        rules = load_rules((), known, shipped=True)
        key = self.options.stream.duplicates_key
        parts = EngineParts(
            inputs={n: StreamInput(known[n], topic, DecodeOptions(key=key)) for n, topic in self.topics.items()},
            pipeline=Pipeline(
                {name: (known[name], self.options) for name in self.names}, streams.correlations(),
                AlertPolicy(AlertSettings(), rules),
            ),
            models=Models(PlantedSource(), tuple(self.names), lambda notice: None),
            rules=rules, checkpoints=self.store.checkpoints, lake=self.lake, clock=self.clock,
            scorers=Inline(), epochs=Inline(), observer=self.seen,
        )  # fmt: skip
        self.engine = Engine(parts, EngineSettings(epoch_seconds=5.0, batch_bytes=batch_bytes), threading.Event())
        self.engine.recover()
        return self.engine

    def run(self, seconds: float) -> None:
        """Let the engine work for so long by its clock."""
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            if not self.engine.turn():
                self.clock.advance(0.24)

    def send(self, name: str, lines: list[bytes], partition: int = 0) -> None:
        self.topics[name].append(lines, partition=partition)

    def windows(self) -> list[bool]:
        """Whether each window of the first stream is final, in the order of time."""
        return self.store.windows.find(stream=self.names[0])["final"].to_list()

    def late(self) -> dict[str, int]:
        """How many records of each source of the first stream are late."""
        name = self.names[0]
        rows = self.lake.rows(name).filter("late")
        return dict(rows.group_by(streams.get(name).source).len().iter_rows())
