"""Making an epoch durable: lake first, then the store, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import polars as pl

from hackwatch.counts import Counts
from hackwatch.engine.parts import EngineParts
from hackwatch.pipeline.core import Changed, Snapshot, serialise
from hackwatch.pipeline.judged import lake_rows
from hackwatch.store.aggregates import aggregate_rows, window_rows
from hackwatch.store.commits import EpochCommit
from hackwatch.topics.topic import TopicReader

__all__ = ["Epoch", "EpochWriter"]


#: Frames that are joined in one step.
_JOINED = 32
Retry = Callable[[str, Callable[[], object]], None]


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """What one epoch leaves behind. `rows`: per lake table. The snapshot is still frames: bytes are made later."""

    number: int
    last_batch: int
    elapsed: float
    rows: Mapping[str, Sequence[pl.DataFrame]]
    offsets: Mapping[tuple[str, str, int], int]
    snapshot: Snapshot
    aggregates: Sequence[Changed]
    totals: Mapping[tuple[str, str, int], Counts]
    committed_at: float


class EpochWriter:
    """Writes one epoch at a time: (i) the lake tables and sinks, (ii) one store transaction, (iii) topic retention.

    All repeat safely: the lake refuses an epoch that a table already has, a sink is at least once, and the store
    commit is what makes the epoch count. `retry` runs an action until it succeeds, whatever the disk says in
    between.
    """

    def __init__(self, parts: EngineParts, readers: Mapping[str, TopicReader], retry: Retry) -> None:
        self._parts, self._readers, self._retry, self._clock = parts, readers, retry, parts.clock
        # A new store counts epochs from 1 again: the lake must not take them for those of the old one.
        self._application = f"{parts.name}@{parts.checkpoints.identity}"
        self._running: Future[None] | None = None

    @property
    def busy(self) -> bool:
        return self._running is not None and not self._running.done()

    def submit(self, epoch: Epoch) -> None:
        """Begin to write an epoch, after the one before is durable."""
        self.wait()
        self._running = self._parts.epochs.submit(self._write, epoch)

    def wait(self) -> None:
        """Until the last submitted epoch is durable; raises what it raised."""
        if self._running is not None:
            running, self._running = self._running, None
            running.result()

    def check(self) -> None:
        """Raise what a finished epoch raised, without waiting for a running one."""
        if self._running is not None and self._running.done():
            self.wait()

    def _write(self, epoch: Epoch) -> None:
        began = self._clock.monotonic()
        for table, frames in epoch.rows.items():
            started = self._clock.monotonic()
            frame = self._rows(table, frames, epoch.number)
            append = partial(self._parts.lake.append, table, frame, epoch.number, self._application)
            self._retry(f"lake table {table}", append)
            self._parts.observer.wrote(table, self._clock.monotonic() - started)
            for sink in self._parts.sinks if table in self._readers else ():
                self._retry(sink.name, partial(sink.write, table, frame, epoch.number))
        commit = self._commit(epoch)
        self._retry("store", partial(self._parts.checkpoints.commit_epoch, self._parts.name, commit))
        self._parts.observer.committed(epoch.number, self._clock.monotonic() - began)
        for stream, reader in self._readers.items():
            done = {partition: offset for (s, _, partition), offset in epoch.offsets.items() if s == stream}
            self._retry(f"topic {reader.topic}", partial(reader.commit, done))

    def _rows(self, table: str, frames: Sequence[pl.DataFrame], number: int) -> pl.DataFrame:
        """One frame with the columns that are the same for a whole epoch, and those of the lake's layout."""
        reader = self._readers.get(table)
        if reader is None:
            return lake_rows(_joined(frames), self._parts.site)
        return lake_rows(_joined(frames), self._parts.site, topic=reader.topic, epoch=number)

    def _commit(self, epoch: Epoch) -> EpochCommit:
        return EpochCommit(
            epoch=epoch.number,
            last_batch=epoch.last_batch,
            elapsed=epoch.elapsed,
            offsets=epoch.offsets,
            states=serialise(epoch.snapshot),
            windows=window_rows(epoch.aggregates),
            aggregates=aggregate_rows(epoch.aggregates),
            accounting=epoch.totals,
            committed_at=epoch.committed_at,
        )


def _joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One frame of the rows of all micro-batches.

    In two steps, for a step holds the interpreter: alerts do not wait for the rows of hundreds of them. In few pieces
    then, since everything that follows has a cost a piece.
    """
    parts = [pl.concat(frames[start : start + _JOINED]) for start in range(0, len(frames), _JOINED)]
    return pl.concat([part.rechunk() for part in parts]) if len(parts) > 1 else parts[0]
