"""The real machine: what children of ours do is seen, named and ended as it happened."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hackwatch.errors import ConfigurationError, ResourceError
from hackwatch.families.host.collect import CollectFeed, blind_spots
from hackwatch.families.host.collect.exits import ExitListener, NotAudible
from hackwatch.feeds.pace import Progress
from hackwatch.streams import get
from hackwatch.streams.stream import DecodeOptions
from hackwatch.testing import MemoryTopic

pytestmark = [
    pytest.mark.platform,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of this machine"),
]
Row = dict[str, Any]


@pytest.fixture
def audible() -> None:
    """Only where the kernel tells us of ending processes."""
    try:
        ExitListener().close()
    except NotAudible as reason:
        pytest.skip(str(reason))


class Machine:
    """A collector of this machine: each `sample` gives the records of both streams, all of them decoded."""

    def __init__(self) -> None:
        self.topics = {"process": MemoryTopic(partitions=1), "memory": MemoryTopic(partitions=1)}
        self.positions = dict.fromkeys(self.topics, 0)
        self.heard: list[Progress] = []
        self._stop, self._taken = threading.Event(), threading.Condition()
        feed = CollectFeed(machine="here", interval=0.15)
        self._thread = threading.Thread(
            target=feed.run, args=(self.topics["process"], self.topics["memory"], self._stop, self._hear)
        )
        self._thread.start()

    def _hear(self, progress: Progress) -> None:
        with self._taken:
            self.heard.append(progress)
            self._taken.notify_all()

    def samples(self, count: int) -> list[Row]:
        """Process records of at least so many further samples."""
        with self._taken:
            target = len(self.heard) + count
            assert self._taken.wait_for(lambda: len(self.heard) >= target, timeout=20)
        return self.read("process")

    def read(self, stream: str) -> list[Row]:
        found = self.topics[stream].read(0, self.positions[stream], max_bytes=1 << 30)
        assert found is not None
        self.positions[stream] = found.next_offset
        decoded = get(stream).decode(found, DecodeOptions())
        assert decoded.rejected.to_dicts() == []
        return decoded.records.to_dicts()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        assert not self._thread.is_alive()


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.close()


@contextmanager
def child(code: str, *, name: bytes | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program that has come as far as `ready()`."""
    rename = f"open('/proc/self/comm', 'wb').write({name!r})\n" if name is not None else ""
    text = f"import os, sys, time, threading\n{rename}def ready(): print(flush=True)\n{code}"
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def of(rows: list[Row], pid: int) -> list[Row]:
    return [row for row in rows if row["PID"] == pid]


def test_every_process_is_there_and_every_record_fits_its_stream(machine: Machine) -> None:
    rows = machine.samples(2)
    memory = machine.read("memory")
    [first, *_] = of(rows, os.getpid())
    assert (first["Status"], first["State"], first["POLI"]) == ("N", first["State"], "norm")
    assert first["NICE"] == os.getpriority(os.PRIO_PROCESS, 0)
    assert first["TRUN"] + first["TSLPI"] + first["TSLPU"] >= 2, "this test has several threads"
    assert {row["Status"] for row in of(rows, os.getpid())[1:]} == {"-"}
    begin = min(row["sequence"] for row in rows)
    seen, held = ({row["CMD_PID"] for row in stream if row["sequence"] == begin} for stream in (rows, memory))
    assert seen == held
    [own, *_] = of(memory, os.getpid())
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert own["RSIZE"] == pytest.approx(resident, rel=0.5)
    assert own["VSTEXT"] > 0
    assert own["VSIZE"] == own["VGROW"]
    assert abs(first["ts"] - time.time()) < 30
    assert machine.heard[-1].note is None


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        (b"xmrig", "xmrig"),
        (b"a b) R (c", "a b) R (c"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"two\nlines", "two\nlines"),
        (b"<cron>", "<cron"),
        (b"\x1b[2J", "\x1b[2J"),
    ],
    ids=repr,
)
def test_a_process_may_call_itself_anything(machine: Machine, name: bytes, printed: str) -> None:
    machine.samples(1)
    with child("ready(); time.sleep(60)", name=name) as process:
        # Before it was ready it went under the name that it came with.
        first, later = of(machine.samples(2), process.pid), of(machine.samples(2), process.pid)
    assert first[0]["Status"] == "N"
    assert {(row["CMD"], row["finished"]) for row in later} == {(printed, False)}


def test_a_busy_loop_takes_a_processor(machine: Machine) -> None:
    with child("ready()\nwhile True: pass", name=b"xmrig") as process:
        machine.samples(1)
        rows = of(machine.samples(4), process.pid)
    # What else runs here leaves it a share only; what sleeps takes none.
    assert max(row["CPU"] for row in rows) > 0.02
    assert "R" in {row["State"] for row in rows}


def test_threads_are_counted(machine: Machine) -> None:
    code = "[threading.Thread(target=time.sleep, args=(60,)).start() for _ in range(40)]; ready(); time.sleep(60)"
    with child(code) as process:
        rows = of(machine.samples(2), process.pid)
    assert rows[-1]["TSLPI"] == 41


