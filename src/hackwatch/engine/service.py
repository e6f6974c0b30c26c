"""The engine of a data folder with everything around it: lock, store, lake, models, routes, maintenance, metrics."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from hackwatch import streams, topics
from hackwatch.alerts.policy import AlertPolicy
from hackwatch.clock import Clock, SystemClock
from hackwatch.config import Settings, prepare_data_folder
from hackwatch.detect.rules import RuleSet
from hackwatch.engine.epoch import EpochSink
from hackwatch.engine.loop import Engine, Parts, Source
from hackwatch.errors import ConfigurationError
from hackwatch.lake import open_lake
from hackwatch.pipeline.core import Output, Pipeline
from hackwatch.pipeline.detection import Scored
from hackwatch.pipeline.enriching import Enriching
from hackwatch.runtime.detectors import Models
from hackwatch.runtime.drift import DriftWatch
from hackwatch.runtime.enrichments import Enrichments
from hackwatch.runtime.housekeeping import Housekeeping
from hackwatch.runtime.lock import EngineLock
from hackwatch.runtime.options import correlations_of, rules_of, stream_options
from hackwatch.runtime.reload import open_bundles, roles_of
from hackwatch.runtime.status import StatusBoard
from hackwatch.store.protocols import CheckpointStore
from hackwatch.streams.options import of_settings
from hackwatch.topics.retention import retention_of

__all__ = ["run_service", "sources_of"]

_LOG = logging.getLogger(__name__)
SWITCH_SECONDS = 0.0002


def run_service(settings: Settings, stop: threading.Event, *, clock: Clock | None = None) -> None:
    """Run the engine until `stop` is set; everything it read until then is committed when this returns.

    Raises ConfigurationError (rules, routes, a stream that only Spark can score), ResourceError (data folder in use
    or not usable), DataError (damaged store).
    """
    clock = clock or SystemClock()
    streams.check_correlations(settings.correlations)
    _check_scorers(settings)
    prepare_data_folder(settings.data)
    with ExitStack() as stack:
        stack.enter_context(EngineLock(settings.lock_file))
        service = _Service(settings, clock, stop, stack)
        _prefer_latency()
        _LOG.info("engine started", extra={"data": str(settings.data), "pipeline": settings.pipeline})
        service.run()
        _LOG.info("engine stopped", extra={"epoch": service.engine.epoch - 1})


def _check_scorers(settings: Settings) -> None:
    """Refuse to score by other models than the settings name."""
    given = {name: stream.spark_ml for name, stream in settings.streams.items() if stream.enabled and stream.spark_ml}
    if given:
        raise ConfigurationError(
            f"a Spark ML pipeline is to score {', '.join(given)}, which needs Spark",
            where=", ".join(f"streams.{name}.spark_ml" for name in given),
            next_step="hackwatch run --engine spark; or take the setting out, and "
            + "; ".join(
                f"hackwatch models import --spark-ml {folder} --as {name} --promote" for name, folder in given.items()
            ),
        )


def _prefer_latency() -> None:
    """Settings of the interpreter for several threads that each hold it for a few microseconds at a time.

    A thread that comes back from a query waits for the interpreter up to the switch interval, 5 ms by default: as
    long as scoring a small micro-batch takes. And what is there by now stays: the collector need not look at it.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def sources_of(settings: Settings) -> dict[str, Source]:
    """The enabled streams, each with a reader of its topic."""
    sources = {}
    for name in streams.in_order(settings.streams):
        stream = settings.streams[name]
        if stream.enabled:
            reader = topics.open_reader(
                settings.spool_url(name),
                name=settings.pipeline,
                retention=retention_of(settings.spool),
                longest_message=max(16 << 20, stream.max_message_bytes + 1),
                kafka=settings.kafka,
            )
            declared = streams.get(name)
            sources[name] = Source(declared, reader, of_settings(declared, stream), stream.future_seconds)
    return sources


