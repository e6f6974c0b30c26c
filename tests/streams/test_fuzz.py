"""200,000 mutated messages: nothing raises, nothing is lost, memory stays bounded."""

from __future__ import annotations

import json
import random
import resource
from collections.abc import Callable

import orjson
import pytest

from hackwatch.streams.stream import DecodeOptions
from tests.streams.request import short, wrapped
from tests.streams.support import BASE, messages, named
from tests.third.support import SHOP, shop

__all__ = ["mutated", "shop"]

MESSAGES, BATCH = 200_000, 2_000
STREAMS = ("process", "memory", "request", *SHOP)
OPTIONS = DecodeOptions(labels=True, key="uuid", max_message_bytes=1 << 20)
PIECES = [
    b"NaN", b"Infinity", b"1e999", b"1e-999", b"9" * 100, b"-0", b"null", b"true", b'"-"', b'"<x>"', b'"\\ud800"',
    b"\xff", b"\xed\xa0\x80", b"\x00", b"},{", b"}, {", b"[", b"]", b"{", b"}", b'"', b"\\", b"\\u003a", b":", b",",
    b'"ts":1,', b'"label":1,', b'"uuid":"a",', b"\xef\xbb\xbf", b"\r", b"\t", b" " * 50, b'"' + b"x" * 5000 + b'"',
]  # fmt: skip
Mutation = Callable[[random.Random, bytes], bytes]


def flip(chance: random.Random, text: bytes) -> bytes:
    position = chance.randrange(len(text))
    return text[:position] + bytes([chance.randrange(256)]) + text[position + 1 :]


def insert(chance: random.Random, text: bytes) -> bytes:
    position = chance.randrange(len(text) + 1)
    return text[:position] + chance.choice(PIECES) + text[position:]


def cut(chance: random.Random, text: bytes) -> bytes:
    return text[: chance.randrange(len(text))]


def remove(chance: random.Random, text: bytes) -> bytes:
    start = chance.randrange(len(text))
    return text[:start] + text[start + chance.randrange(30) :]


def repeat(chance: random.Random, text: bytes) -> bytes:
    start = chance.randrange(len(text))
    part = text[start : start + chance.randrange(1, 60)]
    return text[:start] + part * chance.randrange(2, 20) + text[start:]


def change_value(chance: random.Random, text: bytes) -> bytes:
    fields = text.split(b",")
    position = chance.randrange(len(fields))
    fields[position] = fields[position].partition(b":")[0] + b":" + chance.choice(PIECES)
    return b",".join(fields)


def wrap(chance: random.Random, text: bytes) -> bytes:
    return b"[" + chance.choice([b",", b", ", b" , "]).join([text] * chance.randrange(4)) + b"]"


def deepen(chance: random.Random, text: bytes) -> bytes:
    depth = chance.choice([3, 60, 65, 1000, 1023, 1025, 3000])
    left, right = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    return b'{"deep":' + left * depth + b"1" + right * depth + b"," + text[1:]


MUTATIONS: list[Mutation] = [flip, flip, insert, insert, cut, remove, repeat, change_value, change_value, wrap, deepen]


def mutated(chance: random.Random, stream: str) -> bytes:
    text = json.dumps(BASE[stream], separators=chance.choice([(",", ":"), (", ", ": ")])).encode()
    if stream == "request":
        text = chance.choice([text, short(), json.dumps(wrapped(short().decode())).encode()])
    for _ in range(chance.choice([0, 0, 0, 1, 1, 2, 4])):
        text = chance.choice(MUTATIONS)(chance, text) or b" "
    return text.replace(b"\n", b"")


def expected_records(line: bytes) -> int:
    """How many records (good or rejected) a message makes."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return 1
    return max(1, len(value)) if isinstance(value, list) else 1


def deep(line: bytes) -> bool:
    return line.count(b"[") + line.count(b"{") > 60


@pytest.mark.slow
@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("stream", STREAMS)
def test_nothing_raises_nothing_is_lost_memory_is_bounded(stream: str) -> None:
    chance = random.Random(stream)
    accounted = rejected = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(MESSAGES // len(STREAMS) // BATCH):
        lines = [mutated(chance, stream) for _ in range(BATCH)]
        if number % 10 == 0:
            lines[5] = b'{"path":"' + b"x" * 10_000_000 + b'"}'
        decoded = named(stream).decode(messages(lines), OPTIONS)
        assert decoded.messages == BATCH
        seen = decoded.records.height + decoded.rejected.height
        # A message that is nested too deeply is one rejected message, however many records it holds.
        most = sum(map(expected_records, lines))
        least = most - sum(expected_records(line) - 1 for line in lines if deep(line))
        assert least <= seen <= most
        assert max(map(len, decoded.rejected["raw"])) <= 4 * 64 * 1024
        accounted += decoded.messages
        rejected += decoded.rejected.height
    assert accounted == MESSAGES // len(STREAMS)
    assert 0.2 < rejected / accounted < 0.9
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10
