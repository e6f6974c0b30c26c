"""End to end with nothing faked: producers -> Kafka -> Spark -> Delta and PostgreSQL -> alerts on a Kafka topic."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from hackwatch.cli import main
from hackwatch.config import load_settings
from hackwatch.lake import Lake
from hackwatch.store import open_store
from tests.engine.processes import NAMES, Folder
from tests.families.host.test_classic import recordings
from tests.routes.test_kafka import sent
from tests.servers import postgres, spark
from tests.servers.kafka import Broker
from tests.spark.drivers import Driver, command
from tests.spark.support import SPARK

_WHY = spark.missing() or postgres.missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(_WHY is not None, reason=str(_WHY))]

SETTINGS = """
[[routes]]
type = "kafka"
name = "soc"
topic = "{alerts}"
[store]
url = "{store}"
[alerts]
window_warmup = 1
window_minimum = 1
[streams.process]
topic = "{process}"
alert_on_suspect = true
[streams.memory]
topic = "{memory}"
alert_on_suspect = true
"""


def replay(folder: Path, urls: dict[str, str]) -> dict[str, int]:
    """Producers of both streams, one after the other; how many records each has sent."""
    counts = {}
    for name, csv in recordings(folder).items():
        pace = ["--cycles", "4", "--speed", "20", "--seed", "7"]
        done = CliRunner().invoke(
            main, ["feed", "replay", name, "--csv", str(csv), "--to", urls[name], *pace, "--json"]
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        counts[name] = int(json.loads(done.stdout)["records"])
    return counts


def counted(store_url: str) -> dict[str, int]:
    """Records by stream, as committed."""
    with open_store(store_url, read_only=True) as store:
        frame = store.accounting.totals()
    return dict(frame.group_by("stream").agg(pl.col("records").sum()).iter_rows())


def test_from_producers_to_alerts_on_a_topic(kafka: Broker, postgres_url: str, tmp_path: Path) -> None:
    urls = {name: kafka.create(f"everything-{name}", 2) for name in NAMES}
    alerts_url = kafka.create("everything-alerts", 1)
    folder = Folder.make(tmp_path / "run")
    text = SPARK + SETTINGS.format(alerts=alerts_url, store=postgres_url, **urls)
    folder.config.write_text(text)
    open_store(postgres_url).close()
    with Driver(folder, command(folder)) as driver:
        records = replay(tmp_path, urls)
        driver.wait_for(lambda: counted(postgres_url) == records, "all records are committed")
        driver.wait_for(
            lambda: windowed(postgres_url) == sum(records.values()) and told(postgres_url), "windows and alerts"
        )
        os.kill(driver.process.pid, signal.SIGTERM)
        assert driver.ended() == 0, driver.log[-4000:]
    lake = Lake(load_settings(folder.config, {"data": folder.data}).lake_location)
    for name in NAMES:
        rows = lake.scan(name).collect()
        assert len(rows) == records[name]
        assert rows.select("partition", "offset", "index").is_unique().all()
    with open_store(postgres_url, read_only=True) as store:
        known = {alert.id for alert in store.triage.alerts(limit=None)}
    on_topic = {json.loads(message.value())["id"] for message in sent(kafka, "everything-alerts")}
    assert known == on_topic
    assert len(known) > 3


def windowed(store_url: str) -> int:
    """Records in windows."""
    with open_store(store_url, read_only=True) as store:
        return int(store.windows.find(limit=1_000_000)["records"].sum())


def told(store_url: str) -> bool:
    """Whether there are alerts, and all of them are sent."""
    with open_store(store_url, read_only=True) as store:
        counts = store.outbox.counts().get("soc", {})
    return counts.get("done", 0) > 0 and not counts.get("waiting", 0)
