"""Reads what /proc says about every process of this machine: one file each, a few more where threads are many.

Source: proc_pid_stat(5). What vanishes while it is read, or may not be read, is left out; nothing that a process
calls itself can break the reading.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from hackwatch.errors import ResourceError

__all__ = ["ProcReader", "Process", "Snapshot", "Threads", "one_thread", "parse_stat"]

#: Files of a process that went away, or that is none of our business.
_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM, errno.EINVAL})

#: Threads looked at per sample among the processes that have many; the rest keep what was last seen.
THREAD_BUDGET = 256


class Threads(NamedTuple):
    """How many threads of a process run, sleep and sleep uninterruptibly."""

    running: int
    sleeping: int
    blocked: int


class Process(NamedTuple):
    """One line of /proc/PID/stat: counters since its start, times in clock ticks, sizes in KiB."""

    raw: bytes
    pid: int
    name: bytes
    state: str
    minor_faults: int
    major_faults: int
    ticks: int
    priority: int
    nice: int
    threads: int
    start: int
    virtual_kib: int
    resident_kib: int
    text_kib: int | None
    cpu: int
    realtime_priority: int
    policy: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All processes seen at one moment by PID, and the states of the threads of those that have several."""

    processes: Mapping[int, Process]
    threads: Mapping[int, Threads]


_ONE_THREAD = {
    "R": Threads(1, 0, 0),
    "S": Threads(0, 1, 0),
    "I": Threads(0, 1, 0),  # an idle kernel thread; kernels before 4.14 showed it as S
    "D": Threads(0, 0, 1),
}
_NO_THREAD = Threads(0, 0, 0)


def parse_stat(raw: bytes, page_kib: int = 4) -> Process | None:
    """One /proc/PID/stat line; None if it is not whole.

    `text_kib` is None where the kernel hides the code addresses (another user's process).
    """
    # The name may hold spaces, brackets and newlines: it ends at the last bracket, for only numbers follow.
    head, _, tail = raw.rpartition(b")")
    pid, _, name = head.partition(b" (")
    field = tail.split()
    try:
        code_start, code_end = int(field[23]), int(field[24])
        return Process(
            raw=raw,
            pid=int(pid),
            name=name,
            state=field[0].decode("ascii", "replace"),
            minor_faults=int(field[7]),
            major_faults=int(field[9]),
            ticks=int(field[11]) + int(field[12]),
            priority=int(field[15]),
            nice=int(field[16]),
            threads=int(field[17]),
            start=int(field[19]),
            virtual_kib=int(field[20]) >> 10,
            resident_kib=int(field[21]) * page_kib,
            text_kib=None if code_end == 1 else _text_kib(code_start, code_end, page_kib),
            cpu=int(field[36]),
            realtime_priority=int(field[37]),
            policy=int(field[38]),
        )
    except (ValueError, IndexError):
        return None


