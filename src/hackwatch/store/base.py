"""What is kept in the store, and what the engine needs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl

from hackwatch.alerts.alert import Alert, AlertUpdate

__all__ = [
    "AGGREGATES_SCHEMA",
    "WINDOWS_SCHEMA",
    "BatchEntry",
    "Checkpoint",
    "EngineStore",
    "EpochCommit",
    "OffsetRange",
]

#: Windows as the pipeline hands them over: absolute values, upserted by (site, stream, entity, source, start, end).
#: start/end: Unix seconds UTC. records: on-time rows; suspects: rows with prediction 1; count: distinct identities.
#: source: whose records these are; a window is that of all its sources together.
WINDOWS_SCHEMA = pl.Schema(
    {
        "stream": pl.String(),
        "entity": pl.String(),
        "source": pl.String(),
        "start": pl.Int64(),
        "end": pl.Int64(),
        "records": pl.Int64(),
        "suspects": pl.Int64(),
        "count": pl.Int64(),
        "final": pl.Boolean(),
    }
)

#: Intervals of all other aggregates: `keys` and `measures` are JSON objects.
AGGREGATES_SCHEMA = pl.Schema(
    {
        "stream": pl.String(),
        "aggregate": pl.String(),
        "keys": pl.String(),
        "source": pl.String(),
        "start": pl.Int64(),
        "end": pl.Int64(),
        "measures": pl.String(),
        "final": pl.Boolean(),
    }
)


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Messages [start, end) of one topic partition, that one micro-batch took."""

    stream: str
    topic: str
    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """The input of one micro-batch, enough to repeat it exactly after a crash.

    `number` increases by one a batch for the life of the pipeline. `wall`: Unix seconds; `elapsed`: seconds of
    engine time since the pipeline's birth (monotonic across restarts). `models`: bundle version per stream (the
    champion's) and per `stream:role`, and of each `table:name` that enrichers use. `waiting`: (stream, partition) that
    had further messages: who sends there is not idle.
    """

    number: int
    epoch: int
    wall: float
    elapsed: float
    ranges: tuple[OffsetRange, ...]
    models: Mapping[str, str] = field(default_factory=dict)
    waiting: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class EpochCommit:
    """Everything that one epoch changes, written in one transaction.

    `offsets`: (stream, topic, partition) -> next offset. `states`: name -> snapshot. `accounting`:
    (stream, topic, partition) -> absolute totals (`messages records on_time late duplicate rejected unknown_fields`).
    """

    epoch: int
    last_batch: int
    elapsed: float
    offsets: Mapping[tuple[str, str, int], int]
    states: Mapping[str, bytes]
    windows: pl.DataFrame
    accounting: Mapping[tuple[str, str, int], Mapping[str, int]]
    committed_at: float
    aggregates: pl.DataFrame = field(default_factory=AGGREGATES_SCHEMA.to_frame)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a restarted engine goes on from.

    `batches`: the micro-batches logged after the last committed epoch, by number.
    """

    epoch: int
    last_batch: int
    elapsed: float
    offsets: Mapping[tuple[str, str, int], int]
    states: Mapping[str, bytes]
    accounting: Mapping[tuple[str, str, int], Mapping[str, int]]
    batches: tuple[BatchEntry, ...]


class EngineStore(Protocol):
    """The engine's side of the store. Every method is one transaction."""

    @property
    def identity(self) -> str:
        """Made with the store, and never again: tells it from one that took its place."""
        ...

    def checkpoint(self, pipeline: str) -> Checkpoint | None:
        """The last committed epoch and what was logged after it; None for a new pipeline."""
        ...

    def log_batches(
        self,
        pipeline: str,
        batches: Sequence[BatchEntry],
        alerts: Sequence[Alert] = (),
        updates: Sequence[AlertUpdate] = (),
    ) -> None:
        """Log micro-batches and write their alerts (existing ids stay untouched), updates and outbox messages."""
        ...

    def commit_epoch(self, pipeline: str, commit: EpochCommit) -> None:
        """Commit an epoch and drop the batch log up to its last batch."""
        ...

    def write_status(self, pipeline: str, status: Mapping[str, Any]) -> None:
        """Replace the pipeline's live status (what `top` and the dashboard read)."""
        ...
