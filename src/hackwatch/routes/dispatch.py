"""The outbox at work: every stored message goes to its route at least once, or is given up visibly."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hackwatch.alerts.alert import SEVERITIES, Alert, Severity
from hackwatch.clock import Clock, SystemClock
from hackwatch.errors import HackwatchError
from hackwatch.log import logger
from hackwatch.routes.route import DeliveryError, Route

__all__ = ["Delivery", "Dispatcher", "Message", "Outbox", "Worker", "backoff"]

_log = logger("routes")
_AT_ONCE = 16
_FIRST_SECONDS, _LONGEST_SECONDS, _LONGEST_PAUSE = 1.0, 3600.0, 60.0


class Message(Protocol):
    """One alert for one route, as the outbox gives it: it does not change."""

    @property
    def id(self) -> int:
        """By which the outbox knows it."""
        ...

    @property
    def attempts(self) -> int:
        """How many have failed so far."""
        ...

    @property
    def alert(self) -> Alert:
        """As it was first raised."""
        ...


class Outbox(Protocol):
    """What the dispatcher needs of the store. Times are Unix seconds UTC.

    Every method is called by the threads of the routes, one each, and is one transaction that happens or does not.
    Each raises ResourceError (disk full, a server that is away: the thread looks again at its next turn) and
    DataError (the store is damaged).
    """

    def due(self, now: float, limit: int = 100, *, route: str | None = None) -> Sequence[Message]:
        """Messages of a route whose time has come, the longest due first. Asked at every turn of the route's thread."""
        ...

    def done(self, message_id: int, *, now: float) -> None:
        """The route has taken the message. Said after it was sent: a crash in between sends it again."""
        ...

    def failed(self, message_id: int, error: str, retry_at: float | None) -> None:
        """The route has not taken it: again at `retry_at`, or given up (None)."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """A route, and when to give up: after so many attempts, or once the alert is so old.

    Alerts below `minimum_severity` count as done without being sent.
    """

    route: Route
    max_attempts: int = 20
    max_age_seconds: float = 7 * 86400.0
    minimum_severity: Severity = "informational"


def backoff(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures: 1, 2, 4 ... 3600, of which a chance in [0, 1) takes up to half.

    >>> [backoff(failures, 0.0) for failures in (1, 2, 5, 50)]
    [1.0, 2.0, 16.0, 3600.0]
    >>> backoff(2, 0.5)
    1.5
    """
    return min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(failures - 1, 32)) * (1 - chance / 2)


