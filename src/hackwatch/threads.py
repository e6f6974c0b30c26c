"""Threads of one process that work together and stop together."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Cancelled", "ThreadGroup"]

_SLICE = 0.2


class Cancelled(Exception):
    """Work was given up because everything stops."""


class ThreadGroup:
    """Functions in threads; `stop` is set as soon as one of them fails, so that the others end too."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self, name: str, work: Callable[[], object]) -> None:
        """Run `work` in a thread of its own. It has to end soon after `stop` is set."""

        def guarded() -> None:
            try:
                work()
            except Cancelled:
                pass
            except BaseException as error:  # whatever it is, join() raises it where it can be handled
                self._errors.append(error)
                self.stop.set()

        # A daemon, so that a second Ctrl-C ends the process at once.
        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Wait until all have ended, then raise the first error, if there was one."""
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_SLICE)
        if self._errors:
            raise self._errors[0]
