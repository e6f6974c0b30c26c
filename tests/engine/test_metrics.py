"""A running engine tells Prometheus what its store, registry and routes hold: every metric, scraped over HTTP."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hackwatch import metrics
from hackwatch.counts import OUTCOMES
from hackwatch.store import StoredAlert
from tests.engine.processes import FAULTS, NAMES, Folder, simulated, until

pytestmark = pytest.mark.slow

RECORDS = 8_000
SETTINGS = """
[metrics]
port = {port}
[[routes]]
name = "soc"
type = "file"
path = "{alerts}"
"""


@dataclass
class Scrape:
    """What the endpoint said: (name, labels) -> value."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict)

    @classmethod
    def of(cls, port: int) -> Scrape:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        families = text_string_to_metric_families(text)
        return cls({(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples})

    def sum(self, name: str, **labels: str) -> float:
        """Over all samples of the name with these labels; a name that is not there is an error."""
        found = [
            value for (one, of), value in self.samples.items() if one == name and labels.items() <= dict(of).items()
        ]
        assert found, f"{name} {labels} is not told"
        return sum(found)

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(of)[label] for (one, of) in self.samples if one == name}


@dataclass(frozen=True)
class Run:
    """A scrape of an engine that has worked everything off, and what it left in its store."""

    scrape: Scrape
    accounting: pl.DataFrame
    alerts: list[StoredAlert]
    epoch: int
    models: dict[str, str | None]
    sent: int
    start: float
    at: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def feed_from(folder: Folder, start: float) -> None:
    """Records of 20 s, each with a field that nobody knows."""
    with folder.writers() as writers:
        for batch in simulated(RECORDS, 1, FAULTS, start=start):
            for name in NAMES:
                payload = getattr(batch, name)
                replace(payload, data=payload.data.replace(b'"uuid":', b'"rack":1,"uuid":')).write_to(writers[name])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    port, path = free_port(), tmp_path_factory.mktemp("metrics")
    told = path / "alerts.ndjson"
    folder = Folder.make(path / "run")
    folder.config.write_text(folder.config.read_text() + SETTINGS.format(port=port, alerts=told))
    with folder.run() as engine:
        engine.started()
        start = time.time() - 120
        feed_from(folder, start)
        until(folder.worked_off, "everything is committed")
        until(lambda: len(alerts_of(folder)) == sent_to(told), "all alerts are sent")
        # What waits for a route is looked at every five seconds.
        until(lambda: ("hackwatch_route_pending", frozenset({("route", "soc")})) in Scrape.of(port).samples, "chores")
        time.sleep(0.5)
        scrape, at = Scrape.of(port), time.time()
        with folder.store() as store:
            checkpoint = store.checkpoints.latest("main")
            assert checkpoint is not None
            models = {name: folder.registry.current(name) for name in NAMES}
            totals, alerts = store.accounting.totals(), alerts_of(folder)
            yield Run(scrape, totals, alerts, checkpoint.epoch, models, sent_to(told), start, at)
        engine.stop()


def alerts_of(folder: Folder) -> list[StoredAlert]:
    with folder.store() as store:
        return store.triage.alerts(limit=None)


def sent_to(file: Path) -> int:
    return len({json.loads(line)["id"] for line in file.read_text().splitlines()}) if file.exists() else 0


def test_every_metric_is_told(run: Run) -> None:
    """But for those of what this engine does not do: it reads no Kafka."""
    told = {name for name, _ in run.scrape.samples}
    for family in metrics.REGISTRY.collect():
        names = {f"{family.name}{end}" for end in ("", "_total", "_count")}
        assert names & told or family.name == "hackwatch_lag_messages", family.name


@pytest.mark.parametrize("name", NAMES)
def test_records_are_counted_as_in_the_store(run: Run, name: str) -> None:
    for row in run.accounting.filter(stream=name).iter_rows(named=True):
        place = {"stream": name, "partition": str(row["partition"])}
        assert run.scrape.sum("hackwatch_messages_total", **place) == row["messages"] > 0
        assert run.scrape.sum("hackwatch_suspects_total", **place) == row["suspects"]
        for outcome in OUTCOMES:
            assert run.scrape.sum("hackwatch_records_total", **place, outcome=outcome) == row[outcome] > 0
        assert run.scrape.sum("hackwatch_lag_bytes", **place) == 0
    known = int(run.accounting.filter(stream=name)["records"].sum())
    assert 0.9 * known < run.scrape.sum("hackwatch_unknown_fields_total", stream=name) <= known


def test_alerts_and_what_became_of_them(run: Run) -> None:
    assert run.scrape.sum("hackwatch_alerts_total") == len(run.alerts) == run.sent > 0
    for alert in run.alerts:
        assert run.scrape.sum("hackwatch_alerts_total", kind=alert.kind, severity=alert.severity) > 0
    assert run.scrape.sum("hackwatch_route_messages_total", route="soc", outcome="sent") == run.sent
    assert run.scrape.sum("hackwatch_route_messages_total", route="soc", outcome="dead") == 0
    assert run.scrape.sum("hackwatch_route_pending", route="soc") == 0


@pytest.mark.parametrize("name", NAMES)
def test_time_model_and_latency(run: Run, name: str) -> None:
    """The newest records are 20 s after the first, and the watermark is 20 s behind them."""
    age = run.scrape.sum("hackwatch_watermark_age_seconds", stream=name)
    assert age == pytest.approx(run.at - run.start, abs=15)
    assert run.scrape.sum("hackwatch_model_info", stream=name, version=str(run.models[name])) == 1
    assert run.scrape.labels("hackwatch_model_info", "version") == set(run.models.values())
    assert run.scrape.sum("hackwatch_latency_seconds_count", stream=name) > 0
    assert run.scrape.sum("hackwatch_latency_seconds_sum", stream=name) > 1


def test_epochs_batches_and_state(run: Run) -> None:
    assert run.scrape.sum("hackwatch_epoch") == run.epoch >= 1
    assert run.scrape.sum("hackwatch_epoch_seconds_count") == run.epoch
    assert run.scrape.sum("hackwatch_batch_seconds_count") > 0
    assert run.scrape.labels("hackwatch_lake_write_seconds_count", "table") == {*NAMES, "attacks", "rejected"}
    for state in ("windows_process", "windows_memory", "duplicates_process", "correlation", "suppression"):
        assert run.scrape.sum("hackwatch_state_rows", state=state) > 0
    assert run.scrape.sum("hackwatch_engine_state", hackwatch_engine_state="running") == 1
