"""The embedded engine of a data folder: opened with everything around it, run until it is stopped."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from hackwatch import streams, topics
from hackwatch.alerts.policy import AlertPolicy
from hackwatch.clock import Clock, SystemClock
from hackwatch.config import Settings
from hackwatch.engine.loop import Engine
from hackwatch.engine.observing import Observers
from hackwatch.engine.parts import EngineParts, EpochSink, StreamInput
from hackwatch.errors import ConfigurationError
from hackwatch.lake import open_lake
from hackwatch.pipeline.core import Pipeline
from hackwatch.pipeline.enrichment import StatefulEnrichment
from hackwatch.runtime.drift import DriftWatch
from hackwatch.runtime.options import (
    correlations_of,
    enabled_streams,
    enriched_topic,
    rules_of,
    stream_options,
    topic_options,
)
from hackwatch.runtime.services import Services

__all__ = ["inputs_of", "run_service"]

_LOG = logging.getLogger(__name__)
SWITCH_SECONDS = 0.0002


def run_service(settings: Settings, stop: threading.Event, *, clock: Clock | None = None) -> None:
    """Run the engine until `stop` is set; everything it read until then is committed when this returns.

    Raises ConfigurationError (rules, routes, a stream that only Spark can score, a pipeline that Spark runs),
    ResourceError (data folder in use or not usable), DataError (damaged store).
    """
    streams.check_correlations(settings.correlations)
    _check_scorers(settings)
    with ExitStack() as stack:
        around = Services(settings, clock or SystemClock(), stack, "embedded")
        drift = _drift(around)
        engine, observers = _engine(around, drift, stop, stack)
        around.open_maintenance()
        _prefer_latency()
        _LOG.info("engine started", extra={"data": str(settings.data), "pipeline": settings.pipeline})
        with around.housekeeping(drift.report):
            try:
                engine.run()
            finally:
                observers.stopped(engine)
        _LOG.info("engine stopped", extra={"epoch": engine.epoch - 1})


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


def inputs_of(settings: Settings) -> dict[str, StreamInput]:
    """The enabled streams, each with a reader of its topic."""
    inputs = {}
    for name in enabled_streams(settings):
        topic = topic_options(settings, name)
        reader = topics.open_reader(
            topic.url,
            name=settings.pipeline,
            retention=topic.retention,
            longest_message=topic.longest_message,
            kafka=settings.kafka,
        )
        inputs[name] = StreamInput(streams.get(name), reader, topic.decode, settings.streams[name].future_seconds)
    return inputs


def _drift(around: Services) -> DriftWatch:
    detection = around.settings.detection
    report = around.tell if detection.drift_alerts else None
    return DriftWatch(detection.drift_records, detection.drift_psi, report)


def _engine(around: Services, drift: DriftWatch, stop: threading.Event, stack: ExitStack) -> tuple[Engine, Observers]:
    """The engine and who is told what it does; all that they are made of is closed through `stack`."""
    settings, clock = around.settings, around.clock
    lake, wake = open_lake(settings), around.open_routes().wake
    inputs = inputs_of(settings)
    for each in inputs.values():
        stack.callback(each.reader.close)
    names = tuple(inputs)
    stateful = StatefulEnrichment({name: streams.stateful_enrichers(name) for name in settings.streams})
    rules = rules_of(settings)
    models = around.open_models(names, around.open_enrichments(names, settings.pipeline, stateful=stateful))
    entities = {name: each.stream.entity for name, each in inputs.items()}
    board = around.status_board(names)
    observers = Observers(board, drift, models, wake, clock, entities, settings.engine.status_seconds)
    options = {name: (each.stream, stream_options(settings, name)) for name, each in inputs.items()}
    policy = AlertPolicy(settings.alerts, rules, settings.site)
    threads = settings.engine.threads or os.cpu_count() or 1
    parts = EngineParts(
        inputs=inputs,
        pipeline=Pipeline(options, correlations_of(settings), policy, stateful),
        models=models,
        rules=rules,
        checkpoints=around.store.checkpoints,
        lake=lake,
        clock=clock,
        scorers=stack.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="score")),
        epochs=stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="epoch")),
        observer=observers,
        sinks=_sinks(settings, inputs, stack),
        name=settings.pipeline,
        site=settings.site,
    )
    return Engine(parts, settings.engine, stop), observers


def _sinks(settings: Settings, inputs: Mapping[str, StreamInput], stack: ExitStack) -> list[EpochSink]:
    """Where scored records go beside the lake."""
    topic = enriched_topic(settings)
    if topic is None:
        return []
    sink = topic.open({name: each.stream for name, each in inputs.items()})
    stack.callback(sink.close)
    return [sink]
