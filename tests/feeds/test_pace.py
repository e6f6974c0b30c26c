"""Waiting and rates of feeds."""

from __future__ import annotations

import threading

import pytest

from hackwatch.feeds.pace import Rate, wait_until
from hackwatch.testing import FakeClock


def test_waiting_ends_at_the_time_or_when_stopped() -> None:
    clock, stop = FakeClock(), threading.Event()
    assert wait_until(clock, stop, 3.0)
    assert clock.monotonic() == pytest.approx(3.0)
    assert wait_until(clock, stop, 1.0), "a time that has passed needs no waiting"
    stop.set()
    assert not wait_until(clock, stop, 9.0)
    assert clock.monotonic() == pytest.approx(3.0)


def test_a_long_wait_looks_at_stop_many_times_a_second() -> None:
    clock = FakeClock()
    wait_until(clock, threading.Event(), 10.0)
    assert max(clock.sleeps) <= 0.1


@pytest.mark.parametrize("batch", [1, 10, 250])
def test_a_rate_is_held_on_average(batch: int) -> None:
    clock, stop = FakeClock(), threading.Event()
    rate = Rate(clock, 100.0)
    for _ in range(1000 // batch):
        assert rate.take(batch, stop)
    rate.take(0, stop)
    assert clock.monotonic() == pytest.approx(10.0)


def test_lost_time_is_made_up_for_a_second_at_most() -> None:
    clock, stop = FakeClock(), threading.Event()
    rate = Rate(clock, 100.0)
    clock.advance(60.0)
    for _ in range(300):
        rate.take(1, stop)
    assert clock.monotonic() == pytest.approx(62.0, abs=0.1)
