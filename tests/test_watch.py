"""`hackwatch watch` on this very machine: learning, restarts, and what it finds."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from hackwatch import streams
from hackwatch.config import Settings, prepare_data_folder
from hackwatch.detect.registry import Registry, open_registry
from hackwatch.families.host.simulate import labelled
from hackwatch.lake import open_lake
from hackwatch.runtime.lock import EngineLock
from hackwatch.store import open_store
from hackwatch.streams.stream import DecodeOptions, Messages
from hackwatch.testing import FakeClock
from hackwatch.top import Story
from hackwatch.watch import Learner

STREAMS = ("process", "memory")
HACKWATCH = [sys.executable, "-m", "hackwatch"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="collects from /proc")


# ---------------------------------------------------------------------------------------------- learning


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=prepare_data_folder(tmp_path / "data"))


class Waiting(threading.Event):
    """An event whose waiting moves a clock."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.sleep(timeout or 0.0)
        return self.is_set()


def learner(settings: Settings, clock: FakeClock) -> tuple[Learner, Registry, Story, Waiting]:
    models, story, stop = open_registry(settings), Story(clock.wall), Waiting(clock)
    return Learner(settings, models, dict.fromkeys(STREAMS, "web-1"), story, stop, clock), models, story, stop


def fill(settings: Settings, began: float, *, records: int = 800) -> None:
    """The lake as after some minutes on `web-1`, with rows that are not to be learned from."""
    lake = open_lake(settings)
    for name, frame in zip(
        STREAMS, labelled(5, machines=1, records=records, attack_share=0.0, start=began), strict=True
    ):
        payload = frame.write_ndjson().encode()
        lines = payload.split(b"\n")[:-1]
        offsets = pl.Series([0, *(len(line) + 1 for line in lines[:-1])]).cum_sum().to_numpy()
        rows = streams.get(name).decode(Messages("t", 0, payload, offsets, len(payload)), DecodeOptions()).records
        moment = pl.lit(round(began * 1e6)).cast(pl.Datetime("us", "UTC"))
        rows = rows.with_columns(
            pl.lit("web-1").alias("machine"),
            moment.alias("event_time"),
            moment.dt.date().alias("date"),
            pl.lit("local").alias("site"),
            pl.lit(0, pl.Int8).alias("prediction"),
        )
        few = rows.head(50)
        others = [
            few.with_columns(pl.lit("db-1").alias("machine")),
            few.with_columns(pl.lit(1, pl.Int8).alias("prediction")),
            few.with_columns((pl.col("event_time") - pl.duration(hours=1)).alias("event_time")),
        ]
        lake.append(name, pl.concat([rows, *others]), 1, "main")


def test_it_learns_for_so_long_and_promotes_both_detectors(settings: Settings) -> None:
    clock = FakeClock()
    fill(settings, clock.wall() + 1)
    work, models, story, _ = learner(settings, clock)
    began = clock.monotonic()
    work.run(300)
    assert 300 <= clock.monotonic() - began < 302
    for name in STREAMS:
        bundle = models.load(name)
        assert (bundle.description.method, bundle.description.rows) == ("unsupervised", 800)
    assert story.notes()[-1].tone == "found"
    assert story.progress() is None
    assert not (settings.data / "learning.json").exists()


def test_a_restart_goes_on_where_it_ended(settings: Settings) -> None:
    clock = FakeClock()
    began = clock.wall()
    first, _, _, stop = learner(settings, clock)
    stop_at(stop, clock, 120)
    first.run(300)
    kept = json.loads((settings.data / "learning.json").read_text())
    assert kept["since"] == began
    assert 119 <= kept["seconds"] <= 121
    fill(settings, began + 1)
    clock.sleep(10_000)
    second, models, story, _ = learner(settings, clock)
    again = clock.monotonic()
    second.run(300)
    assert 179 <= clock.monotonic() - again <= 182
    assert all(models.current(name) for name in STREAMS)
    assert not any("learning what is normal" in note.text for note in story.notes())


def stop_at(stop: Waiting, clock: FakeClock, seconds: float) -> None:
    due, wait = clock.monotonic() + seconds, stop.wait

    def waiting(timeout: float | None = None) -> bool:
        if clock.monotonic() >= due:
            stop.set()
        return wait(timeout)

    stop.wait = waiting  # type: ignore[method-assign]  # this instance alone


