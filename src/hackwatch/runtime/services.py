"""What is around an engine of either kind: place, store, detectors, alert routes, the lake's maintenance, metrics."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Literal

from hackwatch import metrics
from hackwatch.alerts.system import HACKWATCH, Notice
from hackwatch.clock import Clock
from hackwatch.config import Settings, prepare_data_folder
from hackwatch.errors import ConfigurationError, HackwatchError
from hackwatch.lake import open_lake
from hackwatch.lake.background import Maintenance
from hackwatch.pipeline.enrichment import StatefulEnrichment
from hackwatch.routes import Dispatcher, open_delivery
from hackwatch.runtime.detectors import Models
from hackwatch.runtime.enrichments import Enrichments
from hackwatch.runtime.lock import EngineLock
from hackwatch.runtime.options import roles_of
from hackwatch.runtime.registry import open_bundles
from hackwatch.runtime.status import StatusBoard
from hackwatch.store import open_store
from hackwatch.store.protocols import CheckpointStore
from hackwatch.topics import is_kafka

__all__ = ["Kind", "Services"]

_LOG = logging.getLogger(__name__)
EVERY_SECONDS = 5.0
DAY = 86_400.0


#: Of engines.
Kind = Literal["embedded", "spark"]


class Services:
    """Holds the data folder and store for this pipeline alone; opens the rest when its engine asks for it.

    Everything is closed through `stack`, in the opposite order.
    """

    def __init__(self, settings: Settings, clock: Clock, stack: ExitStack, kind: Kind) -> None:
        """`kind`: of the engine. Raises ResourceError if another engine works here, or the place cannot be used;
        ConfigurationError if the pipeline is run by the other kind; DataError if the store is damaged.
        """
        self.settings, self.clock, self._stack = settings, clock, stack
        prepare_data_folder(settings.data)
        stack.enter_context(EngineLock(settings.lock_file))
        self.store = stack.enter_context(open_store(settings.store_url, site=settings.site))
        self._hold = stack.enter_context(self.store.locks.hold(settings.pipeline))
        _check_kind(self.store.checkpoints, settings, kind)

    def open_models(self, names: tuple[str, ...], enrichments: Enrichments | None = None) -> Models:
        """The detectors of these streams, as the registry names them."""
        settings, source = self.settings, open_bundles(self.settings, names, self._stack)
        return Models(source, names, self.tell, roles_of(settings), enrichments)

    def open_enrichments(
        self, names: tuple[str, ...], copies: str, whose: str = HACKWATCH, stateful: StatefulEnrichment | None = None
    ) -> Enrichments:
        """What fills the columns of these streams that messages do not hold.

        `copies`: the folder that keeps versions of the tables. `whose`: the stream of the alerts of what fails.
        `stateful`: where stateful enrichers are run.
        """

        def tell(notice: Notice) -> None:
            self.tell(replace(notice, stream=whose))

        tables, folder = self.settings.enrichment.tables, self.settings.tables_folder / copies
        return Enrichments(names, tables, folder, tell, stateful)

    def status_board(self, names: Sequence[str]) -> StatusBoard:
        """The live status of a run that reads these streams."""
        settings = self.settings
        return StatusBoard(
            settings.pipeline,
            settings.site,
            self.clock,
            partial(self.store.statuses.write, settings.pipeline),
            {name: is_kafka(settings.spool_url(name)) for name in names},
        )

    def open_routes(self) -> Dispatcher:
        """Begin to send what waits for the routes."""
        routes = [route for route in self.settings.routes if route.enabled]
        self.store.outbox.set_routes([route.name for route in routes])
        deliveries = [open_delivery(route, self.settings.kafka) for route in routes]
        dispatcher = Dispatcher(self.store.outbox.of(self.settings.pipeline), deliveries, report=_report)
        dispatcher.start()
        self._stack.callback(dispatcher.stop)
        return dispatcher

    def open_maintenance(self) -> None:
        """The lake's maintenance, and the metrics endpoint if there is to be one."""
        settings = self.settings
        self._maintenance = Maintenance(open_lake(settings), settings.lake, settings.site)
        self._stack.callback(self._maintenance.close)
        if settings.metrics.port is not None:
            self._stack.enter_context(metrics.serve(settings.metrics.port, settings.metrics.host))

    def tell(self, notice: Notice) -> None:
        """Write an alert of hackwatch about itself; may be called by any thread."""
        alert = notice.alert(self.clock.wall(), self.settings.site)
        _LOG.warning(notice.title, extra={"detail": notice.detail})
        try:
            self.store.checkpoints.log_batches(self.settings.pipeline, (), [alert], ())
        except HackwatchError as error:
            _LOG.error("alert not stored", extra={"error": str(error)})

    @contextmanager
    def housekeeping(self, more: Callable[[], object]) -> Iterator[None]:
        """What is done every few seconds beside the engine, in a thread.

        `more`: what else there is to do.
        """
        done = threading.Event()

        def work() -> None:
            said = False
            while not done.wait(EVERY_SECONDS):
                try:
                    self._once()
                    more()
                    said = False
                except HackwatchError as error:
                    if not said:
                        _LOG.warning("housekeeping failed", extra={"error": str(error)})
                    said = True

        thread = threading.Thread(target=work, name="housekeeping", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _once(self) -> None:
        pipeline = self.settings.pipeline
        self._maintenance.run_due(self.clock.monotonic())
        self._hold.renew()
        for route, counts in self.store.outbox.counts(pipeline).items():
            metrics.set_route_pending(route, counts["waiting"])
        now = self.clock.wall()
        before = now - self.settings.store.retention_days * DAY
        self.store.retention.prune(
            windows_before=before, alerts_before=before, outbox_before=before, pipeline=pipeline, now=now
        )


def _check_kind(checkpoints: CheckpointStore, settings: Settings, kind: Kind) -> None:
    """The engines count positions each in its own way: one could not go on where the other one was."""
    pipeline = settings.pipeline
    queries = any(checkpoints.latest(f"{pipeline}/{name}") is not None for name in settings.streams)
    if kind == "embedded" and queries:
        raise ConfigurationError(
            f"the pipeline {pipeline!r} of this store is run on Spark",
            where="pipeline",
            next_step="go on with --engine spark; or give this engine another name, such as pipeline = "
            '"embedded": it reads the topics from their start',
        )
    if kind == "spark" and checkpoints.latest(pipeline) is not None:
        raise ConfigurationError(
            f"the pipeline {pipeline!r} of this store is run by the embedded engine",
            where="pipeline",
            next_step='give the run on Spark another name, such as pipeline = "spark": it reads the topics from their '
            "start; or go on with --engine embedded",
        )


def _report(route: str, sent: int, failed: int, dead: int) -> None:
    metrics.add_route(route, sent=sent, failed=failed, dead=dead)
