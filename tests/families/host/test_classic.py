"""Classic producers, the plain consumer, the engine and the topic of enriched records, all on one real broker."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from hackwatch.cli import main
from hackwatch.config import load_settings
from hackwatch.errors import ResourceError
from hackwatch.families.host.simulate import labelled
from hackwatch.lake import Lake
from hackwatch.runtime.enriched_topic import IDENTITY
from hackwatch.store import open_store
from tests.engine.processes import NAMES, EngineThread, until
from tests.routes.test_kafka import sent
from tests.servers.kafka import Broker

PARTITIONS = 2


def recordings(folder: Path) -> dict[str, Path]:
    """Small CSVs as the course hands them out: what atop printed, by sequence and machine."""
    made = {}
    for name, frame in zip(NAMES, labelled(3, records=1200, machines=5), strict=True):
        made[name] = folder / f"Streaming_Linux_{name}.csv"
        frame.with_columns(pl.int_range(1, pl.len() + 1).alias("sequence")).drop("ts").write_csv(made[name])
    return made


def call(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.slow
def test_from_classic_producers_to_consumer_lake_and_enriched_topic(kafka: Broker, tmp_path: Path) -> None:
    urls = {name: kafka.create(f"{name}_stream", PARTITIONS) for name in NAMES}
    counts: dict[str, Counter[str]] = {}
    for name, csv in recordings(tmp_path).items():
        pace = ("--cycles", "4", "--speed", "20", "--seed", "7")
        told = call("feed", "replay", name, "--csv", str(csv), "--to", urls[name], *pace, "--json")
        counts[name] = classic_counts(kafka, f"{name}_stream")
        assert counts[name].total() == told["records"]
        seen = call("top", "--from", urls[name], "--from-start", "--json")
        assert {machine: found["records"] for machine, found in seen["machines"].items()} == counts[name]
        assert (seen["records"], seen["messages"], seen["unreadable"]) == (told["records"], told["messages"], 0)
    data = work_off(tmp_path, urls, kafka.url("enriched"), {name: found.total() for name, found in counts.items()})
    lake = Lake(data / "lake")
    rows = {name: lake.scan(name).collect() for name in NAMES}
    for name in NAMES:
        assert Counter(rows[name]["machine"].to_list()) == counts[name]
        assert not rows[name]["late"].any()
    messages = sent(kafka, "enriched", PARTITIONS)
    enriched = [json.loads(message.value()) for message in messages]
    assert all(message.key().decode() == record["machine"] for message, record in zip(messages, enriched, strict=True))
    for name in NAMES:
        mine = [tuple(record[field] for field in IDENTITY) for record in enriched if record["stream"] == name]
        assert sorted(mine) == sorted(rows[name].select(IDENTITY).iter_rows())


def classic_counts(broker: Broker, topic: str) -> Counter[str]:
    """Records by machine, read as the course's notebooks do: arrays of one machine's records, all values text."""
    counted: Counter[str] = Counter()
    for message in sent(broker, topic, PARTITIONS):
        records = json.loads(message.value().decode("utf-8"))
        assert isinstance(records, list)
        assert {record["machine"] for record in records} == {message.key().decode()}
        assert all(isinstance(value, str) for record in records for value in record.values())
        assert all(int(record["ts"]) > 1_700_000_000 and int(record["sequence"]) > 0 for record in records)
        counted.update(record["machine"] for record in records)
    return counted


def work_off(folder: Path, urls: dict[str, str], enriched: str, records: dict[str, int]) -> Path:
    """Run an engine until all records are committed; its data folder."""
    config = folder / "hackwatch.toml"
    tables = "".join(f'[streams.{name}]\ntopic = "{url}"\n' for name, url in urls.items())
    config.write_text(f'{tables}[kafka]\nenriched = "{enriched}"\n[engine]\nepoch_seconds = 0.5\n')
    settings = load_settings(config, {"data": folder / "data"})
    engine = EngineThread(settings)
    engine.start()
    try:
        until(lambda: engine.failure or accounted(folder / "data") == records, "all records are committed")
    finally:
        engine.stop.set()
        engine.join(60)
    assert engine.failure is None
    return folder / "data"


def accounted(data: Path) -> dict[str, int]:
    """Records on time by stream, as committed."""
    try:
        with open_store(data / "store.sqlite", read_only=True) as store:
            frame = store.accounting.totals()
    except ResourceError:  # no store yet
        return {}
    return dict(frame.group_by("stream").agg(pl.col("on_time").sum()).iter_rows())
