"""The topic of enriched records with a real broker: outages, kills, a topic that goes away, logins."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hackwatch.config import KafkaSettings
from hackwatch.errors import ResourceError
from hackwatch.lake import Lake
from hackwatch.runtime import enriched_topic
from hackwatch.runtime.enriched_topic import IDENTITY, EnrichedSink
from tests.engine.processes import NAMES, Folder, feed, until
from tests.routes.support import refusing_port
from tests.routes.test_kafka import sent
from tests.servers.kafka import Broker
from tests.third.shop import VISIT

VISITS = {"visit": VISIT}
PARTITIONS = 2


def frame(records: int, first: int = 0) -> pl.DataFrame:
    """What the sink needs of a lake table."""
    offsets = pl.int_range(first, first + records, eager=True)
    return pl.DataFrame({"offset": offsets}).with_columns(
        (pl.col("offset") % 7).cast(pl.String).alias("client"), pl.lit("x" * 100).alias("path")
    )


def offsets(broker: Broker, topic: str) -> list[int]:
    return [json.loads(message.value())["offset"] for message in sent(broker, topic, PARTITIONS)]


@pytest.mark.slow
def test_every_record_is_a_message_keyed_by_its_entity_in_its_order(kafka: Broker) -> None:
    sink = EnrichedSink(kafka.url("enriched-order"), VISITS, partitions=PARTITIONS)
    sink.write("visit", frame(25_000), 1)
    sink.write("visit", frame(100, 25_000), 2)
    sink.close()
    messages = sent(kafka, "enriched-order", PARTITIONS)
    records = [json.loads(message.value()) for message in messages]
    assert sorted(record["offset"] for record in records) == list(range(25_100))
    for client in {record["client"] for record in records}:
        mine = [(m.key(), m.partition(), r["offset"]) for m, r in zip(messages, records, strict=True)
                if r["client"] == client]  # fmt: skip
        assert len({(key, partition) for key, partition, _ in mine}) == 1
        assert [offset for *_, offset in mine] == sorted(offset for *_, offset in mine)


@pytest.mark.slow
def test_a_broker_that_goes_away_is_waited_for_and_nothing_comes_twice(
    own_kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = EnrichedSink(own_kafka.url("enriched"), VISITS, partitions=PARTITIONS)
    written(sink, frame(1000), 1)
    monkeypatch.setattr(enriched_topic, "PATIENCE_SECONDS", 1.0)
    own_kafka.kill()
    for _ in range(2):
        with pytest.raises(ResourceError, match=r"no Kafka broker answers.*records wait"):
            sink.write("visit", frame(5000, 1000), 2)
    own_kafka.start()
    written(sink, frame(5000, 1000), 2)
    sink.close()
    assert sorted(offsets(own_kafka, "enriched")) == list(range(6000))


def written(sink: EnrichedSink, rows: pl.DataFrame, epoch: int, seconds: float = 60.0) -> None:
    """Tried again until it succeeds, as the engine does."""
    end = time.monotonic() + seconds
    while True:
        try:
            return sink.write("visit", rows, epoch)
        except ResourceError:
            assert time.monotonic() < end


@pytest.mark.slow
def test_more_than_the_client_holds_goes_out_in_turns(kafka: Broker) -> None:
    small = KafkaSettings(properties={"queue.buffering.max.messages": 500})
    sink = EnrichedSink(kafka.url("enriched-small"), VISITS, small, partitions=PARTITIONS)
    sink.write("visit", frame(20_000), 1)
    sink.close()
    assert sorted(offsets(kafka, "enriched-small")) == list(range(20_000))


@pytest.mark.slow
def test_records_that_the_broker_refuses_are_told_and_sent_again_once_it_takes_them(kafka: Broker) -> None:
    """None of those that follow is let through: a consumer that drops what lies behind would miss the refused one."""
    kafka.create("enriched-refused", 1, {"max.message.bytes": "5000"})
    sink = EnrichedSink(kafka.url("enriched-refused"), VISITS)
    long = "".join(f"{number * 2654435761 % 2**32:x}" for number in range(2000))
    rows = frame(6000).with_columns(path=pl.when(pl.col("offset") == 3000).then(pl.lit(long)).otherwise("path"))
    with pytest.raises(ResourceError, match=r"too large|larger"):
        sink.write("visit", rows, 1)
    before = [json.loads(message.value())["offset"] for message in sent(kafka, "enriched-refused")]
    assert before == list(range(len(before)))
    allow(kafka, "enriched-refused", 1_000_000)
    written(sink, rows, 1)
    sink.close()
    after = [json.loads(message.value())["offset"] for message in sent(kafka, "enriched-refused")]
    new = [offset for place, offset in enumerate(after) if offset > max(after[:place], default=-1)]
    assert new == list(range(6000))


def allow(broker: Broker, topic: str, longest: int) -> None:
    """Change how long a message of the topic may be, bytes."""
    from confluent_kafka import admin

    parts: Any = admin  # its types lack these names
    entry = parts.ConfigEntry("max.message.bytes", str(longest), incremental_operation=parts.AlterConfigOpType.SET)
    resource = parts.ConfigResource(parts.ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    client = admin.AdminClient({"bootstrap.servers": broker.address})
    for done in client.incremental_alter_configs([resource]).values():
        done.result(30)


def test_nobody_answering_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing_port() as port:
        sink = EnrichedSink(f"kafka://127.0.0.1:{port}/enriched", VISITS)
        with pytest.raises(ResourceError, match="no Kafka broker answers"):
            sink.write("visit", frame(10), 1)
        sink.close()


@pytest.fixture
def fed(tmp_path: Path, own_kafka: Broker) -> Folder:
    """An engine's folder with records in its spool and an enriched topic."""
    url = own_kafka.url("enriched")
    folder = Folder.make(tmp_path / "run", epoch_seconds=0.3, more=f'[kafka]\nenriched = "{url}"\n')
    feed(folder, 12_000)
    return folder


