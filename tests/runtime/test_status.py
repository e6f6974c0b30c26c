"""The live status: what engines tell is put together and published, whatever the disk and the brokers do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest

from hackwatch.config import AlertSettings
from hackwatch.counts import COUNTERS, Counts
from hackwatch.errors import ResourceError
from hackwatch.pipeline.options import StreamOptions
from hackwatch.pipeline.streamstate import StreamState
from hackwatch.runtime.status import StatusBoard
from hackwatch.testing import FakeClock
from tests.clients import LOGINS, REQUESTS

START = 1_700_000_000.0


class Board:
    """A board of two streams with what it published; `full`: the disk refuses."""

    def __init__(self) -> None:
        self.clock, self.published, self.full = FakeClock(START), list[Mapping[str, Any]](), False
        self.board = StatusBoard("main", "berlin", self.clock, self._take, {"requests": False, "logins": True})

    def _take(self, status: Mapping[str, Any]) -> None:
        if self.full:
            raise ResourceError("no space left on device")
        self.published.append(status)

    def say(self, seconds: float, **counts: int) -> Mapping[str, Any]:
        """After so many seconds `requests` has these totals, and all is published."""
        self.clock.advance(seconds)
        state = StreamState(REQUESTS, StreamOptions(), AlertSettings())
        self.board.stands("requests", Counts(**counts), None, state)
        self.board.publish()
        return self.published[-1]


def test_totals_rates_and_times() -> None:
    one = Board()
    one.board.recovered(4)
    one.say(1, records=100)
    one.board.committed(5, 0.2)
    told = one.say(2, records=300, late=7)
    assert (told["pipeline"], told["site"], told["state"], told["started"]) == ("main", "berlin", "running", START)
    assert (told["epoch"], told["epoch_age"], told["updated"]) == (5, 2.0, START + 3)
    assert told["rate"] == told["streams"]["requests"]["rate"] == 100.0
    assert {name: told["streams"]["requests"][name] for name in COUNTERS if name in ("records", "late")} == {
        "records": 300, "late": 7,
    }  # fmt: skip
    assert told["streams"]["logins"]["records"] == 0


def test_the_rate_is_that_of_the_last_publications() -> None:
    one = Board()
    for total in (0, 1000, 1000, 1000, 1000, 1000):
        one.say(1, records=total)
    assert one.say(1, records=1010)["rate"] == 2.0, "what came before the last five is forgotten"


@pytest.mark.parametrize(("stream", "bytes_", "messages"), [("requests", 30, 0), ("logins", 0, 30)])
def test_lag_is_in_what_the_topic_counts(stream: str, bytes_: int, messages: int) -> None:
    one = Board()
    one.board.lags(stream, {0: 10, 1: 20}, partitions=2)
    told = one.say(1)["streams"][stream]
    assert (told["lag_bytes"], told["lag_messages"], told["partitions"]) == (bytes_, messages, 2)


def test_an_engine_that_waits_says_again_what_it_last_knew() -> None:
    one = Board()
    one.say(1, records=50)
    one.board.recovered(0)
    before = one.say(1, records=100)
    one.clock.advance(30)
    one.board.paused("lake: no space left")
    now = one.published[-1]
    assert now["state"] == "paused: lake: no space left"
    assert now["updated"] == before["updated"] + 30
    assert (now["rate"], now["streams"]) == (before["rate"], before["streams"])
    one.board.paused(None)
    assert one.published[-1]["state"] == "running"


def test_a_disk_that_is_full_stops_the_status_and_nothing_else() -> None:
    one = Board()
    first = one.say(1, records=1)
    one.full = True
    assert one.say(1, records=2) is first
    one.board.paused("store: no space left")
    one.full = False
    assert one.say(1, records=3)["streams"]["requests"]["records"] == 3


@pytest.mark.parametrize("counted", [False, True], ids=["rows", "counted already"])
def test_arrivals_of_each_entity(counted: bool) -> None:
    one = Board()
    if counted:
        one.board.saw_counted("logins", {"a": (2, 1), "b": (1, 0)})
    else:
        rows = pl.Series(["a", "b", "a"]), pl.Series([1, 0, 0])
        one.board.saw("logins", *rows, one.clock.wall())
    told = one.say(3)["streams"][LOGINS.name]
    assert {name: sum(ring) for name, ring in told["arrivals"].items()} == {"a": 2, "b": 1}
    assert {name: sum(ring) for name, ring in told["suspect_arrivals"].items()} == {"a": 1, "b": 0}
    assert one.say(200)["streams"][LOGINS.name]["arrivals"] == {}, "after two minutes of silence"
