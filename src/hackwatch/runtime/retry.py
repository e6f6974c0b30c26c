"""Waiting out a disk that is full or a file that cannot be written: nothing is dropped, reading pauses."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hackwatch.clock import Clock
from hackwatch.errors import ResourceError

__all__ = ["Retry", "Stopped"]

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0


class Stopped(Exception):
    """The engine was asked to stop while it waited; what is not committed will be read again."""


class Retry:
    """Runs an action until it succeeds, waiting longer each time, and says why it waits."""

    def __init__(self, clock: Clock, stop: threading.Event, report: Callable[[str | None], None]) -> None:
        self._clock, self._stop, self._report = clock, stop, report
        self._lock = threading.Lock()
        self._waiting: dict[int, str] = {}

    def __call__(self, what: str, action: Callable[[], object]) -> None:
        wait, waited = FIRST_WAIT, False
        while True:
            try:
                action()
            except ResourceError as error:
                if not error.passing:
                    raise
                self._say(f"{what}: {error.what}")
                if self._stop.is_set():
                    raise Stopped(str(error)) from error
                waited = True
                self._sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)
            else:
                if waited:
                    self._say(None)
                return

    def _say(self, why: str | None) -> None:
        """Tell why this thread waits; if it no longer does, why another one still waits."""
        with self._lock:
            if why is None:
                self._waiting.pop(threading.get_ident(), None)
            else:
                self._waiting[threading.get_ident()] = why
            shown = why or next(iter(self._waiting.values()), None)
        self._report(shown)

    def _sleep(self, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while not self._stop.is_set() and (left := until - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, FIRST_WAIT))
