"""The Kafka route with a real broker: what arrives, a broker that is away and comes back, what is refused for good."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hackwatch.alerts.alert import Alert
from hackwatch.config import KafkaRouteSettings, KafkaSettings
from hackwatch.errors import ConfigurationError, ResourceError
from hackwatch.routes import DeliveryError, Dispatcher, open_delivery, open_route
from hackwatch.routes.kafka import IDEMPOTENCY_KEY
from hackwatch.store import Store, open_store
from tests.routes.support import alert, deliver, eventually, refusing_port, route_of
from tests.servers.kafka import PASSWORD, USER, Broker


def sent(broker: Broker, topic: str, partitions: int = 1) -> list[Any]:
    """All messages of a topic, partition after partition."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "test", "enable.auto.commit": False})
    found: list[Any] = []
    for number in range(partitions):
        place = TopicPartition(topic, number, 0)
        consumer.assign([place])
        end = consumer.get_watermark_offsets(place, timeout=30)[1]
        while end and (not found or found[-1].partition() != number or found[-1].offset() < end - 1):
            message = consumer.poll(30)
            assert message is not None
            assert message.error() is None
            found.append(message)
    consumer.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("form", ["native", "ocsf", "ecs"])
def test_a_message_is_the_alert_keyed_by_its_entity_with_its_id_against_repeats(kafka: Broker, form: str) -> None:
    topic = f"alerts-{form}"
    url = kafka.create(topic, partitions=3)
    route = route_of("kafka", topic=url, form=form)
    alerts = [alert(number, entity=f"192.0.2.{number % 4}") for number in range(40)]
    route.send(alerts)
    route.close()
    messages = sent(kafka, topic, 3)
    headers = [dict(message.headers()) for message in messages]
    assert {each[IDEMPOTENCY_KEY].decode() for each in headers} == {one.id for one in alerts}
    assert {(each["content-type"], each["hackwatch-form"]) for each in headers} == {
        (b"application/json", form.encode())
    }
    places: dict[bytes, set[int]] = {}
    for message, header in zip(messages, headers, strict=True):
        assert header[IDEMPOTENCY_KEY].decode() in json.dumps(json.loads(message.value()))
        places.setdefault(message.key(), set()).add(message.partition())
    assert set(places) == {b"192.0.2.0", b"192.0.2.1", b"192.0.2.2", b"192.0.2.3"}
    assert all(len(partitions) == 1 for partitions in places.values())


@pytest.mark.slow
def test_the_properties_of_the_settings_log_in(kafka: Broker) -> None:
    kafka.create("alerts-login")
    url = f"kafka://{kafka.sasl_address}/alerts-login"
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": USER}
    good = KafkaSettings.model_validate({"properties": login, "secrets": {"sasl.password": PASSWORD}})
    route = route_of("kafka", topic=url, kafka=good)
    route.send([alert(1)])
    route.close()
    assert len(sent(kafka, "alerts-login")) == 1
    wrong = KafkaSettings.model_validate({"properties": login, "secrets": {"sasl.password": "not-this-one"}})
    route = route_of("kafka", topic=url, kafka=wrong, timeout_seconds=5)
    with pytest.raises(DeliveryError, match="refuses the login") as caught:
        route.send([alert(2)])
    assert not caught.value.permanent
    assert "not-this-one" not in str(caught.value)


@pytest.mark.slow
def test_a_topic_that_is_not_there_is_a_failure_that_may_pass(kafka: Broker) -> None:
    route = route_of("kafka", topic=kafka.url("alerts-later"), timeout_seconds=3)
    with pytest.raises(DeliveryError, match="there is no such topic in Kafka") as caught:
        route.send([alert(1), alert(2)])
    assert (caught.value.permanent, caught.value.delivered) == (False, 0)
    assert "hackwatch topics create" in str(caught.value)
    kafka.create("alerts-later")
    deliver(route, alert(1), alert(2))
    assert len(sent(kafka, "alerts-later")) >= 2


