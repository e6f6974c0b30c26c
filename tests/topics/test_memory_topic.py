"""The test kit: markers of a MemoryTopic, and the clock."""

from __future__ import annotations

import pytest

from hackwatch.errors import DataError
from hackwatch.families.host.simulate import Faults
from hackwatch.testing import ABORT, EOF, PAUSE, Aborted, FakeClock, MemoryTopic, simulated_topics
from tests.third.support import shop
from tests.topics.support import everything, positions

__all__ = ["shop"]


def test_a_read_stops_before_a_marker() -> None:
    topic = MemoryTopic(partitions=1)
    topic.append([b"a", b"b"])
    topic.inject(EOF)
    topic.append([b"never"])
    assert list(positions(topic).values()) == [b"a", b"b"]
    assert topic.ended.is_set()


def test_the_topic_has_ended_when_every_partition_has() -> None:
    topic = MemoryTopic(partitions=2)
    topic.inject(EOF)
    assert topic.read(0, 0, max_bytes=10) is None
    assert not topic.ended.is_set()
    assert topic.read(1, 0, max_bytes=10) is None
    assert topic.ended.is_set()


def test_abort_strikes_once_where_it_stands() -> None:
    topic = MemoryTopic(partitions=1)
    topic.append([b"a"])
    topic.inject(ABORT)
    topic.append([b"b"])
    assert topic.read(0, 0, max_bytes=10) is not None
    with pytest.raises(Aborted):
        topic.read(0, 1, max_bytes=10)
    assert list(positions(topic).values()) == [b"a", b"b"]


def test_pause_holds_back_for_some_polls() -> None:
    topic = MemoryTopic(partitions=1)
    topic.inject(PAUSE(2))
    topic.append([b"a"])
    polls = [topic.read(0, 0, max_bytes=10) for _ in range(3)]
    assert [poll is None for poll in polls] == [True, True, False]


def test_dropped_messages_are_gone() -> None:
    topic = MemoryTopic(partitions=1)
    topic.append([b"a", b"b", b"c"])
    topic.drop(0, before=2)
    assert (topic.start_offset(0), positions(topic, start=2)) == (2, {2: b"c"})
    with pytest.raises(DataError):
        topic.read(0, 1, max_bytes=10)


def test_commits_are_remembered() -> None:
    topic = MemoryTopic()
    topic.commit({0: 1, 1: 5})
    topic.commit({0: 3})
    assert topic.committed == {0: 3, 1: 5}


def test_the_clock_moves_only_when_told() -> None:
    clock = FakeClock(wall=100.0)
    clock.sleep(2.5)
    clock.step_wall(-60)
    assert (clock.wall(), clock.monotonic(), clock.sleeps) == (42.5, 2.5, [2.5])


def test_a_made_world_fills_its_topics_the_same_way_for_a_seed(shop: None) -> None:
    one, again, other = (simulated_topics(300, seed, family="shop", partitions=3) for seed in (1, 1, 2))
    assert [len(everything(one[name])) for name in ("visit", "login")] == [150, 150]
    assert [everything(topic) for topic in one.values()] == [everything(topic) for topic in again.values()]
    assert everything(one["visit"]) != everything(other["visit"])
    broken = simulated_topics(300, 1, family="shop", faults=Faults(duplicate_share=0.2))
    assert len(everything(broken["login"])) > 150