@pytest.mark.parametrize(
    ("policy", "printed", "priority"),
    [("SCHED_FIFO", "fifo", 79), ("SCHED_RR", "rr", 79), ("SCHED_BATCH", "btch", 120), ("SCHED_IDLE", "idle", 120)],
)
def test_scheduling_policies_are_seen(machine: Machine, policy: str, printed: str, priority: int) -> None:
    level = 20 if priority < 100 else 0
    with child("ready(); time.sleep(60)") as process:
        try:
            os.sched_setscheduler(process.pid, getattr(os, policy), os.sched_param(level))
        except PermissionError:
            pytest.skip("not permitted to set real-time priorities")
        row = of(machine.samples(2), process.pid)[-1]
    assert (row["POLI"], row["PRI"], row["RTPR"]) == (printed, priority, level)


@pytest.mark.usefixtures("audible")
@pytest.mark.parametrize(
    ("end", "status", "code"),
    [
        pytest.param(lambda process: process.stdin.close(), "-E", 7, id="exit 7"),
        pytest.param(lambda process: process.send_signal(signal.SIGKILL), "-S", 9, id="killed"),
    ],
)
def test_an_end_is_seen_with_its_cause(
    machine: Machine, end: Callable[[subprocess.Popen[bytes]], None], status: str, code: int
) -> None:
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read(); sys.exit(7)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        machine.samples(2)
        end(process)
        process.wait()
        rows = [row for row in of(machine.samples(2), process.pid) if row["finished"]]
    assert [(row["Status"], row["EXC"], row["State"], row["PRI"]) for row in rows] == [(status, code, "E", None)]


@pytest.mark.usefixtures("audible")
def test_processes_that_live_shorter_than_a_sample_are_seen(machine: Machine) -> None:
    machine.samples(1)
    pids = []
    for number in range(30):
        process = subprocess.Popen(["sh", "-c", f"exit {number}"])
        process.wait()
        pids.append(process.pid)
    rows = {row["PID"]: row for row in machine.samples(2) if row["finished"]}
    assert [rows[pid]["EXC"] for pid in pids] == list(range(30))
    assert {rows[pid]["CMD"] for pid in pids} == {"sh"}


def test_without_notices_of_the_kernel_ends_are_still_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    [sentence] = blind_spots()
    assert "short-lived processes and exit codes: not visible (needs Linux)" in sentence
    machine = Machine()
    try:
        with child("ready(); time.sleep(60)") as process:
            machine.samples(2)
        rows = of(machine.samples(2), process.pid)
    finally:
        machine.close()
    assert [(row["Status"], row["EXC"]) for row in rows if row["finished"]] == [("-E", 0)]


def test_a_refusal_of_the_kernel_is_a_blind_spot(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(ExitListener, "_ask", refuse)
    [sentence] = blind_spots()
    assert "needs CAP_NET_ADMIN" in sentence


@pytest.mark.parametrize(
    ("shown", "hidden"),
    [
        pytest.param(("1", "self"), False, id="all processes"),
        pytest.param(("self",), True, id="only our own: hidepid"),
        pytest.param((), False, id="no /proc at all: said elsewhere"),
    ],
)
def test_processes_that_the_kernel_hides_are_a_blind_spot(tmp_path: Path, shown: tuple[str, ...], hidden: bool) -> None:
    for name in shown:
        (tmp_path / name).mkdir()
        (tmp_path / name / "stat").touch()
    told = [sentence for sentence in blind_spots(str(tmp_path)) if "hidepid" in sentence]
    assert told == (["processes of other users: not visible (/proc is mounted with hidepid; run as root)"] * hidden)


def test_where_there_is_no_proc_it_says_so() -> None:
    with pytest.raises(ResourceError, match="needs Linux /proc"):
        CollectFeed(root="/none").run(MemoryTopic(), MemoryTopic(), threading.Event())


@pytest.mark.parametrize("interval", [0, -1, 0.01, 1e9])
def test_an_impossible_interval_is_refused(interval: float) -> None:
    with pytest.raises(ConfigurationError):
        CollectFeed(interval=interval)


def test_so_many_samples_and_no_more() -> None:
    topic, started = MemoryTopic(partitions=1), time.monotonic()
    progress = CollectFeed(interval=0.2, samples=3).run(topic, MemoryTopic(), threading.Event())
    assert 0.4 <= time.monotonic() - started < 3
    found = topic.read(0, 0, max_bytes=1 << 30)
    assert found is not None
    rows = [json.loads(line) for line in found.payload.splitlines()]
    assert len({row["ts"] for row in rows}) == 3
    assert [row["sequence"] for row in rows] == list(range(progress.records // 2))
    assert {row["machine"] for row in rows} == {socket.gethostname()}


@pytest.mark.slow
@pytest.mark.alone
def test_350_processes_cost_half_a_per_cent_of_a_core_at_most() -> None:
    present = sum(name.isdigit() for name in os.listdir("/proc"))
    fillers = [subprocess.Popen(["sleep", "60"]) for _ in range(max(0, 350 - present))]
    try:
        before = time.thread_time()
        CollectFeed(interval=0.5, samples=10).run(MemoryTopic(), MemoryTopic(), threading.Event())
        seconds = (time.thread_time() - before) / 10
    finally:
        for filler in fillers:
            filler.kill()
        for filler in fillers:
            filler.wait()
    assert seconds < 0.005 * 5, "one sample every 5 s"
