"""The plain consumer: what it counts, from where on, and that nothing in a topic can stop it."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.errors import ResourceError
from hackwatch.testing import FakeClock, MemoryTopic
from hackwatch.top.consume import consume_once
from hackwatch.top.consumer import Consumer, Flow, entities


def message(*clients: Any) -> bytes:
    """An array as the classic producers send it."""
    return json.dumps([{"client": client, "status": "200", "path": "a"} for client in clients]).encode()


def counted(consumer: Consumer) -> dict[str, int]:
    while consumer.look():
        pass
    return {name: sum(buckets) for name, buckets in consumer.flow().entities}


@pytest.mark.parametrize(
    ("payload", "clients", "unreadable"),
    [
        (b'{"client": "4", "status": 200}\n{"client": "5"}\n', ["4", "5"], 0),
        (b'{"client": 4}\n{"client": 4.5}\n', ["4", "4.5"], 0),
        (b'[{"client":" 4 ","ts":"1"},{"client":"5"}]\n[{"client":"4"}]\n', ["4", "5", "4"], 0),
        (b'[{"client": "4"}, {"client": "5"}]\n', ["4", "5"], 0),
        (b'{"client": "4"}\n[{"client": "5"}]\n', ["4", "5"], 0),
        (b'{"client": "4"}\nnot JSON\n', ["4"], 1),
        (b'[{"client": "4"}, 7, {"status": 200}, {"client": null}, {"client": " "}]\n', ["4"], 4),
        (b"[]\n7\nnull\n\n", [], 4),
        (b'{"client": "4", "name": "},{"}\n', ["4"], 0),
        (b'[{"client": "},{"}, {"client": "5"}]\n', ["},{", "5"], 0),
        (b'{"client": "\\ud800"}\n', [], 1),
        (b"", [], 0),
    ],
    ids=["objects", "numbers", "arrays", "spaced arrays", "both", "broken", "elements", "no records", "cut in a text",
         "cut in a name", "half a character", "nothing"],
)  # fmt: skip
def test_every_record_counts_for_its_machine_and_what_has_none_is_unreadable(
    payload: bytes, clients: list[str], unreadable: int
) -> None:
    names, without = entities(payload, "client")
    assert (names.to_list(), without) == (clients, unreadable)


names = st.sampled_from(["4", "5", "192.0.2.1", "},{", "a:b", "é"])
records = st.fixed_dictionaries({"client": names}, optional={"path": st.text(max_size=5), "status": st.integers()})
whole = st.one_of(records, st.lists(records, min_size=1, max_size=4))


@given(messages=st.lists(whole, max_size=8), broken=st.lists(st.integers(0, 8), max_size=3))
def test_however_messages_are_mixed_the_counts_are_those_of_the_records(messages: list[Any], broken: list[int]) -> None:
    lines = [json.dumps(each).encode() for each in messages]
    for place in broken:
        lines.insert(min(place, len(lines)), b'{"client": ')
    found, unreadable = entities(b"".join(line + b"\n" for line in lines), "client")
    wanted = [each["client"] for one in messages for each in (one if isinstance(one, list) else [one])]
    assert (Counter(found.to_list()), unreadable) == (Counter(wanted), len(broken))


def test_it_starts_at_the_end_of_what_is_there_and_at_the_beginning_of_what_comes_later() -> None:
    topic = MemoryTopic(partitions=2)
    topic.append([message("old")] * 3)
    consumer = Consumer(topic, by="client", clock=FakeClock().wall)
    assert counted(consumer) == {}
    topic.append([message("4", "4", "5")])
    assert counted(consumer) == {"4": 2, "5": 1}


def test_from_the_start_it_counts_all_that_is_kept() -> None:
    topic = MemoryTopic(partitions=3)
    for client in ("4", "5", "6"):
        topic.append([message(client, client)] * 2)
    consumer = Consumer(topic, by="client", from_start=True, clock=FakeClock().wall)
    assert counted(consumer) == {"4": 4, "5": 4, "6": 4}
    flow = consumer.flow()
    assert (flow.messages, flow.records, flow.unreadable, flow.recent) == (6, 12, 0, 12)
    assert topic.commits == []


def test_after_two_minutes_a_record_no_longer_counts() -> None:
    clock, topic = FakeClock(), MemoryTopic(partitions=1)
    consumer = Consumer(topic, by="client", from_start=True, clock=clock.wall)
    topic.append([message("4")])
    counted(consumer)
    clock.advance(60)
    topic.append([message("4", "5")])
    assert counted(consumer) == {"4": 2, "5": 1}
    clock.advance(62)
    assert counted(consumer) == {"4": 1, "5": 1}
    clock.advance(60)
    assert counted(consumer) == {}
    assert consumer.flow().records == 3


def test_what_retention_took_is_told_and_the_rest_counted() -> None:
    topic = MemoryTopic(partitions=1)
    topic.append([message("4")] * 2)
    consumer = Consumer(topic, by="client", from_start=True)
    counted(consumer)
    topic.append([message("5")] * 4)
    topic.drop(0, before=4)
    consumer.look()
    assert counted(consumer) == {"4": 2, "5": 2}
    assert consumer.flow().lost == 1


def test_of_very_many_machines_some_are_told_apart_and_all_are_counted() -> None:
    topic = MemoryTopic(partitions=1)
    topic.append([message(*range(start, start + 100)) for start in range(0, 1000, 100)])
    consumer = Consumer(topic, by="client", from_start=True)
    told_apart = counted(consumer)
    flow = consumer.flow()
    assert 0 < len(told_apart) < 1000
    assert flow.others == 1000 - len(told_apart)
    assert flow.recent == flow.records == 1000


class Away(MemoryTopic):
    """A topic that cannot be reached for some looks."""

    away = 2

    def partitions(self) -> Sequence[int]:
        if self.away:
            self.away -= 1
            raise ResourceError("no broker answers")
        return super().partitions()


def test_a_topic_that_is_away_is_told_and_tried_again() -> None:
    topic = Away(partitions=1)
    topic.append([message("4")])
    consumer = Consumer(topic, by="client", from_start=True)
    for _ in range(2):
        assert not consumer.look()
        assert consumer.flow().trouble == "no broker answers"
    assert counted(consumer) == {"4": 1}
    assert consumer.flow().trouble is None


def test_once_ends_when_all_is_read_or_time_is_over() -> None:
    topic, saved = MemoryTopic(partitions=2), list[Flow]()
    topic.append([message("4")] * 50)
    stop = threading.Event()
    flow = consume_once(Consumer(topic, by="client", from_start=True), stop, until_read=True, save=saved.append)
    assert (flow.records, saved) == (50, [flow])
    threading.Timer(0.2, stop.set).start()
    assert consume_once(Consumer(topic, by="client"), stop, until_read=False).records == 0


def test_another_field_can_be_counted_by() -> None:
    topic = MemoryTopic(partitions=1)
    topic.append([b'{"client": "4", "site": "north"}', b'{"client": "5"}'])
    consumer = Consumer(topic, by="site", from_start=True)
    assert counted(consumer) == {"north": 1}
    assert consumer.flow().unreadable == 1
