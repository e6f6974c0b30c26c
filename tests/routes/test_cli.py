"""The commands `alerts` and `routes`, over a real store."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hackwatch.cli import main
from hackwatch.store import open_store
from tests.routes.support import HOSTILE as NO_TEXT
from tests.routes.support import HttpReceiver, alert

Run = Callable[..., Result]
NOW = time.time()
#: The store holds text only, so without the half surrogate pair.
HOSTILE = NO_TEXT[:-1]
ALERTS = [
    alert(0xA000_0001 << 96, created=NOW - 7200, last_seen=NOW - 7200, severity="low", rule="network-scanner"),
    alert(0xB000_0002 << 96, created=NOW - 60, last_seen=NOW - 60, subject=HOSTILE, title=HOSTILE, entity=HOSTILE),
    alert(0xC000_0003 << 96, created=NOW - 30, last_seen=NOW - 30, severity="critical", entity="5"),
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    with open_store(tmp_path / "store.sqlite") as store:
        store.outbox.set_routes(["soc"])
        store.checkpoints.log_batches("main", [], ALERTS)
    settings = tmp_path / "hackwatch.toml"
    settings.write_text('[[routes]]\nname = "soc"\ntype = "file"\npath = "' + str(tmp_path / "out.ndjson") + '"\n')

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, ["--config", str(settings), "--data", str(tmp_path), *arguments])
        assert result.exit_code == code, result.output
        assert "\x1b" not in result.output
        return result

    return run


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        ([], "cba"),
        (["--since", "1h"], "cb"),
        (["--since", "1970-01-01"], "cba"),
        (["--since", "2100-01-01T00:00+01:00"], ""),
        (["--severity", "high"], "cb"),
        (["--severity", "critical"], "c"),
        (["--entity", "5"], "c"),
        (["--rule", "network-scanner"], "a"),
        (["--limit", "1"], "c"),
        (["--status", "acknowledged"], ""),
        (["--status", "acknowledged", "--status", "new"], "cba"),
        (["--status", "all"], "cba"),
    ],
)
def test_list_filters_the_newest_first(run: Run, filters: list[str], shown: str) -> None:
    lines = run("alerts", "list", *filters).stdout.splitlines()
    assert "".join(line[0] for line in lines) == shown
    documents = json.loads(run("alerts", "list", "--json", *filters).stdout)
    assert "".join(document["id"][0] for document in documents) == shown


@pytest.mark.parametrize("wrong", ["yesterday", "2 hours", "5", "-1h", "2h;"])
def test_a_time_that_is_none_is_explained(run: Run, wrong: str) -> None:
    assert "write 2h, 7d (ago) or 2026-01-31T12:00" in run("alerts", "list", "--since", wrong, code=2).output


def test_show_explains_one_alert(run: Run) -> None:
    shown = run("alerts", "show", "c000").stdout
    assert "CRITICAL  203.0.113.7 is suspect in visit (/.env)" in shown
    assert "9.3 s, usually 0.1 s" in shown
    assert "status    new" in shown
    assert json.loads(run("alerts", "show", "c000", "--json").stdout)["id"] == ALERTS[2].id


def test_show_of_a_hostile_name_cannot_steer_the_terminal(run: Run) -> None:
    shown = run("alerts", "show", "b000").stdout
    assert "\\x1b[2J" in shown
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


def test_show_of_no_alert_says_where_to_look(run: Run) -> None:
    assert "hackwatch alerts list" in run("alerts", "show", "ffff", code=3).output


def test_acknowledged_alerts_carry_who_and_why(run: Run) -> None:
    assert (
        run("alerts", "ack", "a000", "c000", "--note", "planned").stdout
        == "a0000001 acknowledged\nc0000003 acknowledged\n"
    )
    assert "acknowledged by" in run("alerts", "show", "a000").stdout
    assert ": planned" in run("alerts", "show", "a000").stdout
    run("alerts", "ack", "a000", "--close")
    first, second = run("alerts", "list").stdout.splitlines()
    assert (first[:8], first.endswith(" (acknowledged)")) == ("c0000003", True)
    assert (second[:8], "(" in second) == ("b0000002", False)


def test_mutes_are_made_listed_and_ended(run: Run, tmp_path: Path) -> None:
    assert "until" in run("alerts", "mute", "--rule", "nc", "--entity", "4", "--for", "2h", "--reason", HOSTILE).stdout
    listed = json.loads(run("alerts", "mutes", "--json").stdout)
    assert [(mute["rule"], mute["entity"]) for mute in listed] == [("nc", "4")]
    assert abs(listed[0]["until"] - time.time() - 7200) < 60
    assert "rule nc, entity 4" in run("alerts", "mutes").stdout
    run("alerts", "unmute", "1")
    assert run("alerts", "mutes").stdout == ""
    assert "no mute 1 is in force" in run("alerts", "unmute", "1", code=3).output
    assert "a mute needs a rule, an entity or both" in run("alerts", "mute", code=2).output


@pytest.mark.parametrize("form", ["native", "ocsf", "ecs"])
def test_export_writes_every_form_and_format(run: Run, form: str, tmp_path: Path) -> None:
    ndjson = run("alerts", "export", "--form", form).stdout.splitlines()
    assert len([json.loads(line) for line in ndjson]) == len(ALERTS)
    assert len(json.loads(run("alerts", "export", "--form", form, "--format", "json").stdout)) == len(ALERTS)
    run("alerts", "export", "--form", form, "--format", "csv", "-o", str(tmp_path / "out.csv"))
    assert len(list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))) == len(ALERTS)


def test_without_a_store_the_next_step_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--data", str(tmp_path / "none"), "alerts", "list"])
    assert result.exit_code == 4
    assert "hackwatch run" in result.output


def test_routes_are_listed_with_their_messages(run: Run) -> None:
    assert json.loads(run("routes", "list", "--json").stdout) == [
        {
            "name": "soc",
            "type": "file",
            "form": "native",
            "enabled": True,
            "minimum_severity": "informational",
            "waiting": 3,
            "done": 0,
            "failed": 0,
        }
    ]
    head, row = run("routes", "list").stdout.splitlines()
    assert "given up" in head
    assert row.split()[:4] == ["soc", "file", "native", "3"]


def test_a_test_alert_arrives(run: Run, tmp_path: Path) -> None:
    run("routes", "test", "soc")
    sent = json.loads((tmp_path / "out.ndjson").read_text())
    assert (sent["rule"], sent["severity"]) == ("route-test", "informational")
    assert "configured are: soc" in run("routes", "test", "none", code=2).output


def test_a_route_that_refuses_fails_the_test_without_printing_its_address(tmp_path: Path) -> None:
    with HttpReceiver(401) as receiver:
        settings = tmp_path / "hackwatch.toml"
        settings.write_text(f'[[routes]]\nname = "soc"\ntype = "webhook"\nurl = "{receiver.url}"\n')
        result = CliRunner().invoke(main, ["--config", str(settings), "--data", str(tmp_path), "routes", "test", "soc"])
    assert result.exit_code == 4
    assert "refused with status 401" in result.output
    assert "s3cr3t" not in result.output


def test_no_routes_say_where_alerts_stay(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--data", str(tmp_path), "routes", "list"])
    assert "no routes are configured" in result.output
