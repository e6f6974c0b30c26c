"""Clocks of sources through the whole engine: liars, silence, catching up, keys; and crashes while sources are idle."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

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
from hackwatch.streams.base import DecodeOptions
from hackwatch.testing import FakeClock, MemoryTopic
from tests.conftest import ROOT
from tests.engine.support import Inline, MemoryLake, PlantedSource, Quiet

CASES = ROOT / "tests" / "cases"
WALL = 1_795_720_100.0
STREAMS = ("process", "memory")


class Seen(Quiet):
    """Remembers what became of each record: its place -> whether it was late."""

    def __init__(self) -> None:
        super().__init__()
        self.late: dict[tuple[str, int, int, int], bool] = {}

    def batch(self, output: Output, began: float, wall: float) -> None:
        for name in STREAMS:
            for frame in output.rows.get(name, []):
                for partition, offset, index, late in frame.select("partition", "offset", "index", "late").iter_rows():
                    self.late[(name, partition, offset, index)] = late


class Site:
    """Topics, store and lake, and engines that come and go over them by a clock that tests move."""

    def __init__(
        self, folder: Path, *, partitions: int = 2, duplicates_key: str | None = None, max_sources: int = 100_000
    ) -> None:
        self.topics = {name: MemoryTopic(f"{name}-topic", partitions) for name in STREAMS}
        self.store: Store = open_store(folder / "store.sqlite")
        self.lake, self.clock = MemoryLake(), FakeClock(WALL)
        self.options = StreamOptions(
            StreamSettings(duplicates_key=duplicates_key), EngineSettings(max_sources=max_sources)
        )
        self.seen = Seen()
        self.engine = self.start()

    def start(self, batch_bytes: int = 1 << 20) -> Engine:
        known = {name: streams.get(name) for name in STREAMS}
        rules = load_rules((), known, shipped=True)
        key = self.options.stream.duplicates_key
        parts = EngineParts(
            inputs={n: StreamInput(known[n], topic, DecodeOptions(key=key)) for n, topic in self.topics.items()},
            pipeline=Pipeline(
                {name: (known[name], self.options) for name in STREAMS}, streams.correlations(),
                AlertPolicy(AlertSettings(), rules),
            ),
            models=Models(PlantedSource(), STREAMS, lambda notice: None),
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

    def windows(self) -> list[bool]:
        """Whether each window of `process` is final, in the order of time."""
        return self.store.windows.find(stream="process")["final"].to_list()

    def late(self) -> dict[str, int]:
        rows = self.lake.rows("process")
        return dict(rows.filter("late").group_by("machine").len().iter_rows())


def send(site: Site, name: str, lines: list[bytes], partition: int = 0) -> None:
    site.topics[name].append(lines, partition=partition)


def case(name: str) -> list[bytes]:
    return (CASES / name).read_bytes().splitlines()


def record(t: float, machine: str = "m", pid: int = 7, **more: Any) -> bytes:
    usual = {
        "sequence": 0, "machine": machine, "PID": pid, "TRUN": 0, "TSLPI": 1, "TSLPU": 0, "POLI": "norm", "NICE": 0,
        "PRI": 120, "RTPR": 0, "CPUNR": 1, "Status": "-", "EXC": 0, "State": "S", "CPU": 0.01, "CMD": "sshd", "ts": t,
    }  # fmt: skip
    return orjson.dumps({**usual, **more})


def occupied(t: float, machine: str = "m", pid: int = 7) -> bytes:
    sizes = dict.fromkeys(("MINFLT", "MAJFLT", "VSTEXT", "VSIZE", "RSIZE", "VGROW", "RGROW", "MEM"), 0)
    return orjson.dumps({"sequence": 0, "machine": machine, "PID": pid, "CMD": "sshd", "ts": t, **sizes})


@pytest.mark.parametrize(("seconds", "final"), [(40, [True, True, True, False]), (90, [True, True, True, True])])
def test_windows_close_though_one_partition_is_empty_and_all_are_silent(
    tmp_path: Path, seconds: float, final: list[bool]
) -> None:
    site = Site(tmp_path)
    send(site, "process", case("22-idle-partition.ndjson"))
    site.run(seconds)
    site.engine.drain()
    assert site.windows() == final


def test_a_liar_and_a_slow_machine_harm_nobody_and_are_named(tmp_path: Path) -> None:
    site = Site(tmp_path, partitions=1)
    send(site, "process", case("30-clocks.ndjson"))
    site.run(10)
    site.engine.drain()
    assert set(site.late()) <= {"liar"}
    named = [alert for alert in site.store.triage.alerts() if alert.rule == "clock-skew"]
    assert {alert.entity for alert in named} == {"liar", "slow"}
    assert {alert.kind for alert in named} == {"system"}
    skewed = site.engine.parts.pipeline.state("process").clocks.skew.named()
    assert set(skewed) == {"liar", "slow"}
    assert skewed["liar"] > 0 > skewed["slow"]


@pytest.mark.parametrize("batch_bytes", [4096, 1 << 20], ids=["cut into pieces", "in one batch"])
def test_keys_belong_to_their_source_whatever_the_cut(tmp_path: Path, batch_bytes: int) -> None:
    site = Site(tmp_path, partitions=1, duplicates_key="uuid")
    site.start(batch_bytes)
    for line in case("31-duplicates.ndjson"):
        send(site, "process", [line])
        if batch_bytes == 4096:
            site.run(0.1)
    site.run(1)
    site.engine.drain()
    rows = site.lake.rows("process")
    assert dict(rows.group_by("machine").len().iter_rows()) == {"m0": 3, "evil": 1, "victim": 1}
    assert "victim" in {alert.entity for alert in site.store.triage.alerts()}


def test_an_outage_of_eight_minutes_of_one_collector_does_not_touch_its_sister(tmp_path: Path) -> None:
    site = Site(tmp_path, partitions=1)
    for second in range(0, 600, 10):
        send(site, "process", [record(WALL + second)])
        if second < 60 or second >= 540:
            send(site, "memory", [occupied(WALL + second)])
        site.run(10)
    site.engine.drain()
    totals = {stream: counts.late for (stream, _, _), counts in site.engine.parts.pipeline.totals.items()}
    assert totals == {"process": 0, "memory": 0}


def test_a_backlog_of_last_year_waits_for_nobody_and_nobody_for_it(tmp_path: Path) -> None:
    """Without a correlation, streams are of two groups: live records are read while the other one catches up."""
    site = Site(tmp_path, partitions=1)
    old = [record(WALL - 3e7 + second) for second in range(5_000)]
    send(site, "process", old)
    send(site, "memory", [occupied(WALL + second) for second in range(5)])
    parts = site.engine.parts
    apart = Pipeline({n: (s.stream, site.options) for n, s in parts.inputs.items()}, [], AlertPolicy(AlertSettings()))
    engine = Engine(replace(parts, pipeline=apart), EngineSettings(batch_bytes=65_536), threading.Event())
    engine.recover()
    for _ in range(3):
        engine.turn()
    send(site, "memory", [occupied(WALL + 5)])
    for _ in range(2):
        engine.turn()
    lag = engine.lag()
    assert lag[("memory", 0)] == 0
    assert lag[("process", 0)] > 0


@pytest.mark.parametrize("wait", [1.0, 20.0, 45.0, 200.0], ids=lambda seconds: f"after {seconds:g} s of silence")
@pytest.mark.parametrize("woken", [False, True], ids=["idle", "woken"])
def test_a_kill_while_sources_are_idle_or_wake_repeats_exactly(tmp_path: Path, wait: float, woken: bool) -> None:
    """What was logged is judged again by the engine times that were logged, whenever it is repeated."""
    site = Site(tmp_path)
    for partition in (0, 1):
        send(site, "process", [record(WALL + t, f"m{partition}") for t in range(0, 200, 5)], partition)
        send(site, "memory", [occupied(WALL + t, f"m{partition}") for t in range(0, 200, 5)], partition)
    site.run(wait)
    if woken:
        # Some of these are behind what the idle sources have passed meanwhile, some are not.
        for partition in (0, 1):
            send(site, "process", [record(WALL + t, f"m{partition}") for t in range(185, 500, 5)], partition)
        site.run(2.0)
    site.engine._log([], [])  # as with an alert: from here on it is repeated, not read anew
    before = dict(site.seen.late)
    rows_before = site.engine.parts.pipeline.totals
    site.clock.advance(1_000.0)
    site.seen.late = {}
    site.start()
    site.engine.drain()
    lake = {
        (name, *place): late
        for name in STREAMS
        for *place, late in site.lake.rows(name).select("partition", "offset", "index", "late").iter_rows()
    }
    assert lake == before
    assert site.engine.parts.pipeline.totals == rows_before
    if woken and wait >= 200:
        assert any(before.values()), "the case has late records"


def test_state_of_liars_does_not_grow(tmp_path: Path) -> None:
    """A trickle of one old time among honest machines: windows close, and nothing is kept for it."""
    site = Site(tmp_path, partitions=1)
    for second in range(0, 1200, 5):
        send(site, "process", [record(WALL + second, f"m{n}") for n in range(4)] + [record(1.0, "stuck")])
        site.run(5)
    rows = site.engine.parts.pipeline.state_rows()
    assert rows["windows_process"] <= 2 * 4 + 1
    assert set(site.late()) <= {"stuck"}


def test_accounting_holds_for_invented_sources_by_the_thousand(tmp_path: Path) -> None:
    site = Site(tmp_path, partitions=1, max_sources=100)
    send(site, "process", [record(WALL + n / 100, f"invented-{n}") for n in range(3_000)])
    site.run(3)
    site.engine.drain()
    counts = site.engine.parts.pipeline.totals[("process", "process-topic", 0)]
    assert counts.records == counts.on_time + counts.late == 3_000
    assert site.store.windows.find(stream="process")["records"].sum() == counts.on_time
    assert [alert.rule for alert in site.store.triage.alerts() if alert.kind == "system"].count("too-many-sources") == 1
    site.run(400)
    assert site.engine.parts.pipeline.state_rows()["windows_process"] == 0, "those that share a clock close too"
