"""What ends a command that goes on until it is told to stop."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from hackwatch.cli.feeding import stopped_by_signals

pytestmark = pytest.mark.usefixtures("minds_hanging_up")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_stops_it(number: signal.Signals) -> None:
    with stopped_by_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.wait(10)


def test_a_signal_that_comes_while_the_event_is_locked_stops_it_too() -> None:
    """As in the moment in which whoever waits for the event wakes up: its lock can be had once only."""
    with stopped_by_signals() as stop:
        with stop._cond:  # type: ignore[attr-defined]  # what Event.wait holds
            signal.raise_signal(signal.SIGTERM)
        assert stop.wait(10)


def test_a_second_ctrl_c_does_not_wait() -> None:
    with stopped_by_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.wait(10)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_it_stops_after_its_time() -> None:
    with stopped_by_signals(0.05) as stop:
        assert stop.wait(10)


def test_afterwards_all_is_as_before() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before, threads = [signal.getsignal(number) for number in numbers], set(threading.enumerate())
    with stopped_by_signals(60):
        assert {thread.name for thread in set(threading.enumerate()) - threads} >= {"signals"}
    assert [signal.getsignal(number) for number in numbers] == before
    until = time.monotonic() + 10
    while set(threading.enumerate()) - threads and time.monotonic() < until:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= threads
