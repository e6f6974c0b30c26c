"""The same messages through both engines: equal rows, windows, attacks and alerts."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from hackwatch.runtime.enriched_topic import IDENTITY
from tests.engine.kafka_folder import KafkaFolder
from tests.engine.processes import NAMES, Folder, Outcome, feed
from tests.routes.test_kafka import sent
from tests.servers.kafka import Broker
from tests.servers.spark import missing
from tests.spark.support import SPARK, assert_same, on_spark, work_off_embedded
from tests.streams.support import record
from tests.third.support import SHOP, shop

__all__ = ["shop"]

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

RECORDS = 6000
#: Fields of an enriched record that tell one run, and the models made for it, from another.
OF_A_RUN = ("epoch", "processing_time", "model")


def assert_everything_occurred(found: Outcome) -> None:
    """The days have in them what this is about: out of order, late, repeated, malformed, attacks."""
    for name in ("late", "duplicate", "rejected", "suspects"):
        assert found.accounting[name].sum() > 20, name
    assert len(found.tables["attacks"]) > 20
    assert {kind for kind, *_ in found.alerts.values()} >= {"attack", "rule"}


@pytest.mark.usefixtures("shop")
def test_spool_folders(spark: SparkSession, tmp_path: Path) -> None:
    """In two parts, so that state is carried over in every query; batches are small.

    Hosts, and a family of another kind beside them.
    """
    embedded, sparkling = (
        Folder.make(tmp_path / name, more=more, shop=True) for name, more in (("embedded", ""), ("spark", SPARK))
    )
    for part in (1, 2):
        for folder in (embedded, sparkling):
            feed(folder, RECORDS // 2, seed=part)
        work_off_embedded(embedded)
        on_spark(sparkling, spark)
    found = Outcome.of(sparkling)
    assert_same(found, Outcome.of(embedded))
    assert_everything_occurred(found)
    assert set(SHOP) <= {stream for _, stream, *_ in found.alerts.values()}
    assert all(len(found.tables[name]) > RECORDS // 4 for name in SHOP)


#: Each unlike its default, and unlike that of the other stream.
OWN_SETTINGS = {
    "[streams.process]": "window_seconds = 60\nlateness_seconds = 4.0\nalert_on_suspect = true",
    "[streams.memory]": "window_seconds = 300\nlateness_seconds = 8.0\nletterless_kib = true\nmax_message_bytes = 1024",
    "[alerts]": "suppress_seconds = 60",
}


def test_settings_mean_the_same_to_both(spark: SparkSession, tmp_path: Path) -> None:
    folders = {
        name: Folder.make(tmp_path / name, more=f"[correlation]\nseconds = 5.0\n{more}")
        for name, more in (("embedded", ""), ("spark", SPARK))
    }
    for folder in folders.values():
        text = folder.config.read_text()
        for table, lines in OWN_SETTINGS.items():
            text = text.replace(f"{table}\n", f"{table}\n{lines}\n")
        folder.config.write_text(text)
        feed(folder, RECORDS)
        with folder.writers() as writers:
            for size in ("5", "5K", "x" * 2000):
                writers["memory"].append([json.dumps(record("memory", VSIZE=size, uuid=size)).encode()])
    work_off_embedded(folders["embedded"])
    on_spark(folders["spark"], spark)
    found = Outcome.of(folders["spark"])
    assert_same(found, Outcome.of(folders["embedded"]))
    assert {name: set(lengths(found, name)) for name in NAMES} == {"process": {60}, "memory": {300}}
    apart = found.tables["attacks"].select((pl.col("process_event_time") - pl.col("memory_event_time")).abs().max())
    assert apart.item() < timedelta(seconds=5)
    late = {name: found.tables[name]["late"].mean() for name in NAMES}
    assert late["process"] > late["memory"] > 0.04, "2 % are late by the usual 20 s"  # type: ignore[operator]
    assert {"anomaly", "attack", "rule"} <= {kind for kind, *_ in found.alerts.values()}
    sizes = found.tables["memory"].filter(CMD="mysqld", machine="4", PID=3081)["VSIZE"]
    assert sizes.to_list() == [5 * 1024, 5 * 1024]
    assert "message is longer than 1024 bytes" in found.tables["rejected"]["reason"].to_list()


def lengths(found: Outcome, stream: str) -> list[int]:
    """Of all windows of a stream, seconds."""
    return found.windows.filter(stream=stream).select(pl.col("end") - pl.col("start")).to_series().to_list()


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
        found[place] = {name: value for name, value in record.items() if name not in OF_A_RUN}
    return found
