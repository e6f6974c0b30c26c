"""The registry as an engine asks it: one of another machine through a thread, so that scoring never waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Protocol

from hackwatch.config import Settings
from hackwatch.detect.detector import Detector
from hackwatch.detect.panel import CHAMPION
from hackwatch.detect.registry import Registry, open_registry
from hackwatch.errors import HackwatchError, ResourceError
from hackwatch.objects import is_remote
from hackwatch.runtime.options import roles_of

__all__ = ["LEAST_SECONDS", "BundleSource", "WatchedRegistry", "open_bundles"]

_LOG = logging.getLogger(__name__)
#: A server is not asked more often than this, whatever `engine.reload_seconds` says.
LEAST_SECONDS = 1.0


class BundleSource(Protocol):
    """Where an engine asks for bundles: the registry, or what watches it."""

    def current(self, stream: str, role: str = CHAMPION) -> str | None:
        """The version that the pointer of a role names; None without one.

        Cheap: asked for every role about once a second, by the thread that takes micro-batches. Raises HackwatchError
        or OSError if the pointer cannot be read; what is in use stays.
        """
        ...

    def load(self, stream: str, version: str) -> Detector:
        """Load a version, checked: files, schema, canary. Raises HackwatchError.

        By the same thread, once for each version that was not refused before.
        """
        ...


def open_bundles(settings: Settings, names: Sequence[str], stack: ExitStack) -> BundleSource:
    """The registry for an engine: a folder is asked directly, a server by a thread that ends with `stack`."""
    registry = open_registry(settings)
    if not is_remote(settings.models_location):
        return registry
    watched = WatchedRegistry(registry, names, settings.engine.reload_seconds, roles_of(settings))
    stack.callback(watched.close)
    watched.start()
    return watched


class WatchedRegistry:
    """A BundleSource that answers at once, with what its thread saw last.

    A new version is named only when its files are on this machine. While the server is away the last known versions
    stay in use, and `current` raises why nothing newer is seen. An engine that starts then uses the copies that this
    machine has, however long after the start it first asks.
    """

    def __init__(
        self,
        registry: Registry,
        streams: Sequence[str],
        seconds: float,
        roles: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._registry = registry
        self._seats = [(stream, role) for stream in streams for role in (CHAMPION, *(roles or {}).get(stream, ()))]
        self._seconds = max(seconds, LEAST_SECONDS)
        self._known: dict[tuple[str, str], str | None] = {}
        self._named: dict[tuple[str, str], str | None] = {}
        self._problems: dict[tuple[str, str], HackwatchError] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="registry", daemon=True)

    def start(self) -> None:
        """Look for the first time, then go on in the background."""
        for seat in self._seats:
            self._look(seat)
            if isinstance(self._problems.get(seat), ResourceError):
                self._remember(seat)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        if self._thread.ident is not None:
            # It may wait for an answer that does not come; the end of an engine shall not.
            self._thread.join(1.0)

    def current(self, stream: str, role: str = CHAMPION) -> str | None:
        """The version to use; raises why the registry cannot be asked, once what is known was named."""
        seat = stream, role
        known, problem = self._known.get(seat), self._problems.get(seat)
        if problem is not None and known == self._named.get(seat):
            raise problem
        self._named[seat] = known
        return known

    def load(self, stream: str, version: str) -> Detector:
        return self._registry.load(stream, version)

    def _watch(self) -> None:
        while not self._end.wait(self._seconds):
            for seat in self._seats:
                self._look(seat)

    def _look(self, seat: tuple[str, str]) -> None:
        try:
            version = self._registry.current(*seat)
            if version is not None and version != self._known.get(seat):
                self._registry.fetch(seat[0], version)
        except HackwatchError as error:
            self._problems[seat] = error
        else:
            self._known[seat] = version
            self._problems.pop(seat, None)

    def _remember(self, seat: tuple[str, str]) -> None:
        """Take the version that was current when this machine last saw the registry, until it can be asked again."""
        with suppress(HackwatchError):
            version = self._registry.remembered(*seat)
            if version is not None:
                self._known[seat] = version
                _LOG.warning("registry away: going on with the copy", extra={"model": version})
                del self._problems[seat]
