"""The engine on Kafka in a running cluster: partitions come, strange messages come, others look at the lag."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from hackwatch.config import KafkaSettings
from hackwatch.topics.kafka.address import parse_address
from hackwatch.topics.kafka.admin import describe_topic
from tests.engine.kafka_folder import KafkaFolder
from tests.engine.killing import Feed
from tests.engine.processes import START, lake_rows, until
from tests.servers.kafka import Broker
from tests.streams.support import record as sound
from tests.third.support import shop_all_along

__all__ = ["shop_all_along"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shop_all_along")]


def record(number: int, **fields: object) -> bytes:
    """A visit that nothing is wrong with."""
    whole = sound("visit", status=200 + number, ts=START, uuid=f"u{number}")
    return json.dumps({**whole, **fields}, indent=1).encode()


def accounting(folder: KafkaFolder) -> pl.DataFrame:
    with folder.store() as store:
        return store.accounting.totals()


STRANGE: dict[bytes | None, str] = {
    None: "message is empty",
    b"": "message is empty",
    b"\x00\x01\xfe": "message is not JSON",
    b"{" * 500: "message is not JSON",
    b"3": "message is neither an object nor an array of objects",
    b"x" * 70_000: "message is longer than 65536 bytes",
    b"y" * 3_000_000: "message is longer than 65536 bytes",
}


def test_strange_messages_are_rejected_with_reason_and_position(kafka: Broker, tmp_path: Path) -> None:
    limits = "[streams.visit]\nmax_message_bytes = 65536\n"
    folder = KafkaFolder.on(tmp_path / "strange", kafka, "strange", models=False, shop=True)
    folder.config.write_text(folder.config.read_text().replace("[streams.visit]\n", limits))
    for name in folder.names:
        kafka.create(f"strange-{name}", config={"max.message.bytes": "4000000"})
    producer = Producer({"bootstrap.servers": kafka.address, "message.max.bytes": 4_000_000})
    for number, message in enumerate(STRANGE):
        producer.produce("strange-visit", record(number))
        producer.produce("strange-visit", message)
    producer.flush()
    with folder.service():
        until(folder.worked_off, "everything is committed")
    folder.close()
    rejected = lake_rows(folder, "rejected").sort("offset")
    assert rejected["offset"].to_list() == [2 * number + 1 for number in range(len(STRANGE))]
    for reason, expected in zip(rejected["reason"].to_list(), STRANGE.values(), strict=True):
        assert reason.startswith(expected)
    assert lake_rows(folder, "visit")["offset"].to_list() == [2 * number for number in range(len(STRANGE))]
    [visits] = accounting(folder).filter(stream="visit").to_dicts()
    assert (visits["messages"], visits["on_time"], visits["rejected"]) == (14, 7, 7)


def test_new_partitions_are_read_and_lag_tools_see_it(kafka: Broker, tmp_path: Path) -> None:
    folder = KafkaFolder.on(tmp_path / "grown", kafka, "grown", models=False, shop=True)
    feed = Feed([folder], 4000, 3, 1, pause=0.0)
    with folder.service():
        feed.run()
        until(folder.worked_off, "the first partitions are committed")
        admin = AdminClient({"bootstrap.servers": kafka.address})
        for grown in admin.create_partitions([NewPartitions(f"grown-{name}", 5) for name in folder.names]).values():
            grown.result(30)
        producer = Producer({"bootstrap.servers": kafka.address})
        for number in range(200):
            producer.produce("grown-visit", record(number), partition=number % 5)
        producer.flush()
        until(lambda: len(folder.ends()) == 20 and folder.worked_off(), "the new partitions are committed")

        def lag() -> int:
            status = describe_topic(parse_address(folder.url("visit")), KafkaSettings(), ("hackwatch-main",))
            assert len(status.partitions) == 5
            return status.unread_messages

        until(lambda: lag() == 0, "the group has everything")
    folder.close()
    assert int(accounting(folder)["messages"].sum()) == feed.messages + 200
    assert set(lake_rows(folder, "visit")["partition"].to_list()) == set(range(5))


def test_markers_of_transactions_leave_no_lag_and_no_trace(kafka: Broker, tmp_path: Path) -> None:
    folder = KafkaFolder.on(tmp_path / "marked", kafka, "marked", models=False, shop=True)
    for name in folder.names:
        kafka.create(f"marked-{name}")
    producer = Producer({"bootstrap.servers": kafka.address, "transactional.id": "marked"})
    producer.init_transactions(30)

    def transaction(number: int) -> None:
        producer.begin_transaction()
        producer.produce("marked-visit", record(number))
        producer.flush()
        (producer.abort_transaction if number % 3 == 0 else producer.commit_transaction)(30)

    for life in range(2):
        with folder.service():
            for number in range(10):
                transaction(10 * life + number)
            until(folder.worked_off, "markers are passed")
    folder.close()
    kept = [number for number in range(20) if number % 3]
    assert sorted(lake_rows(folder, "visit")["status"].to_list()) == [200 + number for number in kept]
    assert int(accounting(folder)["messages"].sum()) == len(kept)
