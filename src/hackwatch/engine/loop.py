"""The embedded engine: read, score, step, write alerts at once, and make everything durable epoch by epoch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import polars as pl

from hackwatch.alerts.alert import Alert, AlertUpdate
from hackwatch.config import EngineSettings
from hackwatch.engine.batching import MicroBatch, MicroBatcher
from hackwatch.engine.epoch import Epoch, EpochWriter
from hackwatch.engine.parts import EngineParts
from hackwatch.errors import DataError, ResourceError
from hackwatch.pipeline.core import Batch, Now, Output
from hackwatch.pipeline.detection import Scored, detect_messages
from hackwatch.runtime.detectors import Deciders
from hackwatch.runtime.retry import Retry, Stopped
from hackwatch.store.commits import BatchEntry, OffsetRange
from hackwatch.streams.small import SMALL_BYTES
from hackwatch.streams.stream import Messages

__all__ = ["Engine"]

#: Engine time never jumps by more than this between two turns: a process that was stopped, or waited for a disk,
#: must not find all partitions idle.
LONGEST_STEP = 1.0
DISCOVER_SECONDS = 1.0
#: With nothing to read for so long, the topics are looked at less often, by this factor.
QUIET_SECONDS, QUIET_FACTOR = 0.5, 5


@dataclass(slots=True, eq=False)
class _InFlight:
    """A micro-batch that is being scored."""

    taken: MicroBatch
    now: Now
    began: float
    deciders: Deciders
    runs: list[Future[Scored]]


@dataclass(slots=True)
class _Open:
    """What the open epoch has gathered."""

    began: float
    rows: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    records: int = 0
    batches: int = 0

    def add(self, output: Output) -> None:
        self.batches += 1
        for table, frames in output.rows.items():
            self.rows.setdefault(table, []).extend(frames)
            self.records += sum(map(len, frames))


class Engine:
    """Runs a pipeline over topics, exactly once into lake and store.

    A micro-batch's input (offset ranges, time, model versions) is logged in the very transaction that writes its
    alerts, before or with them. After a crash the logged micro-batches are repeated exactly, so they give the same
    alerts, lake rows and windows; what was not logged has left no trace and is read again.
    """

    def __init__(self, parts: EngineParts, options: EngineSettings, stop: threading.Event) -> None:
        """`stop`: set by whoever wants it to end, or by the engine when it fails."""
        self.parts, self.options, self._stop = parts, options, stop
        self._clock = parts.clock
        self._retry = Retry(parts.clock, stop, parts.observer.paused)
        self._in_flight: deque[_InFlight] = deque()
        self._unlogged: list[BatchEntry] = []
        readers = {name: source.reader for name, source in parts.inputs.items()}
        self._writer = EpochWriter(parts, readers, self._retry)
        self._readers = readers
        self._former = MicroBatcher(readers, {}, options.batch_bytes, parts.pipeline.groups)
        self._discovered: list[OffsetRange] = []
        self._done: dict[tuple[str, str, int], int] = {}
        self._number = self._epoch = 0
        self._elapsed = 0.0
        self._ticked = self._clock.monotonic()
        self._discovered_at = self._reloaded_at = self._worked_at = float("-inf")
        self._open = _Open(0.0)

    # -- the life of an engine -----------------------------------------------------------------------------------

    def run(self) -> None:
        """Recover, then work until asked to stop; the last epoch is committed before it returns."""
        try:
            self.recover()
            while not self._stop.is_set():
                self.turn()
            self.drain()
        except Stopped:
            return
        except BaseException:
            self._stop.set()  # an epoch that waits for its disk must not wait on for an engine that has failed
            raise

    def recover(self) -> None:
        """Take up the last committed epoch and repeat the micro-batches that were logged after it."""
        self.parts.models.refresh()
        checkpoint = self.parts.checkpoints.latest(self.parts.name)
        if checkpoint is not None:
            self._restore(checkpoint.states)
            self._former = MicroBatcher(
                self._readers, checkpoint.offsets, self.options.batch_bytes, self.parts.pipeline.groups
            )
            self._done = dict(checkpoint.offsets)
            self._release(checkpoint.offsets)
            self._number, self._epoch = checkpoint.last_batch, checkpoint.epoch
            self._elapsed = checkpoint.elapsed
        self._epoch += 1
        self._open = _Open(self._elapsed)
        for _, entries in groupby(checkpoint.batches if checkpoint else (), key=lambda entry: entry.epoch):
            for entry in entries:
                self._repeat(entry)
            self._cut()
        self._writer.wait()
        self._ticked = self._clock.monotonic()

    def _restore(self, states: Mapping[str, bytes]) -> None:
        if not states:
            return
        try:
            self.parts.pipeline.restore(states)
        except (KeyError, ValueError, TypeError, OSError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"the checkpoint cannot be read: {error}",
                where=f"store, pipeline {self.parts.name}",
                next_step="restore the store from a backup, or move it away: topics are then read from their start",
            ) from error

    def _release(self, offsets: Mapping[tuple[str, str, int], int]) -> None:
        """Tell the topics what the store has: a crash may have come between the two."""
        for name, reader in self._readers.items():
            mine = {partition: at for (stream, topic, partition), at in offsets.items() if stream == name}
            self._retry(f"topic {reader.topic}", partial(reader.commit, mine))

    def turn(self) -> bool:
        """One turn of the loop; False if there was nothing to do."""
        self._tick()
        self._refresh()
        taken = self._take() if self._wants_more() else None
        if taken is not None:
            self._in_flight.append(self._submit(taken))
        waiting = len(self._in_flight) >= self.options.in_flight or taken is None
        worked = bool(self._in_flight)
        if self._in_flight and (waiting or all(run.done() for run in self._in_flight[0].runs)):
            self._finish(self._in_flight.popleft())
        self._cut_if_due()
        self.parts.observer.turn(self)
        self._rest(worked)
        return worked

    def _wants_more(self) -> bool:
        """Whether to read on while a micro-batch is being scored: only if there is more than fits one.

        Otherwise messages would be cut into ever smaller micro-batches, each with the cost of a whole one.
        """
        return not self._in_flight or (self._former.behind and len(self._in_flight) < self.options.in_flight)

    def _rest(self, worked: bool) -> None:
        """Wait for messages: shortly while they come often, longer when nothing has come for a while."""
        if worked:
            self._worked_at = self._clock.monotonic()
            return
        quiet = self._clock.monotonic() - self._worked_at >= QUIET_SECONDS
        self._clock.sleep(self.options.poll_seconds * (QUIET_FACTOR if quiet else 1))

    def drain(self) -> None:
        """Finish what is in flight and commit it."""
        while self._in_flight:
            self._finish(self._in_flight.popleft())
        if self._open.batches:
            self._cut()
        self._writer.wait()

    # -- micro-batches -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = self._clock.monotonic()
        self._elapsed += min(max(now - self._ticked, 0.0), LONGEST_STEP)
        self._ticked = now

    def _refresh(self) -> None:
        if self._elapsed - self._reloaded_at >= self.options.reload_seconds:
            self._reloaded_at = self._elapsed
            self.parts.models.refresh()

    def _take(self) -> MicroBatch | None:
        try:
            taken = self._read()
        except ResourceError:
            if self._in_flight:
                return None
            # Everything before it is finished; it need not wait for the repair to become durable.
            if self._open.batches:
                self._cut()
            taken = self._read_patiently()
        if taken is None and not self._in_flight and self.parts.pipeline.tick_due(self._elapsed):
            return MicroBatch((), ())
        return taken

    def _read(self) -> MicroBatch | None:
        if self._elapsed - self._discovered_at >= DISCOVER_SECONDS:
            self._discovered += self._former.discover()
            self._discovered_at = self._elapsed
        taken = self._former.take(self.parts.pipeline.typical, self._discovered)
        self._discovered = []
        return taken

    def _read_patiently(self) -> MicroBatch | None:
        taken: list[MicroBatch | None] = []
        self._retry("topics", lambda: taken.append(self._read()))
        return taken[-1]

    def _submit(self, taken: MicroBatch) -> _InFlight:
        now = Now(self._clock.wall(), self._elapsed)
        return self._score(taken, now, self.parts.models.current())

    def _score(self, taken: MicroBatch, now: Now, deciders: Deciders) -> _InFlight:
        by_stream: dict[str, list[Messages]] = {}
        for stream, messages in taken.runs:
            by_stream.setdefault(stream, []).append(messages)
        small = sum(len(messages.payload) for _, messages in taken.runs) <= SMALL_BYTES
        submit = _at_once if small else self.parts.scorers.submit
        runs = [submit(self._detect, stream, messages, deciders, now.wall) for stream, messages in by_stream.items()]
        return _InFlight(taken, now, self._clock.monotonic(), deciders, runs)

    def _detect(self, stream: str, messages: list[Messages], deciders: Deciders, wall: float) -> Scored:
        source = self.parts.inputs[stream]
        panel, enrichment = deciders.panels[stream], deciders.enrichments.get(stream)
        latest, rules = wall + source.future_seconds, self.parts.rules
        return detect_messages(
            source.stream, messages, source.decode, panel, rules, latest=latest, enrichment=enrichment
        )

    def _finish(self, flight: _InFlight) -> None:
        """Step the pipeline with a scored micro-batch and write its alerts."""
        self._number += 1
        versions = self.parts.models.logged(flight.deciders, self._epoch)
        taken, now = flight.taken, flight.now
        self._unlogged.append(
            BatchEntry(self._number, self._epoch, now.wall, now.elapsed, taken.ranges, versions, taken.waiting)
        )
        output = self._step(flight)
        if output.alerts:
            self._log(output.alerts, [])

    def _step(self, flight: _InFlight) -> Output:
        scored = [run.result() for run in flight.runs]
        partitions = [(part.stream, part.partition) for part in flight.taken.ranges]
        batch = Batch(scored, partitions, flight.taken.waiting, flight.deciders.champions)
        output = self.parts.pipeline.step(batch, flight.now)
        self._done |= {(part.stream, part.topic, part.partition): part.end for part in flight.taken.ranges}
        self._open.add(output)
        self.parts.observer.batch(output, flight.began, flight.now.wall)
        return output

    def _log(self, alerts: Sequence[Alert], updates: Sequence[AlertUpdate]) -> None:
        if self._unlogged or alerts or updates:
            entries = self._unlogged
            log = self.parts.checkpoints.log_batches
            self._retry("store", lambda: log(self.parts.name, entries, alerts, updates))
            self._unlogged = []
            if alerts:
                self.parts.observer.stored()

    def _repeat(self, entry: BatchEntry) -> None:
        """Repeat a logged micro-batch; its alerts are in the store already, or come there now."""
        now = Now(entry.wall, entry.elapsed)
        deciders = self.parts.models.exactly(entry.models)
        taken: list[MicroBatch] = []
        self._retry("topics", lambda: taken.append(self._former.again(entry)))
        output = self._step(self._score(taken[-1], now, deciders))
        self._number, self._elapsed = entry.number, max(self._elapsed, entry.elapsed)
        if output.alerts:
            self._log(output.alerts, [])

    # -- epochs --------------------------------------------------------------------------------------------------

    def _cut_if_due(self) -> None:
        self._writer.check()
        gathered = self._open
        full = gathered.records >= self.options.epoch_records
        old = self._elapsed - gathered.began >= self.options.epoch_seconds
        if gathered.batches and (full or (old and not self._writer.busy)):
            self._cut()

    def _cut(self) -> None:
        """End the epoch: log its last micro-batches, hand its rows and state to the writer.

        From here on no micro-batch is logged for this epoch any more. So after a crash the logged ones are the
        whole of it, and its rows in the lake, if they got there, are exactly these.
        """
        pipeline, gathered = self.parts.pipeline, self._open
        self._log([], pipeline.take_updates())
        epoch = Epoch(
            number=self._epoch,
            last_batch=self._number,
            elapsed=self._elapsed,
            rows=gathered.rows,
            offsets=dict(self._done),
            aggregates=pipeline.take_aggregates(),
            snapshot=pipeline.snapshot(),
            totals={key: counts.copy() for key, counts in pipeline.totals.items()},
            committed_at=self._clock.wall(),
        )
        self._writer.submit(epoch)
        self._epoch += 1
        self._open = _Open(self._elapsed)

    # -- what others ask -----------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def elapsed(self) -> float:
        return self._elapsed

    def lag(self) -> dict[tuple[str, int], int]:
        return self._former.lag()


def _at_once(work: Callable[..., Scored], *arguments: Any) -> Future[Scored]:
    """Do it in this thread: small work holds the interpreter all the time, threads would only wait for each other."""
    done: Future[Scored] = Future()
    done.set_result(work(*arguments))
    return done
