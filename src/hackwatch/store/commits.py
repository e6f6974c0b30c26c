"""What engines commit: micro-batches and epochs, and the checkpoint from which they go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from hackwatch.counts import Counts
from hackwatch.store.aggregates import AGGREGATES_SCHEMA

__all__ = ["BatchEntry", "Checkpoint", "EpochCommit", "OffsetRange"]


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
    (stream, topic, partition) -> absolute totals. `windows`: WINDOWS_SCHEMA, `aggregates`: AGGREGATES_SCHEMA.
    """

    epoch: int
    last_batch: int
    elapsed: float
    offsets: Mapping[tuple[str, str, int], int]
    states: Mapping[str, bytes]
    windows: pl.DataFrame
    accounting: Mapping[tuple[str, str, int], Counts]
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
    accounting: Mapping[tuple[str, str, int], Counts]
    batches: tuple[BatchEntry, ...]
