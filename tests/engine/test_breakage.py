"""Disks that are full, files that cannot be read, clocks that jump: the engine says so, waits, and loses nothing."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from hackwatch.errors import ResourceError
from hackwatch.runtime.retry import Retry
from hackwatch.streams.stream import Messages
from hackwatch.testing import FakeClock
from tests.conftest import ROOT
from tests.engine.processes import Folder, Outcome, feed, until, work_off
from tests.engine.support import House, JumpyClock, Quiet, Result
from tests.engine.support import work_off as work_off_in_memory
from tests.third.support import shop

__all__ = ["shop"]

# -- in one process, at the seams --------------------------------------------------------------------------------------


def broken(call: Callable[..., Any], chance: random.Random, failures: list[str], *, after: bool) -> Callable[..., Any]:
    """A call that the machine refuses every now and then, before or after it was done."""

    def sometimes(*args: Any, **kwargs: Any) -> Any:
        fails = chance.random() < 0.3
        if fails and not after:
            failures.append(call.__name__)
            raise ResourceError("No space left on device")
        result = call(*args, **kwargs)
        if fails:
            failures.append(call.__name__)
            raise ResourceError("No space left on device")
        return result

    return sometimes


CALLS = [("topics", "read"), ("topics", "commit"), ("topics", "start_offset"), ("checkpoints", "log_batches"),
         ("checkpoints", "commit_epoch"), ("lake", "append")]  # fmt: skip


@pytest.mark.parametrize("after", [False, True], ids=["refused", "done but refused"])
@pytest.mark.parametrize(("part", "call"), CALLS, ids=[f"{part}.{call}" for part, call in CALLS])
@pytest.mark.usefixtures("shop")
def test_a_machine_that_refuses_now_and_then_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, call: str, after: bool
) -> None:
    (tmp_path / "calm").mkdir()
    calm, house = House.build(tmp_path / "calm", 3, records=600), House.build(tmp_path, 3, records=600)
    work_off_in_memory(calm.engine(3))
    chance: random.Random = random.Random(3)
    failures: list[str] = []
    parts = {"checkpoints": [house.store.checkpoints], "lake": [house.lake]}
    for target in parts.get(part, house.topics.values()):
        monkeypatch.setattr(target, call, broken(getattr(target, call), chance, failures, after=after))
    engine = house.engine(3)
    work_off_in_memory(engine)
    assert failures
    assert isinstance(engine.parts.observer, Quiet)
    pauses = engine.parts.observer.pauses
    assert pauses or call == "start_offset", "it says so, but for what a second attempt mends"
    assert all("No space left" in pause for pause in pauses if pause is not None)
    assert not pauses or pauses[-1] is None, "it says that it goes on"
    assert Result.of(house) == Result.of(calm)


@pytest.mark.usefixtures("shop")
def test_one_partition_that_cannot_be_read_takes_nothing_from_the_others(tmp_path: Path) -> None:
    """What was read of the other partitions before the failure is still there after it."""
    house = House.build(tmp_path, 5, records=600)
    topic = house.topics["visit"]
    failed: list[int] = []
    read = topic.read

    def refused(partition: int, start: int, *, max_bytes: int, end: int | None = None) -> Messages | None:
        if partition == 1 and len(failed) < 5:
            failed.append(start)
            raise ResourceError("Input/output error", where="p00001")
        return read(partition, start, max_bytes=max_bytes, end=end)

    topic.read = refused  # type: ignore[method-assign]  # a disk with a bad block
    work_off_in_memory(house.engine(5))
    (tmp_path / "calm").mkdir()
    calm = House.build(tmp_path / "calm", 5, records=600)
    work_off_in_memory(calm.engine(5))
    assert len(failed) == 5
    assert Result.of(house) == Result.of(calm)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("shop")
def test_a_clock_that_steps_changes_no_result(tmp_path: Path, seed: int) -> None:
    """The wall clock jumps by hours both ways between turns; neither time of events nor of the engine notices."""
    (tmp_path / "calm").mkdir()
    calm, house = House.build(tmp_path / "calm", seed, records=600), House.build(tmp_path, seed, records=600)
    work_off_in_memory(calm.engine(seed))
    engine = house.engine(seed)
    clock, chance = engine.parts.clock, random.Random(seed)
    assert isinstance(clock, JumpyClock)
    engine.recover()
    while engine.turn() or any(engine.lag().values()):
        # Never below the time of the records: those would rightly be refused as far in the future.
        clock.step_wall(chance.choice((-3600, -1, 0, 1, 3600, 86_400)))
        clock.step_wall(max(0.0, 1_700_100_000.0 - clock.wall()))
    engine.drain()
    assert Result.of(house) == Result.of(calm)


@pytest.mark.usefixtures("shop")
def test_a_process_that_was_stopped_finds_no_partition_idle(tmp_path: Path) -> None:
    """An hour passes between two turns; the records that come then are still on time."""
    house = House.build(tmp_path, 1, records=600)
    engine = house.engine(1)
    engine.recover()
    for _ in range(20):
        engine.turn()
    before = engine.elapsed
    assert isinstance(engine.parts.clock, JumpyClock)
    engine.parts.clock.advance(3600.0)
    engine.turn()
    assert engine.elapsed - before < 5.0
    while engine.turn() or any(engine.lag().values()):
        pass
    engine.drain()
    (tmp_path / "calm").mkdir()
    calm = House.build(tmp_path / "calm", 1, records=600)
    work_off_in_memory(calm.engine(1))
    assert Result.of(house) == Result.of(calm)


def test_waiting_ends_at_once_when_asked_to_stop() -> None:
    """Five seconds of waiting for a disk are not five seconds of waiting for Ctrl-C."""
    stop, clock = threading.Event(), FakeClock()

    def refuse() -> None:
        raise ResourceError("No space left on device")

    def report(why: str | None) -> None:
        if clock.monotonic() > 10.0:
            stop.set()

    with pytest.raises(Exception, match="No space left"):
        Retry(clock, stop, report)("store", refuse)
    assert max(clock.sleeps) <= 0.2


def test_of_two_that_wait_the_one_that_goes_on_does_not_speak_for_the_other() -> None:
    said: list[str | None] = []
    stop, lake_is_full = threading.Event(), threading.Event()
    lake_is_full.set()

    class Real(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            time.sleep(0.001)

    patience = Retry(Real(), stop, said.append)

    def append() -> None:
        if lake_is_full.is_set():
            raise ResourceError("full")

    other = threading.Thread(target=patience, args=("lake", append))
    other.start()
    until(lambda: said, "the lake waits")
    attempts = iter([ResourceError("locked"), None])

    def read() -> None:
        if (error := next(attempts)) is not None:
            raise error

    patience("topics", read)
    assert "topics: locked" in said
    assert said[-1] == "lake: full"
    lake_is_full.clear()
    stop.set()
    other.join()


WHILE_WRITING = """
import threading
from hackwatch.pipeline.core import Batch, Now, serialise
from tests.third.scored import Record, pipeline, run

