"""Turns two snapshots, and the exits between them, into process and memory records as atop prints them. No I/O.

Status: `N` new since the last sample, `-` otherwise, followed for a finished process by how it ended: `E` by itself,
`S` by a signal, `C` by a signal with a core dump. EXC: exit code or signal number, 0 while running. CPU: CPU time
over the interval on one CPU (1.0 = one CPU fully busy; several threads can exceed it, as in atop). MEM: resident
share of the machine's memory. The first sample counts since boot, as atop's does, and every process in it is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson

from hackwatch.families.host.collect.exits import Exit
from hackwatch.families.host.collect.printed import NOT_KNOWN, POLICIES, command, share, size
from hackwatch.families.host.collect.proc import Process, Snapshot, Threads, one_thread

__all__ = ["Moment", "Sample", "Sampler"]

#: Finished processes reported per sample at most: a fork bomb must not exhaust our memory.
MAX_FINISHED = 50_000

Record = dict[str, int | float | str]

_UNSCHEDULED = dict.fromkeys(("POLI", "NICE", "PRI", "RTPR", "CPUNR"), NOT_KNOWN)
_NO_MEMORY = dict.fromkeys(("VSTEXT", "VSIZE", "RSIZE", "VGROW", "RGROW"), "0K")
_NOTHING = Process(b"", 0, b"", "", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a snapshot was taken: `wall` Unix seconds, `running` seconds this machine has been awake since boot."""

    wall: float
    running: float


@dataclass(frozen=True, slots=True)
class Sample:
    """NDJSON of both streams, one record a line in the same order, and how many of which kind they are."""

    process: bytes
    memory: bytes
    running: int
    finished: int
    dropped: int


class Sampler:
    """Keeps what was seen last and prints what became of it."""

    def __init__(self, machine: str, *, ticks_per_second: int, memory_kib: int) -> None:
        self._machine = machine
        self._ticks_per_second = ticks_per_second
        self._memory_kib = memory_kib
        self._sequence = 0
        self._last: Mapping[int, Process] = {}
        self._last_running = 0.0
        self._held: list[Exit] = []
        self._records: list[tuple[Record, Record]] = []

    def step(
        self, moment: Moment, snapshot: Snapshot, before: Iterable[Exit] = (), after: Iterable[Exit] = ()
    ) -> Sample:
        """The records of one sample; `before` and `after`: exits heard before and after the snapshot was taken."""
        now, last = snapshot.processes, self._last
        interval = moment.running - self._last_running
        same = {pid: old for pid, old in last.items() if pid in now and now[pid].start == old.start}
        gone = {pid: old for pid, old in last.items() if pid not in same}
        self._records = []
        for process in now.values():
            threads = snapshot.threads.get(process.pid) or one_thread(process.state)
            self._running(process, same.get(process.pid), threads, interval)
        ended = self._ended(now, before, after)
        for end in ended[:MAX_FINISHED]:
            self._finished(end, gone.pop(end.pid, None), interval)
        for old in gone.values():
            self._finished(Exit(old.pid, old.name), old, interval)
        self._last, self._last_running = now, moment.running
        finished = len(self._records) - len(now)
        return Sample(
            *self._lines(round(moment.wall, 3)),
            running=len(now),
            finished=finished,
            dropped=max(0, len(ended) - MAX_FINISHED),
        )

    def _ended(self, now: Mapping[int, Process], before: Iterable[Exit], after: Iterable[Exit]) -> list[Exit]:
        """Exits to report now. What the snapshot still shows (ended just after, still ending) is held until the next.

        Zombies are held until they are gone. Any other that is still there then is another process of the same number.
        """
        held: list[Exit] = []
        ended: list[Exit] = []
        for end in self._held:
            zombie = end.pid in now and now[end.pid].state in "ZX"
            (held if zombie else ended).append(end)
        for end in before:
            shown = end.pid in now and (now[end.pid].state in "ZX" or now[end.pid].name == end.name)
            (held if shown else ended).append(end)
        for end in after:
            (held if end.pid in now else ended).append(end)
        self._held = held
        return ended

    def _running(self, process: Process, old: Process | None, threads: Threads, interval: float) -> None:
        """A process that runs now; `old` is what it was in the last sample."""
        before = old or _NOTHING
        name, text = command(process.name), process.text_kib or 0
        seconds = (process.ticks - before.ticks) / self._ticks_per_second
        self._add(
            process.pid,
            {
                "TRUN": threads.running,
                "TSLPI": threads.sleeping,
                "TSLPU": threads.blocked,
                "POLI": POLICIES.get(process.policy, "?"),
                "NICE": process.nice,
                "PRI": max(0, process.priority + 100),  # /proc shows it less 100; deadline tasks are below all
                "RTPR": process.realtime_priority,
                "CPUNR": process.cpu,
                "Status": "-" if old else "N",
                "EXC": 0,
                "State": process.state,
                "CPU": share(max(0.0, seconds), interval),
                "CMD": name,
            },
            {
                "MINFLT": max(0, process.minor_faults - before.minor_faults),
                "MAJFLT": max(0, process.major_faults - before.major_faults),
                "VSTEXT": size(text),
                "VSIZE": size(process.virtual_kib),
                "RSIZE": size(process.resident_kib),
                "VGROW": size(process.virtual_kib - before.virtual_kib),
                "RGROW": size(process.resident_kib - before.resident_kib),
                "MEM": share(process.resident_kib, self._memory_kib),
                "CMD": name,
            },
        )

    def _finished(self, end: Exit, old: Process | None, interval: float) -> None:
        """A process that ended: what was heard of its end, counted from its last sample if it was in one."""
        before = old or _NOTHING
        name = command(end.name, finished=True)
        seconds = end.microseconds / 1e6 - before.ticks / self._ticks_per_second
        self._add(
            end.pid,
            {
                "TRUN": 0,
                "TSLPI": 0,
                "TSLPU": 0,
                **_UNSCHEDULED,
                "Status": ("-" if old else "N") + end.letter,
                "EXC": end.code,
                "State": "E",
                "CPU": share(max(0.0, seconds), interval),
                "CMD": name,
            },
            {
                "MINFLT": max(0, end.minor_faults - before.minor_faults),
                "MAJFLT": max(0, end.major_faults - before.major_faults),
                **_NO_MEMORY,
                "MEM": 0.0,
                "CMD": name,
            },
        )

    def _add(self, pid: int, process: Record, memory: Record) -> None:
        common: Record = {"sequence": self._sequence, "machine": self._machine, "PID": pid}
        self._records.append(({**common, **process}, {**common, **memory}))
        self._sequence += 1

    def _lines(self, timestamp: float) -> tuple[bytes, bytes]:
        """NDJSON of the gathered records, of each stream."""
        process, memory = [], []
        for one, other in self._records:
            one["ts"] = other["ts"] = timestamp
            process.append(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE))
            memory.append(orjson.dumps(other, option=orjson.OPT_APPEND_NEWLINE))
        self._records = []
        return b"".join(process), b"".join(memory)