def complete(folder: Folder, broker: Broker) -> int:
    """Check that the topic has every record of the lake, and that the docs' way of dropping repeats gives each once.

    How many repeats there are; they must be the same to the byte.
    """
    messages = sent(broker, "enriched", PARTITIONS)
    once = without_repeats(messages)
    lake = Lake(folder.data / "lake")
    for name in NAMES:
        mine = [tuple(record[field] for field in IDENTITY) for record in once if record["stream"] == name]
        assert sorted(mine) == sorted(lake.scan(name).select(IDENTITY).collect().iter_rows())
    assert len({message.value() for message in messages}) == len(once)
    return len(messages) - len(once)


def without_repeats(messages: list[Any]) -> list[dict[str, Any]]:
    """As docs/kafka.md tells consumers to do."""
    seen: dict[tuple[int, str, int], tuple[int, int]] = {}
    kept = []
    for message in messages:
        record = json.loads(message.value())
        place = (message.partition(), record["topic"], record["partition"])
        if (record["offset"], record["index"]) > seen.get(place, (-1, -1)):
            seen[place] = (record["offset"], record["index"])
            kept.append(record)
    return kept


@pytest.mark.slow
def test_without_the_broker_the_engine_waits_visibly_and_then_goes_on(fed: Folder, own_kafka: Broker) -> None:
    own_kafka.kill()
    with fed.run() as engine:
        until(lambda: fed.state().startswith("paused: topic enriched"), "it says that it waits")
        assert fed.committed() == {}
        own_kafka.start()
        until(lambda: fed.worked_off() or not engine.alive, "everything is committed")
        assert fed.state() == "running"
        engine.stop()
    complete(fed, own_kafka)


@pytest.mark.slow
def test_killed_again_and_again_it_loses_nothing(fed: Folder, own_kafka: Broker) -> None:
    chance = random.Random(5)
    kills = 0
    while kills < 6 and not fed.worked_off():
        with fed.run() as engine:
            engine.started()
            threading.Event().wait(chance.uniform(0.1, 1.0))
            engine.kill()
        kills += 1
        feed(fed, 2_000, seed=2 + kills)
    with fed.run() as engine:
        until(lambda: fed.worked_off() or not engine.alive, "everything is committed")
        engine.stop()
    assert kills == 6
    complete(fed, own_kafka)
