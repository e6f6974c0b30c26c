"""Real engines as processes of their own: data folders, small trained models, and what a run left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Self

import polars as pl

from hackwatch import streams, topics
from hackwatch.config import Settings, load_settings
from hackwatch.detect.registry import Registry, open_registry
from hackwatch.detect.training import Options, train
from hackwatch.engine.service import run_service
from hackwatch.errors import ResourceError
from hackwatch.families.host.simulate import Faults, Payload, generate, labelled
from hackwatch.families.host.simulate.bulk import Batch
from hackwatch.lake import Lake, open_lake
from hackwatch.store import Store, open_store
from hackwatch.streams.stream import DecodeOptions, Messages
from hackwatch.topics import TopicReader, TopicWriter
from tests.engine.support import intervals
from tests.streams.support import messages
from tests.third.support import RULES, SHOP, bundles

NAMES = ("process", "memory")
STARTED = "engine started"
PATIENCE = 120.0
START = 1_700_006_400.0
#: Late by less than what suppression remembers: how often a rule matched is then counted in full in every run.
FAULTS = Faults(
    disorder_seconds=10,
    late_share=0.02,
    late_seconds=(25, 60),
    duplicate_share=0.01,
    malformed_share=0.005,
)

#: Two things would make equal inputs give different outputs, rightly so: partitions that are idle for a time of the
#: clock, and alerts about drift, which is sampled by the clock. Neither is what these tests are about.
SETTINGS = """
[engine]
epoch_seconds = {epoch_seconds}
idle_seconds = {idle_seconds}
batch_bytes = {batch_bytes}
status_seconds = 0.1
reload_seconds = 0.1
[detection]
drift_alerts = false
[alerts]
window_warmup = 1
window_minimum = 1
[lake]
compact_minutes = 0
[log]
format = "json"
[streams.process]
duplicates_key = "uuid"
[streams.memory]
duplicates_key = "uuid"
"""
#: The streams of the shop are read the same way.
SHOP_SETTINGS = "".join(f'[streams.{name}]\nduplicates_key = "uuid"\n' for name in SHOP)


def until(condition: Callable[[], Any], what: str, *, seconds: float = PATIENCE, pause: float = 0.02) -> Any:
    """Wait for a condition to be true; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for nothing: {what}"
        time.sleep(pause)
    return value