def test_with_too_little_to_learn_from_it_goes_on(settings: Settings) -> None:
    clock = FakeClock()
    work, models, story, stop = learner(settings, clock)
    stop_at(stop, clock, 700)
    work.run(300)
    assert [note.text for note in story.notes() if note.tone == "warning"] == [
        "no records of process yet: learning goes on"
    ] * 2
    assert not models.current("process")


# ---------------------------------------------------------------------------------------------- the real machine


class Watching:
    """`hackwatch watch` in the background, its output in a file."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self.data, self.file = data, data.parent / f"watch-{time.monotonic_ns()}.log"
        with self.file.open("w") as output:
            self.process = subprocess.Popen(
                [*HACKWATCH, "--data", str(data), "watch", *arguments],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def told(self) -> str:
        return self.file.read_text()

    def expect(self, pattern: str, seconds: float) -> tuple[re.Match[str], float]:
        """The first match in what was told, and the moment of the line (Unix seconds)."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(rf"^(\S+ \S+)Z .*{pattern}.*$", self.told, re.M)):
            assert time.monotonic() < deadline, f"{pattern!r} not in\n{self.told}"
            assert self.process.poll() is None, self.told
            time.sleep(0.1)
        return found, datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def watching(data: Path, *arguments: str) -> Iterator[Watching]:
    started = Watching(data, *arguments)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()


@contextmanager
def busy(folder: Path, name: str) -> Iterator[float]:
    """A harmless busy loop under this name; the moment of its start."""
    program = folder / name
    shutil.copy(shutil.which("yes") or "/usr/bin/yes", program)
    loop = subprocess.Popen([program], stdout=subprocess.DEVNULL)
    try:
        yield time.time()
    finally:
        loop.kill()
        loop.wait()


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.platform
@linux
def test_a_miner_and_a_burst_are_found_within_15_seconds_and_explained(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with watching(data) as watch:
        watch.expect("running: [1-9]", 60)
        with busy(tmp_path, "xmrig") as began:
            found, told = watch.expect("xmrig", 15)
        assert told - began < 15
        assert re.search(r"HIGH +\S+: A crypto-currency miner is using the processor \(.*ATT&CK T1496", found[0])
        assert re.search(r"CPU \d+ %", found[0])
        began = time.time()
        for _ in range(200):
            subprocess.run(["/bin/true"], check=True)
        blind = "short-lived processes and exit codes: not visible" in watch.told
        if not blind:
            found, told = watch.expect("A burst of short-lived processes", 15)
            assert told - began < 15
            assert "ATT&CK T1059" in found[0]
        assert watch.end() == 0
    with open_store(data / "store.sqlite", read_only=True) as store:
        (miner,) = store.triage.alerts(rule="crypto-miner")
        assert (miner.entity, miner.subject, miner.technique) == (socket.gethostname(), "xmrig", "T1496")
        assert miner.evidence["CMD"] == "xmrig"
        assert miner.evidence["CPU"] >= 0.05
    if blind:
        pytest.skip("the miner is found; a burst cannot be: the kernel tells this user of no ending processes")


@pytest.mark.timeout(1200)
@pytest.mark.slow
@pytest.mark.platform
@linux
@pytest.mark.parametrize(
    ("learn", "rest"),
    [
        pytest.param(1.0, 0.75, marks=pytest.mark.alone, id="short"),
        pytest.param(5.0, 10.0, marks=pytest.mark.soak, id="ten minutes"),
    ],
)
def test_the_machine_at_rest_raises_nothing_after_learning(tmp_path: Path, learn: float, rest: float) -> None:
    """`learn`, `rest`: minutes."""
    data = tmp_path / "data"
    with watching(data, "--interval", "2", "--learn", str(learn)) as watch:
        watch.expect("detectors watch from now on", 60 * learn + 90)
        learned = time.time()
        time.sleep(60 * rest)
        with open_store(data / "store.sqlite", read_only=True) as store:
            assert [alert.title for alert in store.triage.alerts(since=learned)] == []
        assert watch.end() == 0
    # Started again, it detects at once.
    with watching(data, "--interval", "2") as again:
        again.expect("detectors learned earlier watch too", 60)
        assert "learning" not in again.told
        assert again.end() == 0


@pytest.mark.slow
@linux
def test_one_engine_a_folder(tmp_path: Path) -> None:
    data = prepare_data_folder(tmp_path / "data")
    with EngineLock(data / "engine.lock"), watching(data) as second:
        assert second.process.wait(60) == 4
        assert "another engine" in second.told
    assert not (data / "spool").exists()
