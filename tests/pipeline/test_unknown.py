"""Fields that no schema knows are accounted to the partition whose messages had them, however batches are cut."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest

from hackwatch.alerts.policy import AlertPolicy
from hackwatch.config import AlertSettings
from hackwatch.detect.panel import Panel
from hackwatch.pipeline.core import Batch, Now, Pipeline
from hackwatch.pipeline.detection import Scored, detect_messages
from hackwatch.pipeline.options import StreamOptions
from hackwatch.streams.stream import DecodeOptions, Messages
from tests.streams.support import record
from tests.third.shop import VISIT

#: A message, and how many unknown fields it has.
SHAPES: list[tuple[bytes, int]] = [
    (json.dumps(record("visit")).encode(), 0),
    (json.dumps(record("visit", colour=1)).encode(), 1),
    (json.dumps(record("visit", colour=1, size=None, status=-1)).encode(), 2),
    (json.dumps([record("visit", colour=1), record("visit", rack="a:b")]).encode(), 2),
    (json.dumps(record("visit", path=None, odd=1)).encode(), 1),
    (json.dumps(record("visit", nested={"a": [1]}, aé=1)).encode(), 2),
    (b"{", 0),
    (b"", 0),
]


def run(partition: int, messages: list[bytes], first: int) -> Messages:
    payload = b"".join(message + b"\n" for message in messages)
    offsets = np.arange(first, first + len(messages), dtype=np.int64)
    return Messages("visit-topic", partition, payload, offsets, first + len(messages))


def detect(runs: list[Messages]) -> Scored:
    return detect_messages(VISIT, runs, DecodeOptions(), Panel(), None, latest=2.0**33)


@pytest.mark.parametrize("seed", range(30))
def test_each_partition_has_its_own(seed: int) -> None:
    chance = random.Random(seed)
    kinds = SHAPES if seed % 2 else SHAPES[:2]  # also what small payloads are read as the quick way
    target = Pipeline({"visit": (VISIT, StreamOptions())}, [], AlertPolicy(AlertSettings()))
    expected = Counter[int]()
    for batch in range(3):
        runs = []
        for partition in chance.sample(range(4), chance.randint(1, 4)) * chance.choice([1, 1, 2]):
            chosen = chance.choices(kinds, k=chance.choice([1, 3, 200]))
            runs.append(run(partition, [text for text, _ in chosen], batch * 1000))
            expected[partition] += sum(unknown for _, unknown in chosen)
        scored = detect(runs)
        assert sum(scored.unknown.values()) == sum(scored.unknown_fields.values())
        target.step(Batch([scored], []), Now(wall=2.0**31, elapsed=float(batch)))
    found = {partition: counts.unknown_fields for (_, _, partition), counts in target.totals.items()}
    assert {partition: count for partition, count in found.items() if count} == +expected


def test_there_are_none_where_all_is_known() -> None:
    assert dict(detect([run(0, [SHAPES[0][0]] * 3, 0), run(1, [b"{"], 0)]).unknown) == {}
