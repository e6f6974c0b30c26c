"""The engine on Spark with everything around it: session, queries, store, lake, models, routes, metrics."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from hackwatch import streams, topics
from hackwatch.alerts.policy import AlertPolicy
from hackwatch.clock import Clock, SystemClock
from hackwatch.config import Settings
from hackwatch.errors import ResourceError
from hackwatch.lake import open_lake
from hackwatch.runtime.options import correlations_of, enabled_streams, rules_of
from hackwatch.runtime.retry import Retry
from hackwatch.runtime.services import Services
from hackwatch.spark.context import Context, Query, gist
from hackwatch.spark.correlate import Correlate
from hackwatch.spark.folder import open_folder
from hackwatch.spark.ingest import Ingest
from hackwatch.spark.observing import QueryObserver
from hackwatch.spark.partitionfiles import PartitionFiles
from hackwatch.spark.session import close_session, open_session
from hackwatch.spark.statefiles import StateFiles
from hackwatch.spark.suspects import Suspects

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
    embedded engine runs), ResourceError (Spark, Java, jars, disk), DataError (a checkpoint of another store).
    """
    streams.check_correlations(settings.correlations)
    settings = _with_topics(settings)
    with ExitStack() as stack:
        # Who may not run, or has no store, hears so before Spark takes its time to start.
        around = Services(settings, clock or SystemClock(), stack, "spark")
        if session is None:
            session = open_session(settings, kafka=_reads_kafka(settings))
            stack.callback(close_session, session)
        service = _Service(around, session, stop)
        _LOG.info("engine started on Spark", extra={"master": settings.spark.master, "pipeline": settings.pipeline})
        service.run(available_now=available_now)
        _LOG.info("engine stopped")


def _with_topics(settings: Settings) -> Settings:
    """The settings without streams whose Kafka topic does not exist: Spark would fail at it. A spool may come later."""
    missing = []
    for name in enabled_streams(settings):
        with suppress(ResourceError):  # no broker answers: Spark says so itself
            if topics.is_kafka(url := settings.spool_url(name)) and not topics.exists(url, settings.kafka):
                missing.append(name)
    if not missing or len(missing) == len(enabled_streams(settings)):
        return settings
    _LOG.warning("no topic yet of %s: what comes into it is read from the next start on", ", ".join(missing))
    off = {name: settings.streams[name].model_copy(update={"enabled": False}) for name in missing}
    return settings.model_copy(update={"streams": {**settings.streams, **off}})


def _reads_kafka(settings: Settings) -> bool:
    return any(topics.is_kafka(settings.spool_url(name)) for name in enabled_streams(settings))


class _Service:
    """Opens the parts, and closes them in the opposite order through `stack`."""

    def __init__(self, around: Services, session: SparkSession, stop: threading.Event) -> None:
        self.around, self.spark, self.stop = around, session, stop
        settings = self.settings = around.settings
        names = enabled_streams(settings)
        board = around.status_board(names)
        self.observer = QueryObserver(board, around.clock, around.open_routes().wake)
        self.context = self._context()
        self.correlations = [one for one in correlations_of(settings) if {one.left, one.right} <= set(names)]
        self.ingest = [self._ingest(name) for name in names]
        for query in self.ingest:
            board.stands(query.name, query.totals, None, query.state)
        sides = {query.name: query for query in self.ingest}
        self.after = [Correlate(self.context, declared, sides) for declared in self.correlations]
        around.open_maintenance()

    @property
    def queries(self) -> list[Query]:
        return [*self.ingest, *self.after]

    def run(self, *, available_now: bool) -> None:
        with self.around.housekeeping(self._forget):
            try:
                # What comes after ingest reads what ingest has written: it must be there, if it is to end.
                for stage in (self.ingest, self.after) if available_now else (self.queries,):
                    for query in stage:
                        query.start(available_now=available_now)
                    self._running()
                    self._watch(stage)
            finally:
                self._end()

    def _running(self) -> None:
        _LOG.info("engine running")
        self.observer.board.entered("running")

    def _ingest(self, stream: str) -> Ingest:
        place = f"{self.settings.spark_checkpoint}/{self.settings.pipeline}"
        suspects, state = (open_folder(self.spark, f"{place}/{what}-{stream}") for what in ("suspects", "state"))
        files = PartitionFiles(StateFiles(state, self.spark.sparkContext.broadcast))
        mine = [one.name for one in self.correlations if stream in (one.left, one.right)]
        return Ingest(self.context, stream, Suspects(stream, suspects), files, mine)

    def _forget(self) -> None:
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
            self.observer.publish(self._progress())
            if all(query.running is not None and not query.running.isActive for query in queries):
                for query in queries:
                    self._raise_failure(query)
                return

    def _raise_failure(self, query: Query) -> None:
        if query.error is not None:
            raise query.error
        failure = query.failure()
        if failure is not None and not self.stop.is_set():
            raise ResourceError(
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
        self.observer.board.entered("stopped")
        self.observer.publish({})

    def _progress(self) -> dict[str, dict[str, Any]]:
        told = {}
        for query in self.queries:
            last = query.running.lastProgress if query.running is not None else None
            if last is not None:
                told[query.name] = dict(last)
        return told

    # -- parts -----------------------------------------------------------------------------------------------------

    def _context(self) -> Context:
        settings, around = self.settings, self.around
        rules = rules_of(settings)
        return Context(
            settings=settings,
            spark=self.spark,
            checkpoints=around.store.checkpoints,
            rules=rules,
            clock=around.clock,
            observer=self.observer,
            retry=Retry(around.clock, self.stop, self.observer.board.paused),
            lake=lambda: open_lake(settings),
            models=around.open_models,
            enrichments=lambda name: around.open_enrichments((name,), f"{settings.pipeline}-{name}", name),
            policy=lambda: AlertPolicy(settings.alerts, rules, settings.site),
            given={},
        )
