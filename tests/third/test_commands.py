"""A family of another kind beside that of hosts, which stays on: every command knows its streams as it knows those.

One engine works off all four streams; the commands that look are asked afterwards.
"""

from __future__ import annotations

import csv
import io
import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from hackwatch import topics
from hackwatch.cli import main
from hackwatch.families.host.simulate import Faults, generate
from tests.engine.processes import Folder, add_models, until
from tests.engine.test_metrics import free_port
from tests.third.support import RULES, SHOP, hackwatch, labelled, shop_all_along

__all__ = ["shop_all_along"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shop_all_along")]

RECORDS = 4_000
NAMES = ("process", "memory", *SHOP)
FAULTS = Faults(disorder_seconds=5, late_share=0.02, malformed_share=0.01)
SETTINGS = f"""
[detection]
rules = ["{RULES}"]
drift_alerts = false
[metrics]
port = {{port}}
[engine]
status_seconds = 0.1
[[routes]]
name = "soc"
type = "file"
path = "sent.ndjson"
[streams.visit]
alert_on_suspect = true
[streams.login]
duplicates_key = "uuid"
"""


@dataclass(frozen=True)
class Run:
    """A data folder whose topics are worked off, and what its engine told Prometheus."""

    folder: Folder
    metrics: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def ask(self, *arguments: str) -> str:
        """What a command prints."""
        where = ["--config", str(self.folder.config), "--data", str(self.folder.data)]
        done = CliRunner().invoke(main, [*where, *arguments])
        assert done.exit_code == 0, f"{arguments}: {done.output}"
        return done.stdout

    def sql(self, query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ask("sql", query, "--format", "json"))
        return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, shop_all_along: None) -> Run:
    path, port = tmp_path_factory.mktemp("beside") / "house", free_port()
    folder = Folder(path, NAMES)
    path.mkdir(mode=0o700)
    folder.config.write_text(SETTINGS.format(port=port))
    add_models(folder, seed=1)
    fill(folder)
    with folder.run() as engine:
        until(lambda: folder.worked_off() or not engine.alive, "everything is committed")
        assert engine.alive, engine.log
        until(lambda: (folder.path / "sent.ndjson").exists() or not engine.alive, "alerts are sent")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            told = text_string_to_metric_families(answer.read().decode())
        engine.stop()
    return Run(folder, {(s.name, frozenset(s.labels.items())): s.value for family in told for s in family.samples})


def fill(folder: Folder) -> None:
    """The same minutes in the topics of all streams."""
    import shop_simulator

    with folder.writers() as writers:
        for batch in generate(RECORDS, 1, machines=4, records_per_second=20, faults=FAULTS):
            batch.process.write_to(writers["process"])
            batch.memory.write_to(writers["memory"])
        for visited in shop_simulator.generate(RECORDS, 1, records_per_second=20, faults=FAULTS, identified=True):
            visited.visit.write_to(writers["visit"])
            visited.login.write_to(writers["login"])


# ---------------------------------------------------------------------------------------------- what the engine did


@pytest.mark.parametrize("name", NAMES)
def test_every_record_is_in_the_lake_or_accounted_for(run: Run, name: str) -> None:
    [row] = run.sql(f"SELECT count(*) AS rows, sum(late::INT)::BIGINT AS late, max(score) > 0 AS scored FROM {name}")
    with run.folder.store() as store:
        counts = store.accounting.totals().filter(stream=name).select(pl.col(pl.Int64).sum()).row(0, named=True)
    assert counts["messages"] == counts["records"] == RECORDS // 2
    assert counts["on_time"] + counts["late"] + counts["duplicate"] + counts["rejected"] == counts["records"]
    assert (row["rows"], row["late"]) == (counts["on_time"] + counts["late"], counts["late"])
    assert row["scored"]
    assert min(counts["late"], counts["rejected"], counts["suspects"]) > 0
    [rejected] = run.sql(f"SELECT count(*) AS n FROM rejected WHERE stream = '{name}'")
    assert rejected["n"] == counts["rejected"]


