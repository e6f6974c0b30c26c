"""Records put together into arrays: the same records, in order, in messages that brokers take."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.feeds import arrays
from hackwatch.feeds.arrays import MOST_BYTES, Arrays
from hackwatch.testing import MemoryTopic
from tests.topics.support import everything


def test_what_is_appended_at_once_is_one_message() -> None:
    topic = MemoryTopic("t", partitions=1)
    writer = Arrays(topic)
    writer.append([b'{"a":1}', b'{"a":2}'], key="web-1")
    writer.append_payload(b'{"a":3}\n')
    writer.append([])
    writer.append_payload(b"")
    assert everything(topic) == [b'[{"a":1},{"a":2}]', b'[{"a":3}]']
    assert (writer.topic, writer.messages, writer.bytes) == ("t", 2, sum(len(m) + 1 for m in everything(topic)))
    writer.close()
    assert topic.closed


def test_a_key_keeps_its_partition() -> None:
    topic = MemoryTopic("t", partitions=8)
    writer = Arrays(topic)
    for _ in range(20):
        writer.append([b"{}"], key="web-1")
    assert [topic.end_offset(partition) for partition in topic.partitions()].count(20) == 1


@pytest.mark.parametrize("size", [1000, MOST_BYTES - 1, MOST_BYTES, 3 * MOST_BYTES])
def test_a_long_array_goes_as_several_messages(size: int) -> None:
    topic = MemoryTopic("t", partitions=1)
    sent = [json.dumps("x" * size).encode() for _ in range(5)]
    Arrays(topic).append(sent)
    assert [json.dumps(one).encode() for array in everything(topic) for one in json.loads(array)] == sent
    assert max(map(len, everything(topic))) <= max(MOST_BYTES, size) + 20
    assert len(everything(topic)) == (1 if size == 1000 else 5)


@given(st.lists(st.integers(0, 10**6)), st.integers(1, 30))
def test_however_long_they_are_the_records_stay(numbers: list[int], most: int) -> None:
    topic = MemoryTopic("t", partitions=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "MOST_BYTES", most)
        Arrays(topic).append([b"%d" % number for number in numbers])
    assert [number for array in everything(topic) for number in json.loads(array)] == numbers
