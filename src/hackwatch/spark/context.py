"""What all queries of a run share, and what each of them is made of."""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from hackwatch.alerts.policy import AlertPolicy
from hackwatch.clock import Clock
from hackwatch.config import Settings
from hackwatch.detect.detector import Detector
from hackwatch.detect.rules import RuleSet
from hackwatch.errors import DataError, HackwatchError, ResourceError
from hackwatch.lake import Lake
from hackwatch.pipeline.core import Now
from hackwatch.runtime.detectors import Deciders, Models
from hackwatch.runtime.enrichments import Enrichments
from hackwatch.runtime.retry import Retry
from hackwatch.spark.checkpoint import clear_unfinished
from hackwatch.spark.observing import QueryObserver
from hackwatch.spark.querycheckpoint import QueryCheckpoint
from hackwatch.spark.rounds import EngineTime, Rounds
from hackwatch.store.commits import BatchEntry
from hackwatch.store.protocols import CheckpointStore

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.streaming.readwriter import DataStreamWriter

__all__ = ["Context", "Query", "SparkQuery", "collected", "gist"]

_Found = TypeVar("_Found")
#: For what a task could not do, if its error does not say.
_NEXT = "free space, check the folders, and the brokers of an enriched topic"


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """The parts of a run. `lake`, `models`, `enrichments`, `policy`: make one for a query: no two threads share one.

    `given`: detectors by stream that take the place of those of the registry.
    """

    settings: Settings
    spark: SparkSession
    checkpoints: CheckpointStore
    rules: RuleSet
    clock: Clock
    observer: QueryObserver
    retry: Retry
    lake: Callable[[], Lake]
    models: Callable[[tuple[str, ...], Enrichments | None], Models]
    enrichments: Callable[[str], Enrichments]
    policy: Callable[[], AlertPolicy]
    given: dict[str, Detector]


class Query(ABC):
    """One flow of batches, each of which counts once.

    The first error is kept in `error`: what Spark makes of it is hard to read.
    """

    def __init__(
        self, context: Context, name: str, streams: tuple[str, ...], enrichments: Enrichments | None = None
    ) -> None:
        self.context, self.name = context, name
        self.checkpoint = QueryCheckpoint(context.checkpoints, context.settings.pipeline, name)
        self.lake, self.models, self.policy = context.lake(), context.models(streams, enrichments), context.policy()
        if "policy" in self.checkpoint.state:
            self.policy.restore(self.checkpoint.state["policy"])
        self.time = EngineTime(context.clock, self.checkpoint.elapsed, context.settings.spark.trigger_seconds)
        self.error: HackwatchError | None = None
        self.running: StreamingQuery | Rounds | None = None
        self._gate = threading.Lock()
        self._closed = False

    @abstractmethod
    def start(self, *, available_now: bool) -> None:
        """Begin; with `available_now` it ends once all is read that is there."""

    def failure(self) -> Exception | None:
        """What ended it, if it is not an error of hackwatch."""
        return self.running.exception() if self.running is not None else None

    def stop(self, timeout: float) -> None:
        """Let the batch at work finish, and stop."""
        if self.running is None:
            return
        finished = self._gate.acquire(timeout=timeout)
        self._closed = True
        if finished:
            self._gate.release()
        self.running.stop()

    @contextmanager
    def open_gate(self) -> Iterator[None]:
        """Work on a batch: a stop waits for its end, and what comes after the stop does not count."""
        with self._gate:
            if self._closed:
                raise ResourceError("the engine is being stopped", where=f"query {self.name}")
            try:
                yield
            except HackwatchError as error:
                self.error = self.error or error
                raise

    def now(self) -> Now:
        """The time of a batch that begins."""
        return Now(self.context.clock.wall(), self.time.tick())

    def versions(self) -> dict[str, str]:
        """What decides about a batch that begins: the newest of everything."""
        self.models.refresh()
        return self.models.logged(self.models.current(), self.checkpoint.epoch + 1)

    def deciders(self, entry: BatchEntry) -> Deciders:
        """What a batch was logged with."""
        found, given = self.models.exactly(entry.models), self.context.given
        panels = {
            name: replace(panel, champion=given[name]) if name in given else panel
            for name, panel in found.panels.items()
        }
        return replace(found, panels=panels)

    def patiently(self, what: str, action: Callable[[], _Found]) -> _Found:
        """What an action gives, once disk and servers let it succeed; until then it is tried again."""
        found: list[_Found] = []
        self.context.retry(what, lambda: found.append(action()))
        return found[-1]


class SparkQuery(Query):
    """A query of Spark, which hands over its batches."""

    @abstractmethod
    def frame(self) -> DataFrame:
        """What Spark reads, batch for batch."""

    @abstractmethod
    def take(self, frame: DataFrame, entry: BatchEntry, deciders: Deciders) -> None:
        """Write what a batch gives, and commit it to the checkpoint."""

    def start(self, *, available_now: bool) -> None:
        """ResourceError if Spark does not start it: mostly it cannot use the checkpoint folder."""
        try:
            clear_unfinished(self.context.spark, self._checkpoint_folder)
            self.running = self._writer(available_now=available_now).start()
        except HackwatchError:
            raise
        except Exception as error:  # PySpark's, or one of py4j, which has no other name for it
            settings = self.context.settings
            raise ResourceError(
                f"Spark does not start the query: {gist(error)}",
                where=f"query {self.name}",
                next_step=f"see that Spark can write to the checkpoint folder {settings.spark_checkpoint}",
            ) from error

    def _writer(self, *, available_now: bool) -> DataStreamWriter:
        settings = self.context.settings
        writer = (
            self.frame()
            .writeStream.queryName(f"{settings.pipeline}-{self.name}")
            .option("checkpointLocation", self._checkpoint_folder)
            .foreachBatch(self._batch)
        )
        if available_now:
            return writer.trigger(availableNow=True)
        return writer.trigger(processingTime=f"{round(settings.spark.trigger_seconds * 1000)} milliseconds")

    @property
    def _checkpoint_folder(self) -> str:
        settings = self.context.settings
        return f"{settings.spark_checkpoint}/{settings.pipeline}/{self.name}"

    def _batch(self, frame: DataFrame, number: int) -> None:
        with self.open_gate():
            self._counted(frame, number)

    def _counted(self, frame: DataFrame, number: int) -> None:
        now = self.now()
        spark_query = str(frame.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId"))
        versions = self.versions()
        entry = self.patiently("store", lambda: self.checkpoint.begin(number, spark_query, now, versions))
        if entry is not None:
            self.take(frame, entry, self.deciders(entry))


def collected(frame: DataFrame) -> pa.Table:
    """The rows of a batch, here. ResourceError if a task could not write, DataError if its files are not sound."""
    from pyspark.errors import PySparkException

    try:
        return frame.toArrow()
    except PySparkException as error:
        for kind in (ResourceError, DataError):
            if told := re.findall(rf"{kind.__name__}: (.*)\n(?:  next: (.*))?", f"{error}\n"):
                raise kind(told[-1][0], where="a task of Spark", next_step=told[-1][1] or _NEXT) from error
        raise


def gist(error: BaseException) -> str:
    """What an error of Spark says, without the places in its code and the name of the call.

    >>> gist(ValueError("An error occurred while calling o7.start.\\n: java.io.IOException: no\\n\\tat A.b(A.scala:1)"))
    'java.io.IOException: no'
    """
    lines = [line.strip().removeprefix(": ") for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("at ", "An error occurred while calling"))]
    return " ".join(told[:3])[:600]