@pytest.mark.parametrize("name", SHOP)
def test_its_windows_are_those_of_clients(run: Run, name: str) -> None:
    with run.folder.store() as store:
        windows = store.windows.find(limit=1_000_000).filter(stream=name)
        on_time = store.accounting.totals().filter(stream=name)["on_time"].sum()
    assert windows["records"].sum() == on_time
    assert windows["entity"].str.contains(r"^[\d.]+$").all()
    assert windows["entity"].n_unique() > 1000


def test_its_rules_name_the_client_and_what_it_did(run: Run) -> None:
    rows = run.sql("SELECT stream, entity, subject, technique FROM alerts WHERE rule = 'shop-traversal'")
    assert {row["stream"] for row in rows} == {"visit"}
    assert {row["technique"] for row in rows} == {"T1083"}
    assert all(row["entity"].startswith("203.0.113.") and ".." in row["subject"] for row in rows)
    storms = run.sql("SELECT stream, entity, subject FROM alerts WHERE rule = 'shop-stuffing'")
    assert {row["stream"] for row in storms} == {"login"}
    assert all(row["subject"].startswith("user-") for row in storms)


def test_a_suspect_alone_alerts_where_asked_for(run: Run) -> None:
    rows = run.sql("SELECT DISTINCT stream FROM alerts WHERE rule = 'suspect'")
    assert rows == [{"stream": "visit"}]


def test_hosts_are_watched_as_ever(run: Run) -> None:
    [attacks] = run.sql("SELECT count(*) AS n, count(DISTINCT machine) AS machines FROM attacks")
    assert attacks["n"] > 0
    [windows] = run.sql("SELECT count(DISTINCT entity) AS machines FROM windows WHERE stream = 'process'")
    assert windows["machines"] == 4


def test_alerts_are_delivered(run: Run) -> None:
    sent = [json.loads(line) for line in (run.folder.path / "sent.ndjson").read_text().splitlines()]
    assert {"process", "visit", "login"} <= {alert["stream"] for alert in sent}


# ---------------------------------------------------------------------------------------------- who looks


@pytest.mark.parametrize("name", NAMES)
def test_metrics_count_it(run: Run, name: str) -> None:
    told = {metric for metric, labels in run.metrics if ("stream", name) in labels}
    host = {metric for metric, labels in run.metrics if ("stream", "process") in labels}
    assert told == host
    records = [value for (metric, labels), value in run.metrics.items()
               if metric == "hackwatch_records_total" and ("stream", name) in labels]  # fmt: skip
    assert sum(records) == RECORDS // 2


def test_status_says_how_far_it_is(run: Run) -> None:
    with_streams = json.loads(status(run))["streams"]
    assert set(with_streams) == set(NAMES)
    for name in NAMES:
        assert with_streams[name]["records"] == RECORDS // 2
        assert with_streams[name]["model"].startswith(name)


def status(run: Run) -> str:
    """Of an engine that has ended: not healthy, which is an exit code of its own."""
    where = ["--config", str(run.folder.config), "--data", str(run.folder.data)]
    return CliRunner().invoke(main, [*where, "status", "--json"]).stdout


def test_top_shows_it(run: Run) -> None:
    whole = json.loads(run.ask("top", "--json"))
    assert set(whole["streams"]) == set(NAMES)
    text = run.ask("top", "--once")
    assert all(name in text for name in NAMES)
    assert "203.0.113." in text