@dataclass(frozen=True)
class Folder:
    """One data folder with its settings. `names`: its streams; those of the shop are there where it is installed."""

    path: Path
    names: tuple[str, ...] = NAMES

    @classmethod
    def make(
        cls,
        path: Path,
        *,
        models: bool = True,
        epoch_seconds: float = 0.5,
        idle_seconds: float = 1e6,
        batch_bytes: int = 256 << 10,
        more: str = "",
        shop: bool = False,
    ) -> Folder:
        path.mkdir(mode=0o700)
        text = SETTINGS.format(epoch_seconds=epoch_seconds, idle_seconds=idle_seconds, batch_bytes=batch_bytes)
        if shop:
            text = text.replace("[detection]\n", f'[detection]\nrules = ["{RULES}"]\n') + SHOP_SETTINGS
        (path / "hackwatch.toml").write_text(more + text)
        folder = cls(path, (*NAMES, *SHOP) if shop else NAMES)
        if models:
            add_models(folder, seed=1)
        return folder

    @property
    def correlations(self) -> list[str]:
        """Names of those that join its streams, as are their tables."""
        return [one.name for one in streams.correlations() if {one.left, one.right} <= set(self.names)]

    @property
    def config(self) -> Path:
        return self.path / "hackwatch.toml"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def settings(self) -> Settings:
        return load_settings(self.config, {"data": self.data})

    @property
    def registry(self) -> Registry:
        return open_registry(self.settings)

    @property
    def lake(self) -> Lake:
        return open_lake(self.settings)

    def spool(self, stream: str) -> Path:
        return self.data / "spool" / stream

    @contextmanager
    def writers(self) -> Iterator[dict[str, TopicWriter]]:
        self.data.mkdir(mode=0o700, exist_ok=True)
        opened = {name: topics.open_writer(str(self.spool(name))) for name in self.names}
        yield opened
        for writer in opened.values():
            writer.close()

    def ends(self) -> dict[tuple[str, int], int]:
        """Where each partition's messages end."""
        readers: dict[str, TopicReader] = {name: topics.open_reader(str(self.spool(name))) for name in self.names}
        ends = {(name, p): reader.end_offset(p) for name, reader in readers.items() for p in reader.partitions()}
        for reader in readers.values():
            reader.close()
        return ends

    @contextmanager
    def store(self) -> Iterator[Store]:
        with open_store(self.settings.store_url, read_only=True) as store:
            yield store

    def committed(self) -> dict[tuple[str, int], int]:
        """How far each partition is committed."""
        try:
            with self.store() as store:
                checkpoint = store.checkpoints.latest(self.settings.pipeline)
        except ResourceError:  # no store yet
            return {}
        return {(s, p): at for (s, _, p), at in checkpoint.offsets.items()} if checkpoint else {}

    def worked_off(self) -> bool:
        """Whether everything in the topics is committed."""
        committed = self.committed()
        return all(committed.get(place, 0) == end for place, end in self.ends().items())

    def state(self) -> str:
        """The engine's state as others see it."""
        try:
            with self.store() as store:
                return str(store.statuses.read().get(self.settings.pipeline, {}).get("state", ""))
        except ResourceError:  # no store yet
            return ""

    def run(self, *, logs: Path | None = None) -> EngineProcess:
        """A real engine; its log in the folder `logs`, or in this one."""
        return EngineProcess(self, logs or self.path)

    @contextmanager
    def service(self) -> Iterator[EngineThread]:
        """An engine in a thread of this process: everything but signals and exit codes, and at once."""
        engine = EngineThread(self.settings)
        engine.start()
        try:
            yield engine
        finally:
            engine.stop.set()
            engine.join(PATIENCE)
        if engine.failure is not None:
            raise engine.failure