@pytest.mark.slow
def test_a_message_too_large_for_the_broker_is_given_up_and_those_before_it_count(kafka: Broker) -> None:
    kafka.create("alerts-small", config={"max.message.bytes": "20000"})
    route = route_of("kafka", topic=kafka.url("alerts-small"))
    incompressible = "".join(
        chr(33 + (number * 7919 % 91)) + f"{number * 2654435761 % 2**32:x}" for number in range(9000)
    )
    with pytest.raises(DeliveryError) as caught:
        route.send([alert(1), alert(2, evidence={"path": incompressible}), alert(3)])
    assert (caught.value.permanent, caught.value.delivered) == (True, 1)
    route.send([alert(3)])
    ids = [dict(message.headers())[IDEMPOTENCY_KEY].decode() for message in sent(kafka, "alerts-small")]
    assert ids[0] == alert(1).id
    assert alert(2).id not in ids
    assert alert(3).id in ids


def test_nobody_answering_is_a_failure_that_may_pass_and_says_so() -> None:
    with refusing_port() as port:
        route = route_of("kafka", topic=f"kafka://127.0.0.1:{port}/alerts", timeout_seconds=1)
        with pytest.raises(DeliveryError, match="no Kafka broker answers") as caught:
            route.send([alert(1)])
        route.close()
    assert (caught.value.permanent, caught.value.delivered) == (False, 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store.sqlite") as opened:
        opened.outbox.set_routes(["soc"])
        yield opened


def raise_alerts(store: Store, numbers: range) -> list[Alert]:
    raised = [alert(number, created=time.time()) for number in numbers]
    store.checkpoints.log_batches("main", (), raised, ())
    return raised


@pytest.mark.slow
def test_alerts_raised_while_the_broker_is_away_arrive_when_it_is_back(own_kafka: Broker, store: Store) -> None:
    url = own_kafka.create("alerts")
    settings = KafkaRouteSettings.model_validate({"name": "soc", "type": "kafka", "topic": url, "timeout_seconds": 2})
    dispatcher = Dispatcher(store.outbox, [open_delivery(settings)], poll_seconds=0.1, chance=lambda: 0.9)
    dispatcher.start()
    try:
        raised = raise_alerts(store, range(5))
        assert eventually(lambda: store.outbox.counts()["soc"]["done"] == 5, 30)
        own_kafka.kill()
        raised += raise_alerts(store, range(5, 30))
        dispatcher.wake()
        time.sleep(4)
        counts = store.outbox.counts()["soc"]
        assert (counts["done"], counts["failed"]) == (5, 0)
        own_kafka.start()
        assert eventually(lambda: store.outbox.counts()["soc"]["done"] == 30, 60)
    finally:
        assert dispatcher.stop()
    ids = [dict(message.headers())[IDEMPOTENCY_KEY].decode() for message in sent(own_kafka, "alerts")]
    assert set(ids) == {one.id for one in raised}


@pytest.mark.slow
def test_a_broker_that_hangs_does_not_hold_the_route_longer_than_its_timeout(own_kafka: Broker) -> None:
    url = own_kafka.create("alerts")
    route = route_of("kafka", topic=url, timeout_seconds=2)
    route.send([alert(1)])
    own_kafka.freeze()
    thaw = threading.Timer(5, own_kafka.thaw)
    thaw.start()
    began = time.monotonic()
    with pytest.raises(DeliveryError):
        route.send([alert(2)])
    assert time.monotonic() - began < 4.5
    thaw.join()
    deliver(route, alert(2))
    route.close()
    assert {message.key() for message in sent(own_kafka, "alerts")} == {b"203.0.113.7"}


@pytest.mark.parametrize("topic", ["spool:/var/spool/alerts", "http://broker/alerts"])
def test_other_addresses_are_refused_by_the_settings(topic: str) -> None:
    with pytest.raises(ValueError, match="must be kafka://HOST:PORT/TOPIC"):
        KafkaRouteSettings.model_validate({"name": "r", "type": "kafka", "topic": topic})


def test_a_wrong_property_and_a_missing_extra_are_told_before_the_first_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = KafkaRouteSettings(name="r", type="kafka", topic="kafka://127.0.0.1:9/alerts")
    with pytest.raises(ConfigurationError, match="does not take its properties"):
        open_route(settings, KafkaSettings(properties={"no.such.property": "1"}))
    for name in ("hackwatch.routes.kafka", "hackwatch.topics.kafka.client"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ResourceError, match="extra `kafka`"):
        open_route(settings)