def test_top_shows_its_panel(run: Run) -> None:
    """Its greatest keys are those of the table, in the last minute that had begun at the stream's watermark."""
    whole = json.loads(run.ask("top", "--json"))
    [panel] = whole["panels"]
    rows = run.sql(
        "SELECT keys->>'server' AS server, sum((measures->>'visits')::BIGINT)::BIGINT AS visits FROM aggregates "
        f"WHERE aggregate = 'servers' AND epoch(start_time)::BIGINT = {panel['start']} "
        "GROUP BY ALL ORDER BY visits DESC, server LIMIT 3"
    )
    assert rows
    assert [{**row["keys"], "visits": row["value"]} for row in panel["rows"]] == rows
    for option in ("--once", "--plain"):
        [line] = [one for one in run.ask("top", option, "--duration", "1").splitlines() if "busiest servers" in one][:1]
        assert f"{rows[0]['server']} {rows[0]['visits']}" in line


@pytest.mark.parametrize("form", ["native", "ocsf", "ecs"])
def test_exports_hold_it(run: Run, form: str) -> None:
    lines = run.ask("alerts", "export", "--rule", "shop-traversal", "--form", form, "--limit", "5").splitlines()
    assert lines
    for line in lines:
        assert "203.0.113." in line
        assert "/../../etc/passwd" in line
        json.loads(line)


def test_a_table_of_alerts_holds_it(run: Run) -> None:
    text = run.ask("alerts", "export", "--rule", "shop-stuffing", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows
    assert {row["stream"] for row in rows} == {"login"}


def test_alerts_of_a_client_are_found(run: Run) -> None:
    [alert] = run.sql("SELECT entity, id FROM alerts WHERE stream = 'visit' LIMIT 1")
    assert alert["entity"] in run.ask("alerts", "list", "--entity", alert["entity"])
    assert alert["entity"] in run.ask("alerts", "show", alert["id"])


def test_drift_compares_it_with_its_training(run: Run) -> None:
    said = run.ask("drift")
    assert all(f"{name}: " in said for name in NAMES)


def test_rules_models_and_topics_list_it(run: Run) -> None:
    assert "shop-traversal" in run.ask("rules", "list")
    assert all(f"{name}-000001" in run.ask("models", "list") for name in SHOP)
    assert all(name in run.ask("topics", "list") for name in SHOP)


def test_doctor_and_settings_know_it(run: Run) -> None:
    assert "streams.visit.alert_on_suspect = true" in run.ask("config", "show")
    assert "this machine can run hackwatch" in run.ask("doctor")


# ---------------------------------------------------------------------------------------------- files and models


def test_a_file_is_normalised_trained_from_evaluated_detected_and_fed(tmp_path: Path) -> None:
    """In processes of their own, as one works who has just installed the family."""
    for name, method in (("visit", "supervised"), ("login", "unsupervised")):
        one, other = tmp_path / f"{name}-1.ndjson", tmp_path / f"{name}-2.ndjson"
        labelled(name, 1, 2_000).write_ndjson(one)
        labelled(name, 2, 1_000).write_ndjson(other)
        hackwatch(tmp_path, "normalise", str(other), "--as", name, "--labels", "-o", f"{name}.parquet")
        assert pl.read_parquet(tmp_path / f"{name}.parquet").height == 1_000
        hackwatch(tmp_path, "train", str(one), "--as", name, "--method", method, "--alert-budget", "0.01")
        said = json.loads(hackwatch(tmp_path, "evaluate", str(other), "--as", name, "--json"))
        assert said["roc_auc"] > 0.8
        hackwatch(tmp_path, "detect", f"{name}.parquet", "--as", name, "-o", f"{name}-detected.parquet")
        assert pl.read_parquet(tmp_path / f"{name}-detected.parquet")["prediction"].sum() > 20
    (tmp_path / "hackwatch.toml").write_text("[streams.visit]\n")
    hackwatch(tmp_path, "feed", "follow", "visit-2.ndjson", "--as", "visit", "--from-start", "--duration", "1")
    reader = topics.open_reader(str(tmp_path / "data" / "spool" / "visit"))
    assert sum(reader.end_offset(partition) for partition in reader.partitions()) > 100_000
    reader.close()
