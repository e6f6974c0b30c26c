"""What an engine is made of: every file, clock, thread and listener that comes in from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from hackwatch.clock import Clock
from hackwatch.pipeline.core import Output, Pipeline
from hackwatch.pipeline.detection import RuleMatcher
from hackwatch.runtime.detectors import Models
from hackwatch.store.protocols import CheckpointStore
from hackwatch.streams.stream import DecodeOptions, Stream
from hackwatch.topics.topic import TopicReader

__all__ = [
    "EngineParts",
    "EngineView",
    "EpochObserver",
    "EpochSink",
    "LakeWriter",
    "Observer",
    "StreamInput",
]


@dataclass(frozen=True, slots=True, eq=False)
class StreamInput:
    """One stream as the engine reads it. `future_seconds`: how far ahead of the clock a record may be."""

    stream: Stream
    reader: TopicReader
    decode: DecodeOptions
    future_seconds: float = 3600.0


class EngineView(Protocol):
    """What observers may ask an engine, in its own thread."""

    @property
    def parts(self) -> EngineParts: ...

    @property
    def epoch(self) -> int:
        """The epoch that is open."""
        ...

    def lag(self) -> dict[tuple[str, int], int]:
        """What is not read yet of each (stream, partition), in what its topic counts. Raises ResourceError."""
        ...


class EpochObserver(Protocol):
    """Is told of an epoch, by the thread that writes it. Must be quick, and never raise: nothing is told again."""

    def wrote(self, table: str, seconds: float) -> None:
        """The rows of the epoch are in a table of the lake, which took so long. Called once for each table."""
        ...

    def committed(self, epoch: int, seconds: float) -> None:
        """The epoch counts: lake, sinks and store have it. `seconds`: since the thread began to write it."""
        ...


class Observer(EpochObserver, Protocol):
    """Is told what an engine does, by the engine's own thread unless it says otherwise.

    Must be quick, since reading waits for it, and never raise: an error would end the engine.
    """

    def batch(self, output: Output, began: float, wall: float) -> None:
        """A micro-batch is through, a repeated one too; its alerts are not in the store yet.

        `began`: when it began to be scored (monotonic). `wall`: the time it was given, Unix seconds.
        """
        ...

    def stored(self) -> None:
        """New alerts are in the store, with their messages for the routes."""
        ...

    def turn(self, engine: EngineView) -> None:
        """The end of each turn of the loop, some hundred times a second; not while the engine recovers or waits."""
        ...

    def paused(self, why: str | None) -> None:
        """An action failed and will be tried again: why; None when none waits any more. Said with every attempt.

        By whichever thread waits: that of the engine or that of the epochs.
        """
        ...


class LakeWriter(Protocol):
    """What the engine needs of the lake."""

    def append(self, table: str, frame: pl.DataFrame, epoch: int, pipeline: str) -> bool:
        """Append rows once; False if this pipeline has already committed this epoch to the table.

        Called by the thread that writes epochs, one table after the other. Raises ResourceError, and is then called
        again with the same rows; DataError if the rows do not fit the table, which ends the engine.
        """
        ...


class EpochSink(Protocol):
    """A further place that the scored records of every epoch go to, before the epoch counts: at least once.

    After a crash the same records of the same epoch come again, in the same order with the same values.
    """

    @property
    def name(self) -> str:
        """What the engine says it waits for, when it does."""
        ...

    def write(self, stream: str, frame: pl.DataFrame, epoch: int) -> None:
        """Hand over the rows of a stream's lake table; they are safe there when it returns.

        Called by the thread that writes epochs, after the lake has the rows, once a stream. Raises ResourceError; the
        same call is then tried again until it succeeds.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds. Called once, when the engine has ended, by the thread that opened it."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class EngineParts:
    """Every file, clock and thread of an engine; whoever makes them closes them, after the engine has ended.

    `scorers`: threads that detect. `epochs`: one thread, which writes what it is given in order. `name`: of the
    pipeline in the store.
    """

    inputs: Mapping[str, StreamInput]
    pipeline: Pipeline
    models: Models
    rules: RuleMatcher | None
    checkpoints: CheckpointStore
    lake: LakeWriter
    clock: Clock
    scorers: Executor
    epochs: Executor
    observer: Observer
    sinks: Sequence[EpochSink] = ()
    name: str = "main"
    site: str = "local"
