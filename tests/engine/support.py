"""An engine over real streams and a real store, with seams for crashes: in every test of this folder."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch import streams, testing
from hackwatch.alerts.policy import AlertPolicy
from hackwatch.alerts.system import Notice
from hackwatch.config import AlertSettings, EngineSettings
from hackwatch.detect.detector import Detector, Driver
from hackwatch.detect.panel import CHAMPION, place
from hackwatch.engine.loop import Engine
from hackwatch.engine.parts import EngineParts, EngineView, StreamInput
from hackwatch.families.host.simulate import Faults
from hackwatch.pipeline.core import Output, Pipeline
from hackwatch.pipeline.enrichment import StatefulEnrichment
from hackwatch.pipeline.options import StreamOptions
from hackwatch.runtime.detectors import Models
from hackwatch.runtime.enrichments import Enrichments
from hackwatch.runtime.registry import BundleSource
from hackwatch.store import Store, open_store
from hackwatch.streams.stream import DecodeOptions
from hackwatch.testing import FakeClock, MemoryTopic

FAULTS = Faults(disorder_seconds=10, late_share=0.02, malformed_share=0.02)


class Crash(BaseException):
    """The process is gone; not an Exception, so that nothing in the engine can catch it."""


class Inline(Executor):
    """Runs at once, in the calling thread: a crash in it is a crash of the engine."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Crasher:
    """Counts I/O calls and crashes in one of them: before it does anything, or after it has done everything."""

    def __init__(self, at: int | None = None, *, after: bool = False) -> None:
        self.at, self.after, self.calls = at, after, 0

    def around(self, target: Any, names: Sequence[str]) -> Any:
        crasher = self

        class Guarded:
            def __getattr__(self, name: str) -> Any:
                attribute = getattr(target, name)
                return crasher._guard(attribute) if name in names else attribute

        return Guarded()

    def _guard(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            hit = self.calls == self.at
            if hit and not self.after:
                raise Crash
            result = call(*args, **kwargs)
            if hit:
                raise Crash
            return result

        return guarded


class MemoryLake:
    """The lake's contract in memory: an epoch of a pipeline is appended to a table once."""

    def __init__(self) -> None:
        self.tables: dict[str, list[pl.DataFrame]] = {}
        self.epochs: dict[tuple[str, str], int] = {}

    def append(self, table: str, frame: pl.DataFrame, epoch: int, pipeline: str) -> bool:
        if self.epochs.get((table, pipeline), 0) >= epoch:
            return False
        self.tables.setdefault(table, []).append(frame)
        self.epochs[(table, pipeline)] = epoch
        return True

    def rows(self, table: str) -> pl.DataFrame:
        return pl.concat(self.tables.get(table) or [pl.DataFrame()])


#: What makes a record suspect, and the column that says so. Of other streams, what is suspect is a matter of its name.
SUSPICIOUS = {"visit": ("status", pl.col("status") == 404), "login": ("failed", pl.col("failed") == 1)}


def suspicious(stream: str) -> tuple[str, pl.Expr]:
    name = streams.get(stream).identity
    return SUSPICIOUS.get(stream) or (name, pl.col(name).str.len_bytes() % 3 == 0)


class Planted:
    """A detector that finds suspect what has failed: cheap, and the same on every machine."""

    def __init__(self, stream: str) -> None:
        self.stream, self.version, self.threshold = stream, f"{stream}-planted", 0.5
        self._column, self._suspicious = suspicious(stream)

    def score(self, records: pl.DataFrame) -> npt.NDArray[np.float32]:
        return np.where(records.select(self._suspicious).to_series().to_numpy(), 0.9, 0.1).astype(np.float32)

    def explain(self, records: pl.DataFrame, top: int = 4) -> list[list[Driver]]:
        return [[Driver(self._column, str(value), "1", 1.0)] for value in records[self._column]]


class PlantedSource:
    """A registry whose bundles are planted detectors."""

    def __init__(self) -> None:
        self.versions = {name: f"{name}-planted" for name in streams.names()}

    def current(self, stream: str, role: str = CHAMPION) -> str | None:
        return self.versions.get(place(stream, role))

    def load(self, stream: str, version: str) -> Detector:
        return Planted(stream)


class Quiet:
    """An observer that only remembers."""

    def __init__(self, models: Models | None = None) -> None:
        self.pauses: list[str | None] = []
        self._models = models

    def batch(self, output: Output, began: float, wall: float) -> None:
        pass

    def turn(self, engine: EngineView) -> None:
        pass

    def wrote(self, table: str, seconds: float) -> None:
        pass

    def committed(self, epoch: int, seconds: float) -> None:
        if self._models is not None:
            self._models.committed(epoch)

    def stored(self) -> None:
        pass

    def paused(self, why: str | None) -> None:
        self.pauses.append(why)


class JumpyClock(FakeClock):
    """Moves a little, at random, each time it is read, so that epochs are cut at different places."""

    def __init__(self, seed: int) -> None:
        super().__init__(wall=1_700_100_000.0)
        self._random = random.Random(seed)

    def monotonic(self) -> float:
        self.advance(self._random.choice((0.0, 0.001, 0.2, 0.7)))
        return super().monotonic()


def simulated_topics(
    seed: int, records: int = 1500, faults: Faults = FAULTS, family: str = "shop"
) -> dict[str, MemoryTopic]:
    """A few minutes of the shop, which must be installed: out of order within the bound, with late and bad messages."""
    return testing.simulated_topics(records, seed, family=family, faults=faults)


@dataclass
class House:
    """What survives a crash: topics, store and lake."""

    topics: dict[str, MemoryTopic]
    store: Store
    lake: Any = field(default_factory=MemoryLake)
    source: BundleSource | None = None
    roles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tables: Mapping[str, Path] = field(default_factory=dict)
    folder: Path = Path()
    told: list[Notice] = field(default_factory=list)

    @classmethod
    def build(cls, folder: Path, seed: int, records: int = 1500, *, host: bool = False) -> House:
        """`host`: half of the records are of hosts, beside those of the shop."""
        if not host:
            return cls(simulated_topics(seed, records), open_store(folder / "store.sqlite"))
        made = simulated_topics(seed, records // 2, family="host") | simulated_topics(seed, records // 2)
        return cls(made, open_store(folder / "store.sqlite"))

    def engine(self, seed: int = 0, crasher: Crasher | None = None, *, epoch_seconds: float = 2.0) -> Engine:
        crasher = crasher or Crasher()
        calls = ("log_batches", "commit_epoch", "append", "commit", "read", "latest")
        sources = {
            name: StreamInput(streams.get(name), crasher.around(topic, calls), DecodeOptions())
            for name, topic in self.topics.items()
        }
        stateful = StatefulEnrichment({name: streams.stateful_enrichers(name) for name in sources})
        names, folder = tuple(sources), self.folder / "tables"
        enrichments = Enrichments(names, self.tables, folder, self.told.append, stateful)
        models = Models(self.source or PlantedSource(), names, lambda notice: None, self.roles, enrichments)
        parts = EngineParts(
            inputs=sources,
            pipeline=Pipeline(
                {
                    name: (source.stream, StreamOptions(aggregates=streams.aggregates(name)))
                    for name, source in sources.items()
                },
                streams.correlations(),
                AlertPolicy(AlertSettings(window_minimum=1, window_warmup=1)),
                enrichment=stateful,
            ),
            models=models,
            rules=None,
            checkpoints=crasher.around(self.store.checkpoints, calls),
            lake=crasher.around(self.lake, calls),
            clock=JumpyClock(seed),
            scorers=Inline(),
            epochs=Inline(),
            observer=Quiet(models),
        )
        size = random.Random(seed).choice((2_000, 20_000, 60_000))
        settings = EngineSettings(epoch_seconds=epoch_seconds, batch_bytes=size, epoch_records=10_000)
        return Engine(parts, settings, threading.Event())


def work_off(engine: Engine) -> None:
    """Recover, work until the topics are empty, and commit."""
    engine.recover()
    while engine.turn() or any(engine.lag().values()):
        pass
    engine.drain()


def intervals(store: Store) -> list[tuple[Any, ...]]:
    """The intervals of all aggregates, without what depends on the order in which records are added.

    Sums are compared but for the rounding of their last digits, of top values only how often they occur, and quantiles,
    of which there may be a sketch, only in number.
    """
    places = ("stream", "aggregate", "keys", "source", "start_time", "end_time")
    rows = store.frame("aggregates").select(*places, "measures").iter_rows()
    return sorted((*where, *map(_settled, sorted(json.loads(measures).items()))) for *where, measures in rows)


def _settled(measure: tuple[str, Any]) -> tuple[str, Any]:
    name, value = measure
    if isinstance(value, list):
        return name, sorted(one["count"] if isinstance(one, dict) else 0 for one in value)
    return name, float(f"{value:.9g}") if isinstance(value, float) else value


@dataclass(frozen=True)
class Result:
    """Everything that must not depend on crashes, as comparable values."""

    rows: Mapping[str, list[tuple[Any, ...]]]
    windows: list[tuple[Any, ...]]
    intervals: list[tuple[Any, ...]]
    alerts: list[tuple[Any, ...]]
    accounting: list[tuple[Any, ...]]

    @classmethod
    def of(cls, house: House) -> Result:
        lake: MemoryLake = house.lake
        rows = {
            name: sorted(lake.rows(name).select("partition", "offset", "index", "score", "late").iter_rows())
            for name in house.topics
        }
        for one in streams.correlations():
            if {one.left, one.right} <= set(house.topics):
                places = [f"{side}_{column}" for side in (one.left, one.right) for column in ("partition", "offset")]
                rows[one.name] = sorted(lake.rows(one.name).select(*one.keys, *places).iter_rows())
        rejected = lake.rows("rejected")
        rows["rejected"] = sorted(rejected.select("stream", "partition", "offset", "reason", "raw").iter_rows())
        columns = ("stream", "entity", "start", "end", "records", "suspects", "count")
        windows = house.store.windows.find().select(columns)
        # Whether a clock seems wrong is asked by engine time, of the sources that are active then.
        found = house.store.triage.alerts(limit=100_000)
        alerts = [(a.id, a.count, a.last_seen) for a in found if a.rule != "clock-skew"]
        return cls(
            rows,
            sorted(windows.iter_rows()),
            intervals(house.store),
            sorted(alerts),
            sorted(house.store.accounting.totals().iter_rows()),
        )