def _text_kib(start: int, end: int, page_kib: int) -> int:
    """Whole pages of program text between two addresses, as VmExe counts them."""
    page = page_kib << 10
    return max(0, -(-end // page) - start // page) * page_kib


class ProcReader:
    """Takes snapshots of /proc; cheap where nothing changed since the last one.

    Raises ResourceError where there is no Linux /proc.
    """

    def __init__(self, root: str = "/proc", *, page_kib: int | None = None) -> None:
        self._root = root
        self._page_kib = page_kib or os.sysconf("SC_PAGE_SIZE") >> 10
        self._processes: dict[int, Process] = {}
        self._threads: dict[int, Threads] = {}
        self._looked: dict[int, int] = {}  # PID -> sample in which its threads were last looked at
        self._sample = 0
        try:
            self._folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.stat("self/stat", dir_fd=self._folder)
        except OSError as error:
            if hasattr(self, "_folder"):
                os.close(self._folder)
            raise ResourceError(
                f"needs Linux /proc: {error.strerror}",
                where=root,
                next_step="collect on a Linux host, or feed `atop -P PRG,PRC,PRM` output of one",
            ) from error

    def __enter__(self) -> ProcReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._folder)

    def snapshot(self) -> Snapshot:
        """What runs now."""
        self._sample += 1
        known, processes, changed = self._processes, {}, []
        for entry in os.listdir(self._folder):
            if not entry.isdigit() or (raw := self._read(f"{entry}/stat")) is None:
                continue
            old = known.get(int(entry))
            if old is not None and old.raw == raw:
                processes[old.pid] = old
            elif (new := parse_stat(raw, self._page_kib)) is not None:
                processes[new.pid] = self._with_text(new, old)
                if new.threads > 1:
                    changed.append(new.pid)
        self._processes = processes
        self._threads = self._look_at_threads(changed)
        return Snapshot(processes, self._threads)

    def _with_text(self, new: Process, old: Process | None) -> Process:
        """Fill in hidden text size from statm, once per program and its size."""
        if new.text_kib is not None:
            return new
        if old is not None and (old.start, old.name, old.virtual_kib) == (new.start, new.name, new.virtual_kib):
            return new._replace(text_kib=old.text_kib)
        pages = (self._read(f"{new.pid}/statm") or b"").split()
        return new._replace(text_kib=int(pages[3]) * self._page_kib if len(pages) > 3 else 0)

    def _look_at_threads(self, changed: list[int]) -> dict[int, Threads]:
        """Thread states by PID: new processes always, then changed ones, then those looked at longest ago."""
        processes, looked = self._processes, self._looked
        several = [pid for pid, process in processes.items() if process.threads > 1]
        self._looked = looked = {pid: looked.get(pid, 0) for pid in several}
        fresh = set(changed)
        several.sort(key=lambda pid: (looked[pid] > 0, pid not in fresh, looked[pid]))
        threads, budget = {}, THREAD_BUDGET
        for pid in several:
            if budget > 0 or not looked[pid]:
                threads[pid] = self._count_threads(processes[pid])
                looked[pid] = self._sample
                budget -= min(processes[pid].threads, THREAD_BUDGET)
            else:
                threads[pid] = self._threads[pid]
        return threads

    def _count_threads(self, process: Process) -> Threads:
        """States of a process's threads; of more than the budget an even selection, scaled up."""
        try:
            folder = os.open(f"{process.pid}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._folder)
        except OSError as error:
            self._pass_if_gone(error)
            return one_thread(process.state)
        try:
            names = os.listdir(folder)
        except OSError as error:
            self._pass_if_gone(error)
            return one_thread(process.state)
        finally:
            os.close(folder)
        step = -(-len(names) // THREAD_BUDGET) or 1
        states = b"".join(self._thread_state(f"{process.pid}/task/{name}/stat") for name in names[::step])
        return Threads(
            states.count(b"R") * step,
            (states.count(b"S") + states.count(b"I")) * step,
            states.count(b"D") * step,
        )

    def _thread_state(self, path: str) -> bytes:
        raw = self._read(path) or b""
        end = raw.rfind(b")")
        return raw[end + 2 : end + 3] if end >= 0 else b""

    def _read(self, path: str) -> bytes | None:
        """A small file under the root, None if it is gone or not for us."""
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
        except OSError as error:
            self._pass_if_gone(error)
            return None
        try:
            return os.read(file, 4096)
        except OSError as error:
            self._pass_if_gone(error)
            return None
        finally:
            os.close(file)

    def _pass_if_gone(self, error: OSError) -> None:
        """Anything but a vanished or hidden process must not make every process look finished."""
        if error.errno not in _GONE:
            raise ResourceError(
                f"cannot read processes: {error.strerror}",
                where=self._root,
                next_step="raise the limit of open files (ulimit -n) or free memory",
            ) from error


def one_thread(state: str) -> Threads:
    """The thread counts of a process that has one thread, by its state."""
    return _ONE_THREAD.get(state, _NO_THREAD)
