"""After a fatal error a Kafka client sends nothing more: it is told as what it is, and the next client works."""

from __future__ import annotations

import pytest

from hackwatch.errors import ResourceError
from hackwatch.routes.route import DeliveryError
from hackwatch.topics.kafka import client
from hackwatch.topics.kafka.address import parse_address
from hackwatch.topics.kafka.writer import KafkaWriter
from tests.routes.support import alert, route_of
from tests.routes.test_kafka import sent
from tests.servers.kafka import Broker

LONG = "".join(f"{number * 2654435761 % 2**32:x}" for number in range(5000))


@pytest.fixture(autouse=True)
def gapless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that the broker refuses is fatal to the client."""
    monkeypatch.setitem(client._PRODUCER, "enable.gapless.guarantee", True)


@pytest.mark.slow
def test_a_writer_says_what_happened_and_does_not_hang(kafka: Broker) -> None:
    url = kafka.create("fatal-writer", config={"max.message.bytes": "2000"})
    writer = KafkaWriter(parse_address(url))
    writer.append([b"first"])
    writer.flush()
    writer.append([LONG.encode()])
    with pytest.raises(ResourceError, match="too large"):
        writer.flush()
    with pytest.raises(ResourceError):
        append_some(writer)
    assert [message.value() for message in sent(kafka, "fatal-writer")] == [b"first"]


def append_some(writer: KafkaWriter) -> None:
    for _ in range(10):
        writer.append([b"after"])
        writer.flush()


@pytest.mark.slow
def test_a_route_goes_on_with_a_new_client(kafka: Broker) -> None:
    url = kafka.create("fatal-route", config={"max.message.bytes": "20000"})
    route = route_of("kafka", topic=url)
    with pytest.raises(DeliveryError):
        route.send([alert(1, evidence={"path": LONG})])
    route.send([alert(2)])
    route.close()
    assert len(sent(kafka, "fatal-route")) == 1
