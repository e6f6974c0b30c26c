"""How topics are cut into micro-batches: bounded, fair to all partitions, and nobody far ahead of who catches up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hackwatch.engine.batching import ALIGNMENT, LEAST_READ, MicroBatcher
from hackwatch.engine.loop import Engine
from hackwatch.errors import ResourceError
from hackwatch.pipeline.clocks import NEVER
from hackwatch.streams.stream import Messages
from hackwatch.testing import MemoryTopic
from tests.engine.support import House, Result, work_off
from tests.third.support import shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")

MESSAGE = b"x" * 1023


def topic(*messages: int) -> MemoryTopic:
    """A topic with so many messages of 1 KiB in each partition."""
    made = MemoryTopic("t", partitions=len(messages))
    for partition, number in enumerate(messages):
        made.append([MESSAGE] * number, partition=partition)
    return made


def former(made: MemoryTopic, batch_bytes: int) -> MicroBatcher:
    cut = MicroBatcher({"visit": made}, {}, batch_bytes, {"visit": 0})
    assert len(cut.discover()) == len(made.partitions())
    return cut


def never(stream: str, partition: int) -> int:
    return NEVER


def taken(cut: MicroBatcher, newest: Callable[[str, int], int] = never) -> dict[int, int]:
    """How many messages of each partition a micro-batch takes."""
    batch = cut.take(newest, [])
    return {} if batch is None else {run.partition: len(run) for _, run in batch.runs}


@pytest.mark.parametrize(
    ("kib", "first"),
    [
        pytest.param(64, {0: 16, 1: 16, 2: 3}, id="an equal share each; what one leaves is not the others'"),
        pytest.param(4, {0: 4, 1: 4, 2: 3}, id="at least some of each"),
        pytest.param(4096, {0: 100, 1: 100, 2: 3}, id="all there is"),
    ],
)
def test_a_micro_batch_is_bounded(kib: int, first: dict[int, int]) -> None:
    cut = former(topic(100, 100, 3, 0), kib << 10)
    assert taken(cut) == first
    assert all(number * 1024 <= max(LEAST_READ, (kib << 10) // 4) for number in first.values())
    assert cut.behind is (kib < 4096)
    assert sum(cut.lag().values()) == 203 - sum(first.values())


def test_every_message_comes_once_and_in_order() -> None:
    made, seen = topic(100, 7, 0), dict[int, list[int]]()
    cut = former(made, 32 << 10)
    while (batch := cut.take(never, [])) is not None:
        for _, run in batch.runs:
            seen.setdefault(run.partition, []).extend(run.offsets.tolist())
    assert seen == {0: list(range(100)), 1: list(range(7))}
    assert cut.positions() == {("visit", "t", 0): 100, ("visit", "t", 1): 7, ("visit", "t", 2): 0}


@pytest.mark.parametrize(
    ("ahead", "read"),
    [(0, {0, 1}), (ALIGNMENT, {0, 1}), (ALIGNMENT + 1, {0})],
    ids=["together", "two minutes ahead", "more than that"],
)
def test_while_catching_up_no_partition_runs_far_ahead_of_one_that_has_messages_waiting(
    ahead: int, read: set[int]
) -> None:
    """Partition 0 is being caught up; partition 1 is `ahead` microseconds of event time before it."""
    made = topic(100, 1)
    cut = former(made, 32 << 10)
    taken(cut)
    assert cut.behind
    made.append([MESSAGE], partition=1)
    assert set(taken(cut, lambda _, partition: 10**15 + (ahead if partition else 0))) == read


def test_who_has_read_everything_holds_nobody_up() -> None:
    made = topic(1, 1)
    cut = former(made, 32 << 10)
    taken(cut)
    assert not cut.behind
    for partition in (0, 1):
        made.append([MESSAGE], partition=partition)
    assert set(taken(cut, lambda _, partition: 10**15 * partition)) == {0, 1}


def test_a_read_that_fails_takes_nothing_from_any_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    made = topic(5, 5)
    cut = former(made, 1 << 20)
    read = made.read

    def refused(partition: int, start: int, *, max_bytes: int, end: int | None = None) -> Messages | None:
        if partition == 1:
            raise ResourceError("Input/output error")
        return read(partition, start, max_bytes=max_bytes, end=end)

    with monkeypatch.context() as patch:
        patch.setattr(made, "read", refused)
        with pytest.raises(ResourceError):
            taken(cut)
    assert taken(cut) == {0: 5, 1: 5}


class Counting(ThreadPoolExecutor):
    """Notes how many tasks were waiting or at work at a time."""

    def __init__(self) -> None:
        super().__init__(2)
        self._lock, self.open, self.most = threading.Lock(), 0, 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with self._lock:
            self.open += 1
            self.most = max(self.most, self.open)
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: Future[Any]) -> None:
        with self._lock:
            self.open -= 1


@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_what_is_scored_at_a_time_is_bounded_however_much_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_flight: int
) -> None:
    """Backpressure: nothing more is read while so many micro-batches are being scored."""
    monkeypatch.setattr("hackwatch.engine.loop.SMALL_BYTES", 0)  # all of them go to the threads
    house = House.build(tmp_path, 3, records=1500)
    calm = House.build(make(tmp_path / "calm"), 3, records=1500)
    work_off(calm.engine(3))
    given = house.engine(3)
    with Counting() as scorers:
        options = given.options.model_copy(update={"batch_bytes": 4096, "in_flight": in_flight})
        work_off(Engine(replace(given.parts, scorers=scorers), options, threading.Event()))
    streams = len(house.topics)
    assert scorers.most <= in_flight * streams
    assert in_flight == 1 or scorers.most > streams
    assert Result.of(house) == Result.of(calm)


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder
