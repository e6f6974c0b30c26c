"""The engine of a data folder with everything around it: lock, store, lake, models, routes, maintenance, metrics."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

from hackwatch import streams, topics
from hackwatch.clock import Clock, SystemClock
from hackwatch.config import Settings, prepare_data_folder
from hackwatch.detect.rules import RuleSet, load_rules
from hackwatch.engine.drifting import DriftWatch
from hackwatch.engine.enrichments import Enrichments
from hackwatch.engine.epoch import EpochSink
from hackwatch.engine.lock import EngineLock
from hackwatch.engine.loop import Engine, EngineOptions, Parts, Source
from hackwatch.engine.models import Models, system_alert
from hackwatch.engine.status import StatusBoard
from hackwatch.engine.upkeep import Upkeep, alert_options
from hackwatch.engine.watching import open_bundles, roles_of
from hackwatch.errors import ConfigurationError
from hackwatch.lake import open_lake
from hackwatch.pipeline.core import Output, Pipeline
from hackwatch.pipeline.detection import Scored
from hackwatch.pipeline.enriching import Enriching
from hackwatch.pipeline.options import MAX_SOURCES, StreamOptions
from hackwatch.store import Store
from hackwatch.streams.declarations import Correlation
from hackwatch.streams.options import of_settings
from hackwatch.topics.retention import retention_of

__all__ = ["correlations_of", "rules_of", "run_service", "sources_of", "stream_options"]

_LOG = logging.getLogger(__name__)
SWITCH_SECONDS = 0.0002


def run_service(settings: Settings, stop: threading.Event, *, clock: Clock | None = None) -> None:
    """Run the engine until `stop` is set; everything it read until then is committed when this returns.

    Raises ConfigurationError (rules, routes, a stream that only Spark can score), EnvironmentError_ (data folder in use
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


def rules_of(settings: Settings) -> RuleSet:
    """The rules that the settings name, for the enabled streams."""
    known = {name: streams.get(name) for name, stream in settings.streams.items() if stream.enabled}
    return load_rules(settings.detection.rules, known, shipped=settings.detection.shipped_rules)


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
        self.upkeep = Upkeep(settings, clock, stack)
        self.store = self.upkeep.store
        _check_not_on_spark(self.store, settings)
        self.lake = open_lake(settings)
        self.drift = DriftWatch(
            settings.detection.drift_records,
            settings.detection.drift_psi,
            self.upkeep.system_alert if settings.detection.drift_alerts else None,
        )
        self.enriching = Enriching({name: streams.stateful_enrichers(name) for name in settings.streams})
        self.dispatcher = self.upkeep.open_routes()
        self.engine = self._engine(stack)
        self.upkeep.open_maintenance()

    def run(self) -> None:
        with self.upkeep.chores(self.drift.report):
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
        self.board = _Board(self, {name: source.stream.entity for name, source in sources.items()})
        threads = settings.engine.threads or os.cpu_count() or 1
        parts = Parts(
            sources=sources,
            pipeline=_pipeline(settings, sources, rules, self.enriching),
            models=self._models(tuple(sources), stack),
            rules=rules,
            store=self.store,
            lake=self.lake,
            clock=self.clock,
            scorers=stack.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="score")),
            epochs=stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="epoch")),
            observer=self.board,
            sinks=_sinks(settings, sources, stack),
        )
        return Engine(parts, _options(settings), self.stop)

    def _models(self, names: tuple[str, ...], stack: ExitStack) -> Models:
        settings, source = self.settings, open_bundles(self.settings, names, stack)
        enrichments = Enrichments(
            names, settings.enrichment.tables, settings.tables_folder / settings.pipeline, self._tell, self.enriching
        )
        return Models(source, names, self.upkeep.system_alert, roles_of(settings), enrichments)

    def _tell(self, rule: str, occurrence: str, title: str, detail: str) -> None:
        self.upkeep.system_alert(system_alert("hackwatch", rule, occurrence, title, detail, self.clock.wall()))


class _Board(StatusBoard):
    """The status board of a service: also watches drift and wakes the routes."""

    def __init__(self, service: _Service, entities: dict[str, str]) -> None:
        settings, self._service = service.settings, service
        super().__init__(
            settings.pipeline,
            settings.site,
            service.clock,
            lambda status: service.store.write_status(settings.pipeline, status),
            entities=entities,
            every_seconds=settings.engine.status_seconds,
            in_messages=[name for name in entities if topics.is_kafka(settings.spool_url(name))],
        )

    def batch(self, scored: Sequence[Scored], output: Output, began: float, wall: float) -> None:
        super().batch(scored, output, began, wall)
        service = self._service
        service.drift.look(scored, service.engine.parts.models.current().champions, service.clock.monotonic())

    def committed(self, epoch: int, seconds: float) -> None:
        super().committed(epoch, seconds)
        self._service.engine.parts.models.committed(epoch)

    def stored(self) -> None:
        self._service.dispatcher.wake()


def _check_not_on_spark(store: Store, settings: Settings) -> None:
    """Spark keeps its own positions: this engine would read everything again, and double it."""
    if any(store.checkpoint(f"{settings.pipeline}/{name}") is not None for name in settings.streams):
        raise ConfigurationError(
            f"the pipeline {settings.pipeline!r} of this store is run on Spark",
            where="pipeline",
            next_step="go on with --engine spark; or give this engine another name, such as pipeline = "
            '"embedded": it reads the topics from their start',
        )


def correlations_of(settings: Settings) -> list[Correlation]:
    """The declared correlations that are enabled, each with the time that the settings give it."""
    found = []
    for declared in streams.correlations():
        enabled, seconds = settings.correlation_of(declared.name)
        if enabled:
            found.append(declared if seconds is None else replace(declared, seconds=seconds))
    return found


def stream_options(settings: Settings, name: str) -> StreamOptions:
    """How a stream is read in event time, as the settings say."""
    stream = settings.streams[name]
    return StreamOptions(
        lateness_seconds=stream.lateness_seconds,
        idle_seconds=settings.engine.idle_seconds,
        window_seconds=stream.window_seconds,
        duplicates_key=stream.duplicates_key,
        alert_on_suspect=stream.alert_on_suspect,
        max_sources=settings.engine.max_sources or MAX_SOURCES,
        aggregates=streams.aggregates(name),
    )


def _pipeline(settings: Settings, sources: dict[str, Source], rules: RuleSet, enriching: Enriching) -> Pipeline:
    return Pipeline(
        {name: (source.stream, stream_options(settings, name)) for name, source in sources.items()},
        correlations_of(settings),
        alert_options(settings),
        rules,
        enriching,
    )


def _sinks(settings: Settings, sources: Mapping[str, Source], stack: ExitStack) -> list[EpochSink]:
    """Where scored records go beside the lake."""
    url = settings.kafka.enriched
    if url is None:
        return []
    from hackwatch.engine.enriching import EnrichedSink  # the extra `kafka`, or an error that names it

    partitions = max(settings.streams[name].partitions for name in sources)
    found = {name: source.stream for name, source in sources.items()}
    sink = EnrichedSink(url, found, settings.kafka, partitions=partitions)
    stack.callback(sink.close)
    return [sink]


def _options(settings: Settings) -> EngineOptions:
    engine = settings.engine
    return EngineOptions(
        pipeline=settings.pipeline,
        site=settings.site,
        epoch_seconds=engine.epoch_seconds,
        epoch_records=engine.epoch_records,
        batch_bytes=engine.batch_bytes,
        poll_seconds=engine.poll_seconds,
        reload_seconds=engine.reload_seconds,
        in_flight=engine.in_flight,
    )
