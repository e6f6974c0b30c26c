"""The same messages through both engines: equal rows, windows, attacks and alerts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hackwatch.pipeline.enriched import IDENTITY
from hackwatch.spark.progress import Board
from tests.engine.kafka_folder import KafkaFolder
from tests.engine.processes import NAMES, Folder, Outcome, feed
from tests.routes.test_kafka import sent
from tests.servers.kafka import Broker
from tests.servers.spark import missing
from tests.spark.support import SPARK, assert_same, on_spark, work_off_embedded

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

RECORDS = 6000


def assert_everything_occurred(found: Outcome) -> None:
    """The days have in them what this is about: out of order, late, repeated, malformed, attacks."""
    for name in ("late", "duplicate", "rejected", "suspects"):
        assert found.accounting[name].sum() > 20, name
    assert len(found.tables["attacks"]) > 20
    assert {kind for kind, *_ in found.alerts.values()} >= {"attack", "rule"}


@pytest.fixture
def operators(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Spark has said of the operators with state."""
    seen: list[dict[str, Any]] = []

    def publish(board: Board, progress: Mapping[str, Mapping[str, Any]]) -> None:
        for told in progress.values():
            seen.extend(dict(operator) for operator in told.get("stateOperators", ()))
        before(board, progress)

    before = Board.publish
    monkeypatch.setattr(Board, "publish", publish)
    return seen


def test_spool_folders(spark: SparkSession, operators: list[dict[str, Any]], tmp_path: Path) -> None:
    """In two parts, so that state is carried over in every query; batches are small."""
    embedded, sparkling = Folder.make(tmp_path / "embedded"), Folder.make(tmp_path / "spark", more=SPARK)
    for part in (1, 2):
        for folder in (embedded, sparkling):
            feed(folder, RECORDS, seed=part)
        work_off_embedded(embedded)
        on_spark(sparkling, spark)
    found = Outcome.of(sparkling)
    assert_same(found, Outcome.of(embedded))
    assert_everything_occurred(found)
    assert {operator["operatorName"] for operator in operators} == {"stateStoreSave", "symmetricHashJoin"}
    assert not sum(operator["numRowsDroppedByWatermark"] for operator in operators), "Spark drops nothing on time"


def test_kafka_topics(spark: SparkSession, kafka: Broker, tmp_path: Path) -> None:
    """Both engines read the same topics, and send the same enriched records."""
    for name in NAMES:
        kafka.create(f"parity-{name}", 2)
    topic = "parity-{}-enriched"
    embedded, sparkling = (
        KafkaFolder.on(tmp_path / name, kafka, "parity", more=more + enriched(kafka, topic.format(name)))
        for name, more in (("embedded", ""), ("spark", SPARK))
    )
    for part in (1, 2):
        feed(embedded, RECORDS, seed=part)
        work_off_embedded(embedded)
        on_spark(sparkling, spark)
    embedded.close()
    found = Outcome.of(sparkling)
    assert_same(found, Outcome.of(embedded))
    assert_everything_occurred(found)
    messages = [records(kafka, topic.format(name)) for name in ("embedded", "spark")]
    assert messages[0] == messages[1]
    assert len(messages[0]) == sum(len(found.tables[name]) for name in NAMES)


def enriched(broker: Broker, topic: str) -> str:
    return f'\n[kafka]\nenriched = "{broker.url(topic)}"\n'


def records(broker: Broker, topic: str) -> dict[str, dict[str, Any]]:
    """The enriched records of a topic by their position, without what tells one run from the other."""
    found = {}
    for message in sent(broker, topic, 2):
        record = json.loads(message.value())
        place = ":".join(str(record[name]) for name in ("stream", *IDENTITY))
        found[place] = {name: value for name, value in record.items() if name not in ("epoch", "processing_time")}
    return found
