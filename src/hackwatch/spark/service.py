"""The engine on Spark with everything around it: session, queries, store, lake, models, routes, metrics."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from hackwatch import streams, topics
from hackwatch.clock import Clock, SystemClock
from hackwatch.config import Settings, prepare_data_folder
from hackwatch.engine.lock import EngineLock
from hackwatch.engine.models import Models
from hackwatch.engine.patience import Patience
from hackwatch.engine.service import correlations_of, rules_of
from hackwatch.engine.upkeep import Upkeep, alert_options
from hackwatch.engine.watching import open_bundles, roles_of
from hackwatch.errors import ConfigurationError, EnvironmentError_
from hackwatch.lake import open_lake
from hackwatch.pipeline.alerting import AlertPolicy
from hackwatch.spark.context import Context, Query, gist
from hackwatch.spark.correlate import Correlate
from hackwatch.spark.folder import open_folder
from hackwatch.spark.ingest import Ingest
from hackwatch.spark.partitionfiles import PartitionFiles
from hackwatch.spark.progress import Board
from hackwatch.spark.session import close_session, open_session
from hackwatch.spark.statefiles import StateFiles
from hackwatch.spark.suspects import Suspects
from hackwatch.store import Store
from hackwatch.topics.kafka.address import is_kafka

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["run_spark"]

_LOG = logging.getLogger(__name__)
TURN_SECONDS = 0.2
#: How long a batch at work may take to finish when the engine is stopped; it is repeated at the next start if not.
FINISH_SECONDS = 60.0


def run_spark(
    settings: Settings, stop: threading.Event, *, available_now: bool = False, session: SparkSession | None = None,
    clock: Clock | None = None,
) -> None:  # fmt: skip
    """Run the pipeline on Spark until `stop` is set, or with `available_now` until all is read that is there.

    A `session` that is given is used and left running. Raises ConfigurationError (rules, routes, a pipeline that the
    embedded engine runs), EnvironmentError_ (Spark, Java, jars, disk), DataError (a checkpoint of another store).
    """
    clock = clock or SystemClock()
    streams.check_correlations(settings.correlations)
    settings = _with_topics(settings)
    prepare_data_folder(settings.data)
    with ExitStack() as stack:
        stack.enter_context(EngineLock(settings.lock_file))
        # Who may not run, or has no store, hears so before Spark takes its time to start.
        upkeep = Upkeep(settings, clock, stack)
        _check_not_embedded(upkeep.store, settings.pipeline)
        if session is None:
            session = open_session(settings, kafka=_reads_kafka(settings))
            stack.callback(close_session, session)
        service = _Service(upkeep, session, stop, stack)
        _LOG.info("engine started on Spark", extra={"master": settings.spark.master, "pipeline": settings.pipeline})
        service.run(available_now=available_now)
        _LOG.info("engine stopped")


def _with_topics(settings: Settings) -> Settings:
    """The settings without streams whose Kafka topic does not exist: Spark would fail at it. A spool may come later."""
    missing = []
    for name in _enabled(settings):
        with suppress(EnvironmentError_):  # no broker answers: Spark says so itself
            if is_kafka(url := settings.spool_url(name)) and not topics.exists(url, settings.kafka):
                missing.append(name)
    if not missing or len(missing) == len(_enabled(settings)):
        return settings
    _LOG.warning("no topic yet of %s: what comes into it is read from the next start on", ", ".join(missing))
    off = {name: settings.streams[name].model_copy(update={"enabled": False}) for name in missing}
    return settings.model_copy(update={"streams": {**settings.streams, **off}})


def _reads_kafka(settings: Settings) -> bool:
    return any(is_kafka(settings.spool_url(name)) for name in _enabled(settings))


def _enabled(settings: Settings) -> list[str]:
    return [name for name in streams.in_order(settings.streams) if settings.streams[name].enabled]


class _Service:
    """Opens the parts, and closes them in the opposite order through `stack`."""

    def __init__(self, upkeep: Upkeep, session: SparkSession, stop: threading.Event, stack: ExitStack) -> None:
        self.upkeep, self.spark, self.stop = upkeep, session, stop
        self.settings, self.clock, self.store = upkeep.settings, upkeep.clock, upkeep.store
        settings, clock = self.settings, self.clock
        self.board = Board(
            settings.pipeline,
            settings.site,
            clock,
            lambda status: self.store.write_status(settings.pipeline, status),
            _enabled(settings),
            in_messages=[name for name in _enabled(settings) if settings.spool_url(name).startswith("kafka://")],
        )
        self.context = self._context(stack)
        self.board.wake = self.upkeep.open_routes().wake
        self.correlations = [
            one for one in correlations_of(settings) if {one.left, one.right} <= set(_enabled(settings))
        ]
        self.ingest = [self._ingest(name) for name in _enabled(settings)]
        for query in self.ingest:
            for counts in query.checkpoint.totals.values():
                self.board.known(query.name, counts)
        sides = {query.name: query for query in self.ingest}
        self.after = [Correlate(self.context, declared, sides) for declared in self.correlations]
        self.upkeep.open_maintenance()

    @property
    def queries(self) -> list[Query]:
        return [*self.ingest, *self.after]

    def run(self, *, available_now: bool) -> None:
        with self.upkeep.chores(self._forget):
            try:
                # What comes after ingest reads what ingest has written: it must be there, if it is to end.
                for stage in (self.ingest, self.after) if available_now else (self.queries,):
                    for query in stage:
                        query.start(available_now=available_now)
                    self.board.state("running")
                    self._watch(stage)
            finally:
                self._end()

    def _ingest(self, stream: str) -> Ingest:
        place = f"{self.settings.spark_checkpoint}/{self.settings.pipeline}"
        suspects, state = (open_folder(self.spark, f"{place}/{what}-{stream}") for what in ("suspects", "state"))
        files = PartitionFiles(StateFiles(state, self.spark.sparkContext.broadcast))
        mine = [one.name for one in self.correlations if stream in (one.left, one.right)]
        return Ingest(self.context, stream, Suspects(stream, suspects), files, mine)

    def _forget(self, _: float) -> None:
        """Delete the suspects that all correlations have taken."""
        for query in self.ingest:
            done = [one.done[query.name] for one in self.after if query.name in one.names]
            if done:
                query.suspects.forget(min(done))

    def _watch(self, queries: Sequence[Query]) -> None:
        """Until asked to stop, all have ended by themselves, or one has failed."""
        while not self.stop.wait(TURN_SECONDS):
            for query in queries:
                self._raise_failure(query)
            self.board.publish(self._progress())
            if all(query.running is not None and not query.running.isActive for query in queries):
                for query in queries:
                    self._raise_failure(query)
                return

    def _raise_failure(self, query: Query) -> None:
        if query.error is not None:
            raise query.error
        failure = query.failure()
        if failure is not None and not self.stop.is_set():
            raise EnvironmentError_(
                f"Spark ended the query: {gist(failure)}",
                where=f"query {query.name}",
                next_step="mend the cause and start again: every batch counts once, nothing is lost",
            ) from failure

    def _end(self) -> None:
        self.stop.set()
        for query in self.queries:
            try:
                query.stop(FINISH_SECONDS)
            except Exception as error:
                # The JVM may be gone already; what is not committed is repeated at the next start.
                _LOG.warning("query %s did not stop well: %s", query.name, gist(error))
        self.board.state("stopped")
        self.board.publish({})

    def _progress(self) -> dict[str, dict[str, Any]]:
        told = {}
        for query in self.queries:
            last = query.running.lastProgress if query.running is not None else None
            if last is not None:
                told[query.name] = dict(last)
        return told

    # -- parts -----------------------------------------------------------------------------------------------------

    def _context(self, stack: ExitStack) -> Context:
        settings, options = self.settings, alert_options(self.settings)
        rules, roles, alert = rules_of(settings), roles_of(settings), self.upkeep.system_alert
        return Context(
            settings=settings,
            spark=self.spark,
            store=self.store,
            rules=rules,
            clock=self.clock,
            board=self.board,
            patience=Patience(self.clock, self.stop, self.board.paused),
            lake=lambda: open_lake(settings),
            models=lambda names: Models(open_bundles(settings, names, stack), names, alert, roles),
            policy=lambda: AlertPolicy(options, rules),
            given={},
        )


def _check_not_embedded(store: Store, pipeline: str) -> None:
    """The engines count positions each in its own way: one could not go on where the other one was."""
    if store.checkpoint(pipeline) is not None:
        raise ConfigurationError(
            f"the pipeline {pipeline!r} of this store is run by the embedded engine",
            where="pipeline",
            next_step='give the run on Spark another name, such as pipeline = "spark": it reads the topics from their '
            "start; or go on with --engine embedded",
        )
