"""Every command that reads or changes the store does so whichever database it is, and wherever."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hackwatch.cli import main
from hackwatch.store import open_store
from tests.servers.postgres import PASSWORD
from tests.store.support import alert, commit, windows
from tests.views.test_live import status

Run = Callable[..., Result]


@pytest.fixture
def run(address: str, tmp_path: Path) -> Run:
    """Runs a command in a data folder without anything of an engine in it; none may print the password."""
    config = tmp_path / "hackwatch.toml"
    config.write_text(f"[store]\nurl = {json.dumps(address)}\n[[routes]]\nname = 'out'\ntype = 'stdout'\n")

    def invoke(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, ["--config", str(config), "--data", str(tmp_path / "elsewhere"), *arguments])
        assert result.exit_code == code, result.output
        assert "p%40ss" not in result.output
        assert PASSWORD not in result.output
        return result

    return invoke


@pytest.fixture
def filled(run: Run, address: str) -> Run:
    """An engine has run, raised an alert, and is gone."""
    with open_store(address, site="local") as store:
        store.statuses.write("main", status(state="stopped"))
        store.outbox.set_routes(["out"])
        store.checkpoints.log_batches("main", [], [alert(1, created=1_700_000_000.5)])
        counted = windows(("visit", "4", 120, 240, 9, 2, 1, False))
        store.checkpoints.commit_epoch("main", commit(1, 1, counted=counted))
    return run


def test_before_an_engine_has_run_there_is_nothing(run: Run) -> None:
    for command in (["alerts", "list"], ["status"], ["top", "--once"]):
        assert "hackwatch run" in run(*command, code=4).stderr
    assert json.loads(run("sql", "--tables", "--format", "json").stdout) == []


def test_alerts_are_listed_decided_and_muted(filled: Run) -> None:
    assert "a scan by 4" in filled("alerts", "list").stdout
    key = alert(1).id
    assert json.loads(filled("alerts", "show", key, "--json").stdout)["status"] == "new"
    filled("alerts", "ack", key, "--note", "mine")
    assert filled("alerts", "list").stdout.rstrip().endswith("(acknowledged)")
    shown = json.loads(filled("alerts", "show", key, "--json").stdout)
    assert (shown["status"], shown["note"]) == ("acknowledged", "mine")
    filled("alerts", "ack", key, "--close")
    assert json.loads(filled("alerts", "show", key, "--json").stdout)["status"] == "closed"
    filled("alerts", "mute", "--entity", "4", "--for", "1h")
    assert "4" in filled("alerts", "mutes").stdout
    assert filled("alerts", "list", "--status", "all", "--site", "elsewhere").stdout.count(key[:8]) == 0
    exported = filled("alerts", "export", "--status", "all", "--site", "local").stdout
    assert [json.loads(line)["id"] for line in exported.splitlines()] == [key]


def test_it_is_asked_in_sql(filled: Run) -> None:
    query = "SELECT a.rule, w.suspects, o.state FROM alerts a, windows w, outbox o"
    assert json.loads(filled("sql", query, "--format", "json").stdout) == [
        {"rule": "correlated-suspects", "suspects": 2, "state": "waiting"}
    ]
    listed = {row["table_name"] for row in json.loads(filled("sql", "--tables", "--format", "json").stdout)}
    assert {"windows", "alerts", "accounting", "outbox", "mutes", "pipelines"} <= listed


def test_it_is_looked_at_from_anywhere(filled: Run) -> None:
    view = json.loads(filled("top", "--json").stdout)
    assert (view["state"], view["pipeline"], len(view["alerts"])) == ("stopped", "main", 1)
    assert "HIGH      4: a scan" in filled("top", "--once").stdout
    assert json.loads(filled("status", "--json", code=1).stdout)["state"] == "stopped"
    assert "1" in filled("routes", "list").stdout


def test_the_doctor_looks_at_it(run: Run, filled: Run) -> None:
    findings = json.loads(run("doctor", "--json").stdout)["findings"]
    (found,) = [finding for finding in findings if finding["name"] == "store"]
    assert found["level"] == "ok"


@pytest.mark.slow
def test_the_doctor_says_when_it_cannot_be_reached(tmp_path: Path) -> None:
    config = tmp_path / "hackwatch.toml"
    config.write_text('[store]\nurl = "postgresql://ann:hunter2@127.0.0.1:1/d"\n')
    result = CliRunner().invoke(main, ["--config", str(config), "--data", str(tmp_path / "data"), "doctor"])
    assert result.exit_code == 4
    assert "fault  store" in result.stdout
    assert "postgresql://ann@127.0.0.1:1/d: the store cannot be reached" in result.stdout
    assert "-> look whether the server runs" in result.stdout
    assert "hunter2" not in result.output
