"""The outbox at work: everything is sent at least once or given up visibly, and no route holds up another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hackwatch.alerts.alert import SEVERITIES, Alert
from hackwatch.errors import ResourceError
from hackwatch.routes import Delivery, DeliveryError, Dispatcher
from hackwatch.routes.dispatch import Worker, backoff
from hackwatch.store import Store, open_store
from hackwatch.testing import FakeClock
from tests.routes.support import HttpReceiver, alert, eventually, route_of

START = 1_700_000_100.0


@dataclass
class ScriptedRoute:
    """Fails as told: an exception, or None for success, one for each call; then succeeds."""

    script: list[BaseException | None] = field(default_factory=list)
    name: str = "r"
    sent: list[str] = field(default_factory=list)
    calls: int = 0
    closed: bool = False

    def send(self, alerts: Sequence[Alert]) -> None:
        self.calls += 1
        outcome = self.script.pop(0) if self.script else None
        delivered = outcome.delivered if isinstance(outcome, DeliveryError) else 0 if outcome else len(alerts)
        self.sent += [each.id for each in alerts[:delivered]]
        if outcome:
            raise outcome

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store.sqlite") as store:
        store.outbox.set_routes(["r", "other"])
        yield store


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


def ids(*numbers: int) -> list[str]:
    return [alert(number).id for number in numbers]


def worker(store: Store, route: ScriptedRoute, clock: FakeClock, **policy: Any) -> tuple[Worker, list[Any]]:
    reports: list[Any] = []
    return Worker(store.outbox, Delivery(route, **policy), clock, lambda: 0.0, lambda *r: reports.append(r)), reports


def run_for(worker: Worker, clock: FakeClock, seconds: int) -> None:
    for _ in range(seconds):
        while worker.step():
            pass
        clock.advance(1.0)


def counts(store: Store, waiting: int, done: int, failed: int) -> bool:
    return store.outbox.counts()["r"] == {"waiting": waiting, "done": done, "failed": failed}


def test_what_is_stored_is_sent_once_and_in_order(store: Store, clock: FakeClock) -> None:
    store.checkpoints.log_batches("main", [], [alert(number) for number in range(1, 40)])
    route = ScriptedRoute()
    sending, reports = worker(store, route, clock)
    run_for(sending, clock, 3)
    assert route.sent == ids(*range(1, 40))
    assert counts(store, 0, 39, 0)
    assert sum(report[1] for report in reports) == 39
    assert {report[0] for report in reports} == {"r"}


def test_a_failure_rests_the_route_and_delays_the_message(store: Store, clock: FakeClock) -> None:
    store.checkpoints.log_batches("main", [], [alert(1), alert(2), alert(3)])
    route = ScriptedRoute([DeliveryError("down", delivered=1)])
    sending, reports = worker(store, route, clock)
    assert not sending.step()
    assert route.sent == ids(1)
    assert counts(store, 2, 1, 0)
    assert reports == [("r", 1, 1, 0)]
    assert not sending.step()
    assert route.calls == 1, "the route rests"
    run_for(sending, clock, 3)
    assert route.sent == ids(1, 3, 2), "what failed waits longer than what was not tried"
    assert counts(store, 0, 3, 0)


def test_a_message_that_cannot_be_delivered_is_given_up_and_the_others_go_on(store: Store, clock: FakeClock) -> None:
    store.checkpoints.log_batches("main", [], [alert(1), alert(2)])
    route = ScriptedRoute([DeliveryError("refused", permanent=True)])
    sending, reports = worker(store, route, clock)
    assert sending.step()
    sending.step()
    assert route.sent == ids(2)
    assert counts(store, 0, 1, 1)
    assert reports[0] == ("r", 0, 0, 1)


def test_after_so_many_attempts_a_message_is_dead(store: Store, clock: FakeClock) -> None:
    store.checkpoints.log_batches("main", [], [alert(1)])
    route = ScriptedRoute([DeliveryError("down")] * 9)
    sending, _ = worker(store, route, clock, max_attempts=4)
    run_for(sending, clock, 30)
    assert route.calls == 4
    assert counts(store, 0, 0, 1)


def test_after_so_long_a_message_is_dead(store: Store, clock: FakeClock) -> None:
    store.checkpoints.log_batches("main", [], [alert(1, created=START - 7200)])
    sending, _ = worker(store, ScriptedRoute([DeliveryError("down")]), clock, max_age_seconds=3600)
    sending.step()
    assert counts(store, 0, 0, 1)


def test_attempts_come_ever_less_often(store: Store, clock: FakeClock) -> None:
    store.checkpoints.log_batches("main", [], [alert(1, created=START)])
    route = ScriptedRoute([DeliveryError("down")] * 100)
    sending, _ = worker(store, route, clock, max_attempts=100)
    at: list[int] = []
    for second in range(200):
        before = route.calls
        sending.step()
        at += [second] * (route.calls - before)
        clock.advance(1.0)
    assert at == [0, 1, 3, 7, 15, 31, 63, 127]


def test_the_receiver_may_ask_for_a_longer_rest(store: Store, clock: FakeClock) -> None:
    store.checkpoints.log_batches("main", [], [alert(1), alert(2)])
    route = ScriptedRoute([DeliveryError("busy", retry_after=90.0)])
    sending, _ = worker(store, route, clock)
    run_for(sending, clock, 89)
    assert route.calls == 1
    run_for(sending, clock, 3)
    assert sorted(route.sent) == ids(1, 2)


def test_a_route_that_raises_anything_is_tried_again(store: Store, clock: FakeClock) -> None:
    store.checkpoints.log_batches("main", [], [alert(1)])
    route = ScriptedRoute([RuntimeError("a bug of a third party")])
    sending, _ = worker(store, route, clock)
    run_for(sending, clock, 3)
    assert route.sent == ids(1)


def test_a_crash_between_sending_and_noting_sends_again(store: Store, clock: FakeClock) -> None:
    class Crash(BaseException):
        pass

    class CrashingOutbox:
        due, failed = store.outbox.due, store.outbox.failed

        def done(self, message_id: int, *, now: float) -> None:
            raise Crash

    store.checkpoints.log_batches("main", [], [alert(1)])
    route = ScriptedRoute()
    with pytest.raises(Crash):
        Worker(CrashingOutbox(), Delivery(route), clock, lambda: 0.0, lambda *_: None).step()
    worker(store, route, clock)[0].step()
    assert route.sent == ids(1, 1)
    assert counts(store, 0, 1, 0)


@pytest.mark.parametrize("least", SEVERITIES)
def test_alerts_below_the_least_severity_are_not_sent(store: Store, clock: FakeClock, least: Any) -> None:
    store.checkpoints.log_batches("main", [], [alert(n, severity=severity) for n, severity in enumerate(SEVERITIES)])
    route = ScriptedRoute()
    sending, _ = worker(store, route, clock, minimum_severity=least)
    run_for(sending, clock, 1)
    assert route.sent == ids(*range(SEVERITIES.index(least), len(SEVERITIES)))
    assert counts(store, 0, len(SEVERITIES), 0)


@pytest.mark.parametrize(
    ("failures", "chance", "seconds"),
    [(1, 0.0, 1.0), (1, 0.5, 0.75), (3, 0.0, 4.0), (12, 0.0, 2048.0), (13, 0.0, 3600.0), (10_000, 0.0, 3600.0)],
)
def test_backoff_doubles_to_a_limit_and_varies(failures: int, chance: float, seconds: float) -> None:
    assert backoff(failures, chance) == seconds


def dispatching(store: Store, *routes: Any, report: Callable[..., None] = lambda *_: None) -> Dispatcher:
    deliveries = [Delivery(route, max_age_seconds=float("inf")) for route in routes]
    dispatcher = Dispatcher(store.outbox, deliveries, chance=lambda: 0.99, report=report, poll_seconds=0.02)
    dispatcher.start()
    return dispatcher


def test_a_route_that_hangs_holds_up_no_other(store: Store) -> None:
    release = threading.Event()

    class Hanging(ScriptedRoute):
        def send(self, alerts: Sequence[Alert]) -> None:
            release.wait()
            super().send(alerts)

    store.checkpoints.log_batches("main", [], [alert(1), alert(2)])
    hanging, quick = Hanging(name="other"), ScriptedRoute()
    dispatcher = dispatching(store, hanging, quick)
    assert eventually(lambda: quick.sent == ids(1, 2))
    assert not dispatcher.stop(timeout=0.05)
    assert store.outbox.counts()["other"]["waiting"] == 2
    release.set()
    assert dispatcher.stop()
    assert hanging.closed


def test_waking_sends_at_once(store: Store) -> None:
    route = ScriptedRoute()
    dispatcher = Dispatcher(store.outbox, [Delivery(route)], poll_seconds=60.0)
    dispatcher.start()
    store.checkpoints.log_batches("main", [], [alert(1)])
    dispatcher.wake()
    assert eventually(lambda: route.sent == ids(1), 5.0)
    assert dispatcher.stop()


def test_a_store_in_trouble_does_not_end_the_thread_and_is_told_of_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Troubled:
        done, failed = store.outbox.done, store.outbox.failed
        failures = 5

        def due(self, now: float, limit: int = 100, *, route: str | None = None) -> Any:
            if self.failures:
                self.failures -= 1
                raise ResourceError("the disk is full")
            return store.outbox.due(now, limit, route=route)

    store.checkpoints.log_batches("main", [], [alert(1)])
    route = ScriptedRoute()
    dispatcher = Dispatcher(Troubled(), [Delivery(route)], poll_seconds=0.01)
    dispatcher.start()
    assert eventually(lambda: route.sent == ids(1))
    assert dispatcher.stop()
    assert [record.message for record in caplog.records] == ["outbox cannot be used"]


def test_a_receiver_that_fails_and_restarts_gets_every_alert(store: Store) -> None:
    total = 40
    store.checkpoints.log_batches("main", [], [alert(number) for number in range(total)])
    with HttpReceiver(204, 503, "close") as receiver:
        route = route_of("webhook", url=receiver.url, timeout_seconds=2.0)
        dispatcher = dispatching(store, route)
        assert eventually(lambda: len(receiver.requests) > 10)
        port = receiver.port
    with HttpReceiver(port=port) as again:
        assert eventually(lambda: store.outbox.counts()["r"]["done"] == total, 20.0)
    assert dispatcher.stop()
    seen = [headers["webhook-id"] for _, headers, _ in (*receiver.requests, *again.requests)]
    assert set(seen) == set(ids(*range(total)))


def test_a_restarted_dispatcher_goes_on_where_the_last_one_stopped(store: Store) -> None:
    store.checkpoints.log_batches("main", [], [alert(1), alert(2)])
    down = ScriptedRoute([DeliveryError("down", delivered=1), *([DeliveryError("down")] * 1000)])
    first = dispatching(store, down)
    assert eventually(lambda: down.sent == ids(1))
    assert first.stop()
    up = ScriptedRoute()
    second = dispatching(store, up)
    assert eventually(lambda: up.sent == ids(2))
    assert second.stop()