class Worker:
    """Sends the messages of one route, a few at a time, each `step` one try.

    After a failure the route rests (up to a minute, longer if the receiver asks), and the message that failed
    waits longer with each attempt, so that one bad message does not stop the others.
    """

    def __init__(
        self,
        outbox: Outbox,
        delivery: Delivery,
        clock: Clock,
        chance: Callable[[], float],
        report: Callable[[str, int, int, int], None],
    ) -> None:
        self._outbox, self._delivery, self._clock = outbox, delivery, clock
        self._chance, self._report = chance, report
        self._failures, self._rest_until = 0, clock.monotonic()
        self._floor = SEVERITIES.index(delivery.minimum_severity)

    @property
    def name(self) -> str:
        return self._delivery.route.name

    def step(self) -> bool:
        """Try what is due; True if there may be more at once."""
        if self._clock.monotonic() < self._rest_until:
            return False
        due = self._outbox.due(self._clock.wall(), _AT_ONCE, route=self.name)
        for message in due:
            if not self._wanted(message):
                self._outbox.done(message.id, now=self._clock.wall())
        wanted = [message for message in due if self._wanted(message)]
        delivered, error = self._send(wanted)
        for message in wanted[:delivered]:
            self._outbox.done(message.id, now=self._clock.wall())
        if delivered:
            self._failures = 0
        dead = error is not None and self._failed(wanted[delivered], error)
        self._report(self.name, delivered, int(error is not None and not dead), int(dead))
        return len(due) == _AT_ONCE or (dead and len(wanted) > delivered + 1)

    def _wanted(self, message: Message) -> bool:
        return SEVERITIES.index(message.alert.severity) >= self._floor

    def _send(self, messages: Sequence[Message]) -> tuple[int, DeliveryError | None]:
        """How many were delivered, and what stopped the next one."""
        if not messages:
            return 0, None
        try:
            self._delivery.route.send([message.alert for message in messages])
        except DeliveryError as error:
            return min(error.delivered, len(messages) - 1), error
        except Exception as error:  # a third party's route may fail in any way; its thread must not
            _log.exception("route failed unexpectedly", extra={"route": self.name})
            return 0, DeliveryError(f"{type(error).__name__}", where=f"route {self.name}")
        return len(messages), None

    def _failed(self, message: Message, error: DeliveryError) -> bool:
        """Set the message to be tried again, or give it up: True."""
        now, attempts = self._clock.wall(), message.attempts + 1
        too_old = now - message.alert.created > self._delivery.max_age_seconds
        dead = error.permanent or too_old or attempts >= self._delivery.max_attempts
        wait = max(backoff(attempts, self._chance()), error.retry_after or 0.0)
        self._outbox.failed(message.id, str(error), None if dead else now + wait)
        if not error.permanent:
            self._failures += 1
            rest = min(backoff(self._failures, self._chance()), _LONGEST_PAUSE)
            self._rest_until = self._clock.monotonic() + max(rest, error.retry_after or 0.0)
        fields = {"route": self.name, "alert": message.alert.id, "attempt": attempts, "error": error.what}
        _log.log(40 if dead else 30, "alert given up" if dead else "alert not delivered", extra=fields)
        return dead


class Dispatcher:
    """A thread for each route, so that a slow or dead one holds up no other.

    `report(route, sent, failed, dead)` is called from these threads. `wake` makes them look at once instead of
    at the next poll: call it when alerts were stored.
    """

    def __init__(
        self,
        outbox: Outbox,
        deliveries: Iterable[Delivery],
        *,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
        report: Callable[[str, int, int, int], None] = lambda route, sent, failed, dead: None,
        poll_seconds: float = 1.0,
    ) -> None:
        clock = clock or SystemClock()
        self._poll_seconds = poll_seconds
        self._stopping = threading.Event()
        self._deliveries = tuple(deliveries)
        self._lanes = [
            _Lane(Worker(outbox, delivery, clock, chance, report), threading.Event()) for delivery in self._deliveries
        ]
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin; what was left in the outbox goes first."""
        for lane in self._lanes:
            # Daemons: a receiver that hangs must not keep the program from ending.
            name = f"route-{lane.worker.name}"
            self._threads.append(threading.Thread(target=self._run, args=(lane,), name=name, daemon=True))
            self._threads[-1].start()

    def wake(self) -> None:
        for lane in self._lanes:
            lane.wake.set()

    def stop(self, timeout: float = 5.0) -> bool:
        """End after the attempts under way; False if one still hangs. What is unsent waits in the outbox."""
        self._stopping.set()
        self.wake()
        for thread in self._threads:
            thread.join(timeout)
        ended = not any(thread.is_alive() for thread in self._threads)
        if ended:
            for delivery in self._deliveries:
                delivery.route.close()
        return ended

    def _run(self, lane: _Lane) -> None:
        said = False  # of a store that is away: once, not at every try
        while not self._stopping.is_set():
            lane.wake.clear()
            try:
                more = lane.worker.step()
                said = False
                if more:
                    continue
            except HackwatchError as error:
                if not said:
                    _log.error("outbox cannot be used", extra={"route": lane.worker.name, "error": str(error)})
                said = True
            lane.wake.wait(self._poll_seconds)


@dataclass(frozen=True, slots=True, eq=False)
class _Lane:
    worker: Worker
    wake: threading.Event
