"""The correlations of a run on Spark, without Spark: which epochs they take, what they find, and kills at any call."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from hackwatch import streams
from hackwatch.alerts.policy import AlertPolicy
from hackwatch.config import AlertSettings, Settings
from hackwatch.detect.panel import Panel
from hackwatch.detect.registry import Registry
from hackwatch.errors import DataError
from hackwatch.lake import Lake
from hackwatch.pipeline.clocks import NEVER, Marks
from hackwatch.pipeline.detection import detect_messages
from hackwatch.runtime.detectors import Models
from hackwatch.runtime.retry import Retry
from hackwatch.store import Store, open_store
from hackwatch.streams.stream import DecodeOptions
from hackwatch.testing import FakeClock
from tests.streams.support import messages, record
from tests.third.scored import START

pytest.importorskip("pyspark")

from hackwatch.spark.context import Context
from hackwatch.spark.correlate import Correlate, next_epochs
from hackwatch.spark.folder import LocalFolder
from hackwatch.spark.plan import suspects_schema
from hackwatch.spark.suspects import EpochSuspects, Suspects
from hackwatch.spark.upgrade import Before

NAMES = ("process", "memory")
ATTACKS = next(one for one in streams.correlations() if one.name == "attacks")
#: By stream, epoch by epoch: the times (seconds) of suspects by machine, and how far every clock is then.
Story = dict[str, list[tuple[dict[str, list[float]], float]]]


@dataclass
class FakeSide:
    """The ingest of a stream, as far as correlations see it."""

    suspects: Suspects
    since: dict[str, int] = field(default_factory=lambda: {ATTACKS.name: 0})
    committed: int = 0
    caught_up: bool = True
    topic: str = "topic"
    before: Before | None = None

    def add(self, times: dict[str, list[float]], clock: float) -> None:
        """A further epoch; the clock of each machine is at that time afterwards."""
        mark = micros(clock - 20)
        marks = Marks(dict.fromkeys(times, mark))
        epoch = self.committed + 1
        rows = suspects(self.suspects.stream, times, epoch)
        self.suspects.write(epoch, EpochSuspects.of(rows, marks, mark, micros(clock)))
        self.committed = epoch


def micros(seconds: float) -> int:
    return round((START + seconds) * 1e6)


def suspects(stream: str, times: dict[str, list[float]], epoch: int) -> pl.DataFrame:
    told = [
        json.dumps(record(stream, machine=machine, ts=START + t, CMD="x", PID=1)).encode()
        for machine, mine in times.items()
        for t in mine
    ]
    if not told:
        return suspects_schema(streams.get(stream)).to_frame()
    scored = detect_messages(streams.get(stream), [messages(told)], DecodeOptions(), Panel(), None, latest=2e9)
    placed = scored.records.with_columns(pl.col("offset") + 1000 * epoch, prediction=pl.lit(1, pl.Int8()))
    return placed.select(suspects_schema(streams.get(stream)).names())


def sides_of(path: Path) -> dict[str, FakeSide]:
    sides = {name: FakeSide(Suspects(name, LocalFolder(path / name))) for name in NAMES}
    for name in NAMES:
        LocalFolder(path / name).prepare()
    return sides


# -- which epochs a batch takes ---------------------------------------------------------------------------------------

#: Clocks after the epochs of both streams, minutes; whether each has read all that is there; how far a batch goes.
PLANS: dict[str, tuple[list[float], list[float], tuple[bool, bool], list[tuple[int, bool]]]] = {
    "nothing": ([], [], (True, True), [(0, False), (0, False)]),
    "all that is there": ([1, 2], [1], (True, True), [(2, False), (1, False)]),
    "who is silent holds nobody": ([1, 60], [], (True, True), [(2, False), (0, False)]),
    "who has not begun is waited for": ([1, 60], [], (True, False), [(0, True), (0, True)]),
    "who catches up is waited for": ([1, 2, 60], [1], (True, False), [(2, True), (1, True)]),
    "and goes on alone": ([60], [1, 2, 3], (True, False), [(0, True), (3, True)]),
    "both are far apart and at their ends": ([600], [1], (True, True), [(1, False), (1, False)]),
}


@pytest.mark.parametrize(("left", "right", "caught_up", "expected"), PLANS.values(), ids=PLANS)
def test_which_epochs_a_batch_takes(
    left: list[float],
    right: list[float],
    caught_up: tuple[bool, bool],
    expected: list[tuple[int, bool]],
    tmp_path: Path,
) -> None:
    sides = list(sides_of(tmp_path).values())
    for side, clocks, done in zip(sides, (left, right), caught_up, strict=True):
        side.caught_up = done
        for clock in clocks:
            side.add({}, 60 * clock)
    assert next_epochs(sides, [0, 0], [NEVER, NEVER], all_of_it=False) == expected


def test_at_the_end_nobody_is_waited_for(tmp_path: Path) -> None:
    sides = list(sides_of(tmp_path).values())
    sides[0].add({}, 3600)
    sides[1].caught_up = False
    assert next_epochs(sides, [0, 0], [NEVER, NEVER], all_of_it=True) == [(1, False), (0, False)]


def test_a_batch_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hackwatch.spark.correlate.MOST_ROWS", 3)
    sides = list(sides_of(tmp_path).values())
    for clock in (1, 2, 3):
        for side in sides:
            side.add({"m": [clock]}, clock)
    assert next_epochs(sides, [0, 0], [NEVER, NEVER], all_of_it=False) == [(2, True), (1, True)]


# -- what it finds ----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """A kill -9."""


@dataclass
class Kills:
    """Kills the driver at one of the calls that reach disk or server, before it or after it."""

    at: int = -1
    after: bool = False
    calls: int = 0

    def around(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.calls += 1
            hit = self.calls == self.at
            if hit and not self.after:
                raise Killed
            found = action(*given, **named)
            if hit:
                raise Killed
            return found

        return call


@dataclass
class Place:
    """A store, a lake and a checkpoint folder, and drivers that live and die there."""

    path: Path
    kills: Kills = field(default_factory=Kills)

    def __post_init__(self) -> None:
        self.path.mkdir()
        self.sides = sides_of(self.path / "suspects")
        self.clock = FakeClock(1000.0)

    @contextmanager
    def driver(self) -> Iterator[Correlate]:
        with open_store(self.path / "store.sqlite") as store:
            for name in ("log_batches", "commit_epoch"):
                setattr(store.checkpoints, name, self.kills.around(getattr(store.checkpoints, name)))
            yield Correlate(self.context(store), ATTACKS, self.sides)

    def context(self, store: Store) -> Context:
        parts: dict[str, Any] = {
            "settings": Settings(), "spark": None, "checkpoints": store.checkpoints, "clock": self.clock, "given": {},
            "rules": None, "observer": SimpleNamespace(correlated=lambda *_: None), "enrichments": None,
            "retry": Retry(self.clock, threading.Event(), lambda _: None), "lake": self.lake,
            "models": lambda names, _: Models(Registry(self.path / "registry"), names, lambda _: None),
            "policy": lambda: AlertPolicy(AlertSettings()),
        }  # fmt: skip
        return Context(**parts)

    def lake(self) -> Lake:
        lake = Lake(self.path / "lake")
        lake.append = self.kills.around(lake.append)  # type: ignore[method-assign]
        return lake

    def live(self, story: Story) -> None:
        """Tell the story epoch by epoch, with a round of the correlation after each; who is killed starts again."""
        self.work()
        for told in zip(*(story[name] for name in NAMES), strict=True):
            for name, (times, clock) in zip(NAMES, told, strict=True):
                self.sides[name].add(times, clock)
            self.clock.advance(5.0)
            self.work()

    def work(self) -> None:
        while True:
            try:
                with self.driver() as driver:
                    while driver.round():
                        pass
                    return
            except Killed:
                continue

    def pairs(self) -> list[tuple[str, float, float]]:
        columns = [pl.col(f"{name}_event_time").to_physical() / 1e6 - START for name in NAMES]
        found = Lake(self.path / "lake").scan("attacks").select("machine", *columns).collect()
        return sorted((machine, round(one, 3), round(other, 3)) for machine, one, other in found.iter_rows())

    def alerts(self) -> list[tuple[Any, ...]]:
        with open_store(self.path / "store.sqlite", read_only=True) as store:
            return sorted((a.id, a.entity, a.rule, a.count, a.first_seen, a.last_seen) for a in store.triage.alerts())


STORY: Story = {
    "process": [({"a": [0, 40], "b": [10]}, 50), ({"a": [70]}, 100), ({"b": [115], "c": [90]}, 150), ({}, 900)],
    "memory": [({"b": [39]}, 50), ({"a": [1, 99, 99]}, 100), ({"c": [119], "a": [85]}, 150), ({"b": [145]}, 900)],
}


def expected(story: Story) -> list[tuple[str, float, float]]:
    """Every suspect of one stream with every one of the other."""
    one, other = ([(m, t) for times, _ in story[name] for m, mine in times.items() for t in mine] for name in NAMES)
    return sorted((m, t, s) for m, t in one for n, s in other if m == n and abs(t - s) < ATTACKS.seconds)


def test_all_pairs_are_found_whatever_comes_first(tmp_path: Path) -> None:
    place = Place(tmp_path / "run")
    place.live(STORY)
    assert place.pairs() == expected(STORY)
    assert sum(alert[3] for alert in place.alerts()) == len(expected(STORY)) > 5


def test_a_kill_at_any_call_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    calm = Place(tmp_path / "calm")
    calm.live(STORY)
    assert calm.kills.calls > 10
    for at in range(1, calm.kills.calls + 1):
        for after in (False, True):
            place = Place(tmp_path / f"{at}-{after}", Kills(at, after))
            place.live(STORY)
            assert place.pairs() == calm.pairs(), (at, after)
            assert place.alerts() == calm.alerts(), (at, after)


@pytest.mark.parametrize("first", NAMES)
def test_a_stream_that_was_away_finds_the_partners_of_its_backlog(tmp_path: Path, first: str) -> None:
    """Its clocks were known before; the other one has gone on for hours, in one batch."""
    second = next(name for name in NAMES if name != first)
    place = Place(tmp_path / "run")
    hours = {"m": [float(t) for t in range(0, 7200, 60)]}
    place.work()
    place.sides[second].caught_up = False
    place.sides[first].add(hours, 7200)
    place.work()
    for hour in (0, 1):
        place.sides[second].add({"m": hours["m"][60 * hour : 60 * hour + 60]}, 3600 * (hour + 1))
        place.sides[second].caught_up = bool(hour)
        place.work()
    assert [one for _, one, _ in place.pairs()] == hours["m"]


def test_suspects_leave_with_the_clocks(tmp_path: Path) -> None:
    place = Place(tmp_path / "run")
    place.work()
    for name in NAMES:
        place.sides[name].add({"a": [0, 100], "b": [100]}, 100)
    place.work()
    place.sides["memory"].add({"a": []}, 100 + 30 + 20)
    with place.driver() as driver:
        assert driver.round()
        held = {name: frame["machine"].to_list() for name, frame in driver.correlator.snapshot().items()}
    assert held == {"process": ["b"], "memory": ["a", "b"]}, "by the other stream's clock of the same machine"


def test_what_ingest_did_before_a_correlation_was_there_is_left_out(tmp_path: Path) -> None:
    place = Place(tmp_path / "run")
    for name in NAMES:
        place.sides[name].add({"a": [0]}, 10)
    place.work()
    assert not (tmp_path / "run" / "lake" / "attacks").exists()
    for side in place.sides.values():
        side.add({"a": [20]}, 30)
    place.work()
    assert place.pairs() == [("a", 20, 20)]


def test_a_correlation_that_was_off_goes_on_from_when_it_is_on_again(tmp_path: Path) -> None:
    """What came meanwhile was kept for others alone, and is gone."""
    place = Place(tmp_path / "run")
    for time in (0, 100, 200):
        for side in place.sides.values():
            side.add({"a": [time]}, time)
        if time != 100:
            for side in place.sides.values():
                side.since = {ATTACKS.name: 0 if time == 0 else 2}
            place.work()
        for side in place.sides.values():
            side.suspects.forget(side.committed)
    assert place.pairs() == [("a", 200, 200)]


def test_an_epoch_that_somebody_has_deleted_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path / "run")
    place.work()
    place.sides["process"].add({"a": [0]}, 10)
    place.sides["process"].suspects.forget(1)
    with pytest.raises(DataError, match="lost what epoch 1 of process"):
        place.work()


def test_only_what_all_have_taken_is_forgotten(tmp_path: Path) -> None:
    side = sides_of(tmp_path)["process"]
    for clock in (1, 2, 3):
        side.add({}, clock)
    side.suspects.forget(2)
    assert LocalFolder(tmp_path / "process").names() == ["3"]