class _Service:
    """Opens the parts, and closes them in the opposite order through `stack`."""

    def __init__(self, settings: Settings, clock: Clock, stop: threading.Event, stack: ExitStack) -> None:
        self.settings, self.clock, self.stop = settings, clock, stop
        self.housekeeping = Housekeeping(settings, clock, stack)
        self.store = self.housekeeping.store
        _check_not_on_spark(self.store.checkpoints, settings)
        self.lake = open_lake(settings)
        self.drift = DriftWatch(
            settings.detection.drift_records,
            settings.detection.drift_psi,
            self.housekeeping.tell if settings.detection.drift_alerts else None,
        )
        self.enriching = Enriching({name: streams.stateful_enrichers(name) for name in settings.streams})
        self.dispatcher = self.housekeeping.open_routes()
        self.engine = self._engine(stack)
        self.housekeeping.open_maintenance()

    def run(self) -> None:
        with self.housekeeping.beside(self.drift.report):
            try:
                self.engine.run()
            finally:
                self.board.stopped(self.engine)

    def _engine(self, stack: ExitStack) -> Engine:
        settings = self.settings
        sources = sources_of(settings)
        for source in sources.values():
            stack.callback(source.reader.close)
        rules = rules_of(settings)
        models = self._models(tuple(sources), stack)
        self.board = self._status_board({name: source.stream.entity for name, source in sources.items()})
        threads = settings.engine.threads or os.cpu_count() or 1
        parts = Parts(
            sources=sources,
            pipeline=_pipeline(settings, sources, rules, self.enriching),
            models=models,
            rules=rules,
            checkpoints=self.store.checkpoints,
            lake=self.lake,
            clock=self.clock,
            scorers=stack.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="score")),
            epochs=stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="epoch")),
            observer=_Observers(self.board, self.drift, models, self.dispatcher.wake, self.clock),
            sinks=_sinks(settings, sources, stack),
            name=settings.pipeline,
            site=settings.site,
        )
        return Engine(parts, settings.engine, self.stop)

    def _status_board(self, entities: dict[str, str]) -> StatusBoard:
        settings = self.settings
        return StatusBoard(
            settings.pipeline,
            settings.site,
            self.clock,
            lambda status: self.store.statuses.write(settings.pipeline, status),
            entities=entities,
            every_seconds=settings.engine.status_seconds,
            in_messages=[name for name in entities if topics.is_kafka(settings.spool_url(name))],
        )

    def _models(self, names: tuple[str, ...], stack: ExitStack) -> Models:
        settings, tell = self.settings, self.housekeeping.tell
        source = open_bundles(settings, names, stack)
        enrichments = Enrichments(
            names, settings.enrichment.tables, settings.tables_folder / settings.pipeline, tell, self.enriching
        )
        return Models(source, names, tell, roles_of(settings), enrichments)


@dataclass(frozen=True, slots=True, eq=False)
class _Observers:
    """Who is told what the engine does: the status board of everything, drift, detectors and routes of theirs."""

    board: StatusBoard
    drift: DriftWatch
    models: Models
    wake: Callable[[], None]
    clock: Clock

    def batch(self, scored: Sequence[Scored], output: Output, began: float, wall: float) -> None:
        self.board.batch(scored, output, began, wall)
        self.drift.look(scored, self.models.current().champions, self.clock.monotonic())

    def wrote(self, table: str, seconds: float) -> None:
        self.board.wrote(table, seconds)

    def committed(self, epoch: int, seconds: float) -> None:
        self.board.committed(epoch, seconds)
        self.models.committed(epoch)

    def turn(self, engine: Engine) -> None:
        self.board.turn(engine)

    def paused(self, why: str | None) -> None:
        self.board.paused(why)

    def stored(self) -> None:
        self.wake()


def _check_not_on_spark(checkpoints: CheckpointStore, settings: Settings) -> None:
    """Spark keeps its own positions: this engine would read everything again, and double it."""
    if any(checkpoints.latest(f"{settings.pipeline}/{name}") is not None for name in settings.streams):
        raise ConfigurationError(
            f"the pipeline {settings.pipeline!r} of this store is run on Spark",
            where="pipeline",
            next_step="go on with --engine spark; or give this engine another name, such as pipeline = "
            '"embedded": it reads the topics from their start',
        )


def _pipeline(settings: Settings, sources: dict[str, Source], rules: RuleSet, enriching: Enriching) -> Pipeline:
    return Pipeline(
        {name: (source.stream, stream_options(settings, name)) for name, source in sources.items()},
        correlations_of(settings),
        AlertPolicy(settings.alerts, rules, settings.site),
        enriching,
    )


def _sinks(settings: Settings, sources: Mapping[str, Source], stack: ExitStack) -> list[EpochSink]:
    """Where scored records go beside the lake."""
    url = settings.kafka.enriched
    if url is None:
        return []
    from hackwatch.runtime.enriched import EnrichedSink  # the extra `kafka`, or an error that names it

    partitions = max(settings.streams[name].partitions for name in sources)
    found = {name: source.stream for name, source in sources.items()}
    sink = EnrichedSink(url, found, settings.kafka, partitions=partitions)
    stack.callback(sink.close)
    return [sink]
