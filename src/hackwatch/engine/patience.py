"""Waiting out a disk that is full or a file that cannot be written: nothing is dropped, reading pauses."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hackwatch.clock import Clock
from hackwatch.errors import EnvironmentError_

__all__ = ["Patience", "Stopped"]

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0


class Stopped(Exception):
    """The engine was asked to stop while it waited; what is not committed will be read again."""


class Patience:
    """Runs an action until it succeeds, waiting longer each time, and says why it waits."""

    def __init__(self, clock: Clock, stop: threading.Event, report: Callable[[str | None], None]) -> None:
        self._clock, self._stop, self._report = clock, stop, report

    def __call__(self, what: str, action: Callable[[], object]) -> None:
        wait, waited = FIRST_WAIT, False
        while True:
            try:
                action()
            except EnvironmentError_ as error:
                self._report(f"{what}: {error.what}")
                if self._stop.is_set():
                    raise Stopped(str(error)) from error
                waited = True
                self._clock.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)
            else:
                if waited:
                    self._report(None)
                return
