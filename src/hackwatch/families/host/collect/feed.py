"""Watches this machine: a sample of every process each few seconds, written to the process and memory topics."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

from hackwatch.clock import Clock, SystemClock
from hackwatch.errors import ConfigurationError
from hackwatch.families.host.collect.exits import Exit, ExitListener, NotAudible
from hackwatch.families.host.collect.proc import ProcReader
from hackwatch.families.host.collect.sample import Moment, Sample, Sampler
from hackwatch.feeds.pace import OnProgress, Progress
from hackwatch.topics.topic import TopicWriter

__all__ = ["CollectFeed", "blind_spots"]

#: Longest wait, seconds: so soon after `stop` a run ends, and so often ending processes are taken out of the kernel's
#: buffer, which holds those of a fork bomb. Waking up more often would cost more than sampling does.
_SLICE = 0.25


def blind_spots(root: str = "/proc") -> tuple[str, ...]:
    """What a collector started by this user on this machine would not see, one sentence each; () if nothing."""
    found = _hidden_processes(root)
    try:
        ExitListener().close()
    except NotAudible as reason:
        return (*found, f"short-lived processes and exit codes: not visible ({reason})")
    return found


def _hidden_processes(root: str) -> tuple[str, ...]:
    """Mounted with hidepid, /proc shows only the processes of its reader; the first one is always there."""
    if os.path.exists(f"{root}/1/stat") or not os.path.exists(f"{root}/self/stat"):
        return ()
    return ("processes of other users: not visible (/proc is mounted with hidepid; run as root)",)


class CollectFeed:
    """The live machine as process and memory records, from /proc; `run` goes on until it is stopped.

    `machine`: its name in the records, the host name by default. `interval`: seconds between samples. `samples`: stop
    after so many. Every process is in every sample. Linux only: `run` raises ResourceError elsewhere.
    """

    def __init__(
        self,
        *,
        machine: str | None = None,
        interval: float = 5.0,
        samples: int | None = None,
        root: str = "/proc",
        clock: Clock | None = None,
    ) -> None:
        if not 0.1 <= interval <= 3600:
            raise ConfigurationError(
                f"a sample every {interval} s is not possible",
                where="interval",
                next_step="choose 0.1 to 3600 seconds; 5 is usual",
            )
        self.machine = machine or socket.gethostname()
        self._interval = interval
        self._samples = samples
        self._root = root
        self._clock = clock or SystemClock()

    def run(
        self,
        process_writer: TopicWriter,
        memory_writer: TopicWriter,
        stop: threading.Event,
        on_progress: OnProgress | None = None,
    ) -> Progress:
        """Write samples until `stop` is set; `on_progress` hears after each, with a note on what was left out of it.

        What a collector cannot see from here at all, `blind_spots` says beforehand.
        """
        with ProcReader(self._root) as reader, contextlib.ExitStack() as stack:
            ears = _Ears(stack)
            sampler, taken, progress = self._sampler(), 0, Progress(0, 0, 0)
            due = self._clock.monotonic()
            while not stop.is_set() and taken != self._samples:
                sample = self._take(reader, ears, sampler)
                process_writer.append_payload(sample.process, key=self.machine)
                memory_writer.append_payload(sample.memory, key=self.machine)
                taken += 1
                progress = _further(progress, sample, [*_left_out(sample), *ears.missed()])
                if on_progress is not None:
                    on_progress(progress)
                due = self._next_due(due)
                if taken != self._samples:
                    ears.wait(due, self._clock, stop)
            return progress

    def _take(self, reader: ProcReader, ears: _Ears, sampler: Sampler) -> Sample:
        """One sample: listen, look, listen again, so that whatever vanished has been heard."""
        before = ears.take()
        moment = Moment(self._clock.wall(), self._clock.monotonic())
        snapshot = reader.snapshot()
        return sampler.step(moment, snapshot, before, ears.take())

    def _sampler(self) -> Sampler:
        kib = os.sysconf("SC_PHYS_PAGES") * (os.sysconf("SC_PAGE_SIZE") >> 10)
        return Sampler(self.machine, ticks_per_second=os.sysconf("SC_CLK_TCK"), memory_kib=kib)

    def _next_due(self, due: float) -> float:
        """The next point of the grid that is still ahead: missed samples (a suspended machine) are not made up."""
        behind = self._clock.monotonic() - due
        return due + self._interval * (max(0, int(behind // self._interval)) + 1)


def _further(progress: Progress, sample: Sample, notes: list[str]) -> Progress:
    """Progress after one more sample; every record is a message of its own in both streams."""
    more = 2 * (sample.running + sample.finished)
    size = len(sample.process) + len(sample.memory)
    return Progress(progress.messages + more, progress.records + more, progress.bytes + size, "; ".join(notes) or None)


def _left_out(sample: Sample) -> Iterator[str]:
    if sample.dropped:
        yield f"{sample.dropped} finished processes left out: too many at once"


class _Ears:
    """Gathers exits between samples where the kernel tells of them; otherwise hears none."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._heard: list[Exit] = []
        self._listener: ExitListener | None = None
        self._lost = 0
        with contextlib.suppress(NotAudible):
            self._listener = ExitListener()
            stack.callback(self._listener.close)

    def take(self) -> list[Exit]:
        """Exits since the last call."""
        self._listen()
        heard, self._heard = self._heard, []
        return heard

    def wait(self, due: float, clock: Clock, stop: threading.Event) -> None:
        """Wait until `due` (monotonic) or `stop`, listening."""
        while (left := due - clock.monotonic()) > 0 and not stop.is_set():
            clock.sleep(min(left, _SLICE))
            self._listen()

    def missed(self) -> Iterator[str]:
        """A note if the kernel had to drop notices since the last call."""
        lost = self._listener.lost if self._listener else 0
        if lost > self._lost:
            self._lost = lost
            yield "some finished processes were not heard of: too many at once"

    def _listen(self) -> None:
        if self._listener is not None:
            self._heard += self._listener.drain()
