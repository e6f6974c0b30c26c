"""What the driver does round by round beside Spark's queries, and how it counts engine time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from hackwatch.clock import Clock

__all__ = ["EngineTime", "Rounds"]

#: Engine time never grows by more than this between two looks (and the time that is waited in between): a driver that
#: was stopped, or waited for a disk or for Spark, must not find all sources idle.
LONGEST_STEP = 1.0

Progress = dict[str, Any]


class EngineTime:
    """The engine time of one query, in seconds: it grows while the query looks for messages, also across restarts."""

    def __init__(self, clock: Clock, elapsed: float, waits: float) -> None:
        """`elapsed`: of the run before; `waits`: seconds between two looks."""
        self._clock, self._longest = clock, LONGEST_STEP + waits
        self._elapsed, self._ticked = elapsed, clock.monotonic()

    def tick(self) -> float:
        """The engine time now."""
        now = self._clock.monotonic()
        self._elapsed += min(max(now - self._ticked, 0.0), self._longest)
        self._ticked = now
        return self._elapsed


class Rounds:
    """One round after the other, in a thread; as far as the service asks, it looks like a query of Spark."""

    def __init__(
        self, name: str, one_round: Callable[[], bool], seconds: float, *,
        progress: Callable[[], Progress | None] = lambda: None, close: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`one_round`: do what there is to do, False if it was nothing. `close`: at the end."""
        self._name, self._round, self._seconds = name, one_round, seconds
        self._progress, self._close = progress, close
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None

    def start(self, *, available_now: bool) -> None:
        """Go on until stopped, every so many seconds; with `available_now` without a pause until nothing is left."""
        self._thread = threading.Thread(target=self._work, args=(available_now,), name=self._name, daemon=True)
        self._thread.start()

    def _work(self, available_now: bool) -> None:
        try:
            while not self._stop.is_set():
                worked = self._round()
                if available_now and not worked:
                    return
                self._stop.wait(0.0 if available_now else self._seconds)
        except Exception as error:  # to be asked for, as a query of Spark is
            self._failure = error

    @property
    def isActive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def exception(self) -> Exception | None:
        return self._failure

    @property
    def lastProgress(self) -> Progress | None:
        return self._progress()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._close()
