"""A clock far in the future must not close every window: such records are rejected, alone and with the reason."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from hackwatch.config import StreamSettings
from hackwatch.detect.panel import Panel
from hackwatch.engine.parts import StreamInput
from hackwatch.pipeline.detection import Scored, detect_messages
from hackwatch.streams.stream import DecodeOptions, Messages
from tests.streams.support import record
from tests.third.shop import VISIT

CLOCK, AHEAD = 1_700_000_000.0, 3600.0
REASON = "event time is too far ahead of the clock"


def run(*lines: Any, partition: int = 0, first: int = 100) -> Messages:
    """Messages of one partition, counted as Kafka does."""
    payload = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return Messages("t", partition, payload, np.arange(first, first + len(lines), dtype=np.int64), first + len(lines))


def at(seconds: float, **more: Any) -> dict[str, Any]:
    """A record so many seconds after the clock."""
    return record("visit", ts=CLOCK + seconds, **more)


def detect(*runs: Messages) -> Scored:
    return detect_messages(VISIT, runs, DecodeOptions(), Panel(), None, latest=CLOCK + AHEAD)


def test_an_hour_is_what_settings_and_engine_allow() -> None:
    assert StreamSettings().future_seconds == StreamInput.__dataclass_fields__["future_seconds"].default == AHEAD


@pytest.mark.parametrize(
    ("seconds", "rejected"),
    [
        pytest.param(0, False, id="now"),
        pytest.param(3600, False, id="just an hour ahead"),
        pytest.param(3600.001, True, id="more than an hour ahead"),
        pytest.param(86_400 * 365, True, id="a year ahead"),
        pytest.param(-86_400 * 3650, False, id="a replay of old data"),
    ],
)
@pytest.mark.parametrize("others", [0, 3], ids=["alone", "among others"])
def test_how_far_ahead_a_record_may_be(seconds: float, rejected: bool, others: int) -> None:
    scored = detect(run(*[at(0)] * others, at(seconds), *[at(1)] * others))
    assert scored.records.height == 2 * others + (not rejected)
    assert scored.rejected["reason"].to_list() == [REASON] * rejected


def test_one_record_of_a_message_is_rejected_with_its_place_and_the_message_as_it_came() -> None:
    array = [at(0, bytes=1), at(9999, bytes=2), at(0, bytes=-3), at(5, bytes=4)]
    scored = detect(run(at(7)), run(at(8), array, partition=1, first=40))
    rows = scored.records.select("partition", "offset", "index", "bytes").rows()
    assert rows == [(0, 100, 0, 12_800), (1, 40, 0, 12_800), (1, 41, 0, 1), (1, 41, 3, 4)]
    found = scored.rejected.sort("index")
    assert found.select("stream", "topic", "partition", "offset", "index").rows() == [
        ("visit", "t", 1, 41, 1),
        ("visit", "t", 1, 41, 2),
    ]
    assert [reason.partition(":")[0] for reason in found["reason"]] == [REASON, "bytes"]
    assert json.loads(found["raw"][0]) == array
    assert scored.messages == {0: 1, 1: 2}


def test_a_long_message_is_kept_in_part() -> None:
    scored = detect(run([at(9999), *[at(0)] * 1000]))
    assert scored.records.height == 1000
    [kept] = scored.rejected.to_dicts()
    assert (len(kept["raw"]), kept["raw_bytes"]) == (64 << 10, len(json.dumps([at(9999), *[at(0)] * 1000])))


@pytest.mark.parametrize("many", [5, 5000], ids=["small batch", "large batch"])
def test_nothing_is_lost_however_many_there_are(many: int) -> None:
    """The two ways to decode, and the split after them, keep every record in one of two places."""
    chance = np.random.default_rng(many)
    ahead = chance.random(many) < 0.3
    scored = detect(run(*[at(1e6 if one else -1, bytes=number) for number, one in enumerate(ahead.tolist())]))
    offsets = pl.concat([scored.records["offset"], scored.rejected["offset"]])
    assert sorted(offsets) == list(range(100, 100 + many))
    assert sorted(scored.rejected["offset"]) == (np.flatnonzero(ahead) + 100).tolist()