target, done = pipeline(), threading.Event()
latest = [target.snapshot()]

def write():
    while not done.is_set():
        serialise(latest[0])

thread = threading.Thread(target=write)
thread.start()
suspects = [Record(t=float(number % 10), session=number, suspect=True) for number in range(20)]
for number in range(300):
    scored = run("visit", suspects, offset=number * 20)
    latest[0] = target.snapshot()
    target.step(Batch([scored], [("visit", 0), ("login", 0)]), Now(1.8e9, 0.0))
done.set()
thread.join()
"""


@pytest.mark.slow
def test_the_state_can_be_used_while_a_snapshot_of_it_is_written() -> None:
    """In a process of its own: a deadlock would hold the interpreter, and no timeout here could end it."""
    done = subprocess.run([sys.executable, "-c", WHILE_WRITING], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0


# -- real engines --------------------------------------------------------------------------------------------------


RECORDS = 40_000


def expected(folder: Folder, at: Path) -> Outcome:
    """What an undisturbed engine makes of the same topics."""
    calm = Folder.make(at)
    shutil.copytree(folder.data / "spool", calm.data / "spool")
    for committed in (calm.data / "spool").rglob("committed*"):
        committed.unlink()
    work_off(calm)
    return Outcome.of(calm)


def assert_same(folder: Folder, calm: Outcome) -> None:
    run = Outcome.of(folder)
    for name, table in calm.tables.items():
        assert_frame_equal(run.tables[name], table, check_exact=True)
    assert run.windows.equals(calm.windows)
    assert run.alerts == calm.alerts
    assert run.accounting.equals(calm.accounting)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
        == 0
    )
    if not mounted:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.platform
def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    """Lake and store on a disk without space: the log says so, and when there is space everything is there."""
    folder = Folder.make(small_disk / "run")
    feed(folder, RECORDS)
    with folder.run() as engine:
        until(folder.committed, "a first epoch")
        fill(small_disk / "ballast")
        until(lambda: "paused: " in engine.log and "disk" in engine.log, "it says that the disk is full")
        time.sleep(1.0)
        assert engine.alive, engine.log
        (small_disk / "ballast").unlink()
        until(folder.worked_off, "everything is committed")
        engine.stop()
    assert_same(folder, expected(folder, tmp_path / "calm"))


def fill(ballast: Path) -> None:
    """Take what is left of the disk."""
    with ballast.open("wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), b"\0" * 4096)


@pytest.mark.slow
def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """The same with a limit on file sizes, set and lifted while the engine runs: needs no rights."""
    folder = Folder.make(tmp_path / "run")
    feed(folder, RECORDS)
    with folder.run() as engine:
        until(folder.committed, "a first epoch")
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (4096, hard))
        feed(folder, RECORDS, seed=2)
        until(lambda: "paused: " in engine.log, "it says that it cannot write")
        time.sleep(1.0)
        assert engine.alive, engine.log
        resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        until(folder.worked_off, "everything is committed")
        until(lambda: "engine running" in engine.log, "it says that it goes on")
        engine.stop()
    assert_same(folder, expected(folder, tmp_path / "calm"))


@pytest.mark.slow
def test_a_full_disk_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """Asked to stop while it cannot write, it goes at once; the next engine goes on from the last commit."""
    folder = Folder.make(tmp_path / "run")
    feed(folder, RECORDS)
    with folder.run() as engine:
        engine.started()
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (4096, hard))
        until(lambda: "paused: " in engine.log, "it says that it cannot write")
        began = time.monotonic()
        engine.stop()
        assert time.monotonic() - began < 5.0
    work_off(folder)
    assert_same(folder, expected(folder, tmp_path / "calm"))


@pytest.mark.slow
def test_an_unreadable_segment(tmp_path: Path) -> None:
    """A segment that cannot be opened pauses the engine, visibly; repaired, nothing is missing."""
    folder = Folder.make(tmp_path / "run")
    feed(folder, RECORDS // 4)
    segment = next(folder.spool("memory").rglob("*.ndjson"))
    hidden = segment.with_suffix(".hidden")
    segment.rename(hidden)
    segment.symlink_to(hidden)  # segments are never opened through a link
    with folder.service():
        until(lambda: "paused: topics" in folder.state(), "it says that it cannot read")
        time.sleep(1.0)
        assert "paused: topics" in folder.state()
        segment.unlink()
        hidden.rename(segment)
        until(folder.worked_off, "everything is committed")
        until(lambda: folder.state() == "running", "it says that it goes on")
    assert_same(folder, expected(folder, tmp_path / "calm"))


@pytest.fixture
def read_only(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Folder]:
    """A folder whose data may not be written: by its mode, and for root, whom modes do not stop, by its disk."""
    if os.geteuid() != 0:
        folder = Folder.make(tmp_path / "run", models=False)
        folder.data.mkdir(mode=0o500)
        yield folder
        folder.data.chmod(0o700)
        return
    disk = request.getfixturevalue("small_disk")
    folder = Folder.make(disk / "run", models=False)
    folder.data.mkdir(mode=0o700)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    yield folder


@pytest.mark.slow
@pytest.mark.platform
def test_a_folder_that_may_not_be_written(tmp_path: Path, read_only: Folder) -> None:
    with read_only.run(logs=tmp_path) as engine:
        assert engine.ended() == 4, engine.log
        assert str(read_only.data) in engine.log
        assert "next: " in engine.log
        assert "Traceback" not in engine.log


@pytest.mark.slow
def test_a_process_that_is_stopped_for_a_while(tmp_path: Path) -> None:
    """Longer than the idle time, while a feed goes on: no partition is taken for idle, no record for late."""
    folder = Folder.make(tmp_path / "run", idle_seconds=3.0)
    feed(folder, RECORDS // 4)
    with folder.run() as engine:
        engine.started()
        until(lambda: folder.committed(), "a first epoch")
        os.killpg(engine.process.pid, signal.SIGSTOP)
        feed(folder, RECORDS // 4, seed=2)
        time.sleep(4.0)
        os.killpg(engine.process.pid, signal.SIGCONT)
        until(folder.worked_off, "everything is committed")
        engine.stop()
    assert_same(folder, expected(folder, tmp_path / "calm"))
