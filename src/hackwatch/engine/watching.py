"""The registry seen from an engine when it is not on this machine: asked by a thread, so that scoring never waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from hackwatch.config import Settings
from hackwatch.detect.base import Detector
from hackwatch.detect.registry import Registry, open_registry
from hackwatch.engine.models import BundleSource
from hackwatch.errors import EnvironmentError_, HackwatchError
from hackwatch.objects import is_remote

__all__ = ["LEAST_SECONDS", "WatchedRegistry", "open_bundles"]

_LOG = logging.getLogger(__name__)
#: A server is not asked more often than this, whatever `engine.reload_seconds` says.
LEAST_SECONDS = 1.0


def open_bundles(settings: Settings, names: Sequence[str], stack: ExitStack) -> BundleSource:
    """The registry for an engine: a folder is asked directly, a server by a thread that ends with `stack`."""
    registry = open_registry(settings)
    if not is_remote(settings.models_location):
        return registry
    watched = WatchedRegistry(registry, names, settings.engine.reload_seconds)
    stack.callback(watched.close)
    watched.start()
    return watched


class WatchedRegistry:
    """What `engine.models.Models` asks: answers at once, with what the thread saw last.

    A new version is named only when its files are on this machine. While the server is away the last known versions
    stay in use, and `current` raises why nothing newer is seen. An engine that starts then uses the copies that this
    machine has, however long after the start it first asks.
    """

    def __init__(self, registry: Registry, streams: Sequence[str], seconds: float) -> None:
        self._registry, self._streams = registry, tuple(streams)
        self._seconds = max(seconds, LEAST_SECONDS)
        self._known: dict[str, str | None] = {}
        self._named: dict[str, str | None] = {}
        self._problems: dict[str, HackwatchError] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="registry", daemon=True)

    def start(self) -> None:
        """Look for the first time, then go on in the background."""
        for stream in self._streams:
            self._look(stream)
            if isinstance(self._problems.get(stream), EnvironmentError_):
                self._remember(stream)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        if self._thread.ident is not None:
            # It may wait for an answer that does not come; the end of an engine shall not.
            self._thread.join(1.0)

    def current(self, stream: str) -> str | None:
        """The version to use; raises why the registry cannot be asked, once what is known was named."""
        known, problem = self._known.get(stream), self._problems.get(stream)
        if problem is not None and known == self._named.get(stream):
            raise problem
        self._named[stream] = known
        return known

    def load(self, stream: str, version: str) -> Detector:
        return self._registry.load(stream, version)

    def _watch(self) -> None:
        while not self._end.wait(self._seconds):
            for stream in self._streams:
                self._look(stream)

    def _look(self, stream: str) -> None:
        try:
            version = self._registry.current(stream)
            if version is not None and version != self._known.get(stream):
                self._registry.fetch(stream, version)
        except HackwatchError as error:
            self._problems[stream] = error
        else:
            self._known[stream] = version
            self._problems.pop(stream, None)

    def _remember(self, stream: str) -> None:
        """Take the version that was current when this machine last saw the registry, until it can be asked again."""
        with suppress(HackwatchError):
            version = self._registry.remembered(stream)
            if version is not None:
                self._known[stream] = version
                _LOG.warning("registry away: going on with the copy", extra={"model": version})
                del self._problems[stream]
