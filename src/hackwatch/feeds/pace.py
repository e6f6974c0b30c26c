"""Timing of feeds through seams: waiting that a stop event ends, a steady rate, and how a feed tells its progress."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from hackwatch.clock import Clock

__all__ = ["OnProgress", "Progress", "Rate", "wait_until"]

#: A feed ends at most this many seconds after its stop event was set.
_SLICE = 0.05


@dataclass(frozen=True, slots=True)
class Progress:
    """What a feed has sent since it started; `note` says what a person should know (a rotation, a bad line)."""

    messages: int
    records: int
    bytes: int
    note: str | None = None


OnProgress = Callable[[Progress], None]


def wait_until(clock: Clock, stop: threading.Event, due: float) -> bool:
    """Wait until the monotonic time `due`; False as soon as `stop` is set."""
    while not stop.is_set():
        left = due - clock.monotonic()
        if left <= 0:
            return True
        clock.sleep(min(left, _SLICE))
    return False


class Rate:
    """Hold a feed to so many records a second on average; time lost is made up, but for no more than a second."""

    def __init__(self, clock: Clock, records_per_second: float) -> None:
        self._clock, self._rate = clock, records_per_second
        self._due = clock.monotonic()

    def take(self, records: int, stop: threading.Event) -> bool:
        """Wait until `records` more may be sent; False if the feed is to stop."""
        self._due = max(self._due, self._clock.monotonic() - 1.0)
        go_on = wait_until(self._clock, stop, self._due)
        self._due += records / self._rate
        return go_on
