"""What goes on around an engine of either kind: store, alert routes, the lake's maintenance, metrics."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from hackwatch import metrics
from hackwatch.alerts.system import Notice
from hackwatch.clock import Clock
from hackwatch.config import Settings
from hackwatch.errors import HackwatchError
from hackwatch.lake import open_lake
from hackwatch.lake.background import Maintenance
from hackwatch.routes import Dispatcher, open_delivery
from hackwatch.store import open_store

__all__ = ["Housekeeping"]

_LOG = logging.getLogger(__name__)
EVERY_SECONDS = 5.0
DAY = 86_400.0


class Housekeeping:
    """Opens the store for this pipeline alone, and the rest when its engine asks for it.

    Everything is closed through `stack`, in the opposite order.
    """

    def __init__(self, settings: Settings, clock: Clock, stack: ExitStack) -> None:
        self.settings, self.clock, self._stack = settings, clock, stack
        self.store = stack.enter_context(open_store(settings.store_url, site=settings.site))
        self._hold = stack.enter_context(self.store.locks.hold(settings.pipeline))

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
    def beside(self, more: Callable[[], object]) -> Iterator[None]:
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


def _report(route: str, sent: int, failed: int, dead: int) -> None:
    metrics.add_route(route, sent=sent, failed=failed, dead=dead)