class EngineThread(threading.Thread):
    """`run_service`; what it raised is in `failure`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.stop, self._settings = threading.Event(), settings
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            run_service(self._settings, self.stop)
        except BaseException as error:  # to be raised in the thread of the test
            self.failure = error


class Program:
    """A program in a process group of its own, which a kill takes as a whole; what it writes is in a file."""

    #: Seconds to wait for its end.
    patience = PATIENCE

    def __init__(self, arguments: Sequence[str], folder: Path, logs: Path) -> None:
        self._log = logs / f"log-{time.monotonic_ns()}.txt"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=folder,
                env={name: value for name, value in os.environ.items() if not name.startswith("HACKWATCH_")},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ended(self) -> int:
        """Its exit code."""
        return self.process.wait(self.patience)


class EngineProcess(Program):
    """`hackwatch run` on a data folder."""

    def __init__(self, folder: Folder, logs: Path) -> None:
        start = [sys.executable, "-m", "hackwatch", "--config", str(folder.config), "--data", str(folder.data)]
        super().__init__([*start, "run"], folder.path, logs)

    def started(self) -> EngineProcess:
        """Wait until it works in its folder."""
        until(lambda: STARTED in self.log or not self.alive, "the engine starts", pause=0.005)
        assert self.alive, self.log
        return self

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        """SIGTERM, and the exit code of a good end."""
        self.send(signal.SIGTERM)
        assert self.ended() == 0, self.log


def work_off(folder: Folder) -> None:
    """Run an engine until everything is committed, and end it."""
    with folder.run() as engine:
        until(lambda: folder.worked_off() or not engine.alive, "everything is committed")
        assert engine.alive, engine.log
        engine.stop()


def add_models(folder: Folder, seed: int) -> dict[str, str]:
    """Train a small model for each stream on simulated records, and promote it; the versions."""
    folder.data.mkdir(mode=0o700, exist_ok=True)
    options = Options(seed=seed, trees=8, depth=4, folds=2, alert_budget=0.01, threads=1)
    versions = {}
    for name, frame in zip(NAMES, labelled(seed, records=4000), strict=True):
        stream = streams.get(name)
        payload = frame.write_ndjson().encode()
        decoded = stream.decode(as_messages(payload), DecodeOptions(labels=True))
        versions[name] = folder.registry.add(train(decoded.records, stream, options=options), stream)
    for name in SHOP if "visit" in folder.names else ():
        versions[name] = folder.registry.add(bundles(seed)[name], streams.get(name))
    return versions


def as_messages(payload: bytes) -> Messages:
    return messages(payload.split(b"\n")[:-1])


def simulated(
    records: int, seed: int, faults: Faults, *, per_second: float = 400.0, start: float = START
) -> Iterator[Batch]:
    """Batches of about 2,000 records of 20 machines, identified by `uuid`."""
    return generate(
        records,
        seed,
        machines=20,
        processes=50,
        attack_share=0.05,
        records_per_second=per_second,
        identified=True,
        start=start,
        faults=faults,
    )


#: What is written to each topic at a time.
Stretch = dict[str, Payload]


def stretches(
    names: Sequence[str], records: int, seed: int, faults: Faults, *, start: float = START
) -> Iterator[Stretch]:
    """The same minutes of all these streams; `records`: of hosts, and as many of the shop."""
    hosts = simulated(records, seed, faults, start=start)
    if "visit" not in names:
        yield from ({name: getattr(batch, name) for name in NAMES} for batch in hosts)
        return
    import shop_simulator

    visits = shop_simulator.generate(
        records, seed, records_per_second=400.0, identified=True, start=start, faults=faults
    )
    for batch, visited in zip_longest(hosts, visits):
        yield {
            name: getattr(one, name)
            for one, some in ((batch, NAMES), (visited, SHOP))
            for name in some
            if one is not None
        }


def feed(folder: Folder, records: int, seed: int = 1) -> int:
    """Write simulated records, those of another seed as a later part of the same story; how many messages that made."""
    written = 0
    with folder.writers() as writers:
        for stretch in stretches(folder.names, records, seed, FAULTS, start=START + seed * records / 400):
            for name, payload in stretch.items():
                data = payload.data.replace(b'"uuid":"', b'"uuid":"%d-' % seed)
                replace(payload, data=data).write_to(writers[name])
                written += len(payload)
    return written


def lake_rows(folder: Folder, table: str) -> pl.DataFrame:
    """The site's rows in the order of positions, without what depends on the cut of epochs and on the clock.

    The name of a model does: its bundle says when it was trained.
    """
    rows = folder.lake.scan(table).filter(pl.col("site") == folder.settings.site)
    frame = rows.drop("processing_time", "epoch", "model", strict=False).collect()
    if table == "rejected":
        frame = frame.drop("date")  # of the processing time
    places = [column for column in frame.columns if column.rpartition("_")[2] in ("partition", "offset", "index")]
    streams_ = ["stream"] if "stream" in frame.columns else []
    return frame.select(sorted(frame.columns)).sort([*streams_, *sorted(places)])


@dataclass(frozen=True)
class Outcome:
    """What must not depend on how often an engine was killed."""

    tables: dict[str, pl.DataFrame]
    windows: pl.DataFrame
    intervals: list[tuple[Any, ...]]
    alerts: dict[str, tuple[Any, ...]]
    accounting: pl.DataFrame

    @classmethod
    def of(cls, folder: Folder) -> Outcome:
        with folder.store() as store:
            alerts = store.triage.alerts(limit=1_000_000)
            return cls(
                {name: lake_rows(folder, name) for name in (*folder.names, *folder.correlations, "rejected")},
                store.windows.find(limit=1_000_000).sort("stream", "entity", "start"),
                intervals(store),
                {a.id: (a.kind, a.stream, a.entity, a.rule, a.count, a.last_seen) for a in alerts},
                store.accounting.totals(),
            )
