"""Small payloads are read in plain Python: the same as the ordinary decoder gives, or not at all."""

from __future__ import annotations

import json
import random
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hackwatch.families.host.simulate import generate
from hackwatch.streams import small
from hackwatch.streams.decode import Decoder
from hackwatch.streams.stream import DecodeOptions
from tests.streams.request import REQUEST
from tests.streams.support import BASE, kib, messages, named, record
from tests.streams.test_agreement import OWN, facts, payloads
from tests.streams.test_fuzz import mutated
from tests.third.support import shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")

PRINTS = st.text("-.0123456789KMGT +e%", max_size=8)
NUMBERS = st.integers(-200, 200) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.sampled_from(["", "-", " - ", "<", "<>", "<a>", "<<é>>", "a:b", "[x", " nc ", "x" * 256, "é" * 16, "\xa0"])
KEYS = st.sampled_from([None, "uuid", "path", "status", "ts"])


def decoder(stream: str) -> Decoder:
    return cast(Decoder, named(stream).decode)


def agree(stream: str, lines: list[bytes], options: DecodeOptions) -> bool:
    """Whether the small way read the payload; if so, as the ordinary one."""
    given_ = messages(lines)
    quick = decoder(stream)._small(given_, options)
    if quick is not None:
        ordinary = decoder(stream)._ordinary(given_, options)
        assert quick.records.schema == ordinary.records.schema
        assert facts(quick) == facts(ordinary)
        assert quick.messages == ordinary.messages
    return quick is not None


@given(payloads(), st.booleans(), KEYS)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_payload(payload: tuple[str, list[bytes]], letterless_kib: bool, key: str | None) -> None:
    stream, lines = payload
    agree(stream, lines, DecodeOptions(own=kib(letterless_kib), key=key))


@given(st.data(), st.sampled_from(OWN), st.booleans())
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_value_of_a_field(data: st.DataObject, stream: str, letterless_kib: bool) -> None:
    name = data.draw(st.sampled_from(list(BASE[stream])))
    values = data.draw(st.lists(PRINTS | NUMBERS | TEXTS, min_size=1, max_size=3))
    lines = [json.dumps(record(stream, **{name: value}), ensure_ascii=False).encode() for value in values]
    agree(stream, lines, DecodeOptions(own=kib(letterless_kib)))


@given(st.floats(1, 2**33), st.sampled_from([0.0, 5e-7, 1.5e-6, 2.5e-6]))
@settings(max_examples=300, deadline=None)
def test_any_time(seconds: float, more: float) -> None:
    lines = [json.dumps(record("visit", ts=moment)).encode() for moment in (seconds, seconds // 1 + more)]
    assert agree("visit", lines, DecodeOptions()) or seconds + more > 2**33


#: Those that are read the small way too.
SMALL = [name for name in OWN if name != "login"]


#: Of payloads of `request` two thirds hold lines or envelopes, which are left to the ordinary decoder.
@pytest.mark.parametrize(("stream", "least"), [(name, 50 if name == "request" else 300) for name in SMALL])
def test_mutated_payloads(stream: str, least: int) -> None:
    chance = random.Random(7)
    cut = [[mutated(chance, stream) for _ in range(chance.randrange(1, 4))] for _ in range(1500)]
    assert least < sum(agree(stream, lines, DecodeOptions()) for lines in cut) < 1200


@pytest.mark.parametrize("stream", [name for name in SMALL if name != "request"])
def test_what_a_feed_writes_is_read_the_small_way(stream: str) -> None:
    import shop_simulator

    batches = (next(iter(simulate(400, 1))) for simulate in (generate, shop_simulator.generate))
    [written] = [getattr(batch, stream) for batch in batches if hasattr(batch, stream)]
    lines = b"".join(payload for _, payload in written.parts()).splitlines()
    assert agree(stream, lines[:200], DecodeOptions())


USUAL: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "numbers as texts with stray blanks": (
        "visit", [{name: f" {value} " for name, value in BASE["visit"].items()}]
    ),
    "sizes as numbers": ("visit", [record("visit", bytes=612), record("visit", bytes=2.5)]),
    "fields that nobody knows": ("visit", [record("visit", host="a", rack=None, up=True, label=1, type="x:y")] * 3),
    "addresses, dates and booleans": (
        "request", [
            REQUEST | {"bot": "F"},
            REQUEST | {"client": "2001:DB8::1", "when": "10/Oct/2000:13:55:36 -0700", "bot": "no"},
        ]
    ),
    "times as numbers": ("request", [REQUEST | {"when": 971211336.25}, REQUEST | {"when": 1, "bot": True}]),
    "colons in texts": ("visit", [record("visit", path="/shop/0:1")]),
}  # fmt: skip


@pytest.mark.parametrize(("stream", "records"), USUAL.values(), ids=USUAL)
def test_usual_records(stream: str, records: list[dict[str, Any]]) -> None:
    lines = [json.dumps(one).encode() for one in records]
    assert agree(stream, lines, DecodeOptions())
    assert agree(stream, [b"[" + b",".join(lines) + b"]", *lines], DecodeOptions())


def test_a_key() -> None:
    lines = [json.dumps(record("visit", uuid=key)).encode() for key in ("a", " a", "b:c")]
    assert agree("visit", lines, DecodeOptions(key="uuid"))


UNUSUAL: dict[str, bytes] = {
    "a field twice": b'{"path":"x",' + json.dumps(BASE["visit"]).encode()[1:],
    "a field twice, a colon hidden": b'{"path":"x",' + json.dumps(record("visit", path="a:b")).encode()[1:].replace(
        b"a:b", b"a\\u003ab"
    ),
    "a field missing": b'{"path":"x"}',
    "a value that is impossible": json.dumps(record("visit", status=2)).encode(),
    "a nested value": json.dumps(record("visit", extra=[1])).encode(),
    "not JSON": b"{",
    "nothing": b"",
    "two in one line": json.dumps(BASE["visit"]).encode() + b"," + json.dumps(BASE["visit"]).encode(),
}  # fmt: skip


@pytest.mark.parametrize("line", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_messages_are_left_to_the_ordinary_decoder(line: bytes) -> None:
    assert not agree("visit", [json.dumps(BASE["visit"]).encode(), line], DecodeOptions())


def test_large_payloads_and_training_data_are_left_to_the_ordinary_decoder() -> None:
    line = json.dumps(BASE["visit"]).encode()
    assert not agree("visit", [line] * (small.SMALL_BYTES // len(line) + 1), DecodeOptions())
    assert not agree("visit", [line], DecodeOptions(labels=True))
    assert not agree("visit", [line], DecodeOptions(max_message_bytes=10))
