"""The command `rules`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hackwatch.cli import main
from hackwatch.detect.rules.files import shipped_files
from tests.rules.test_load import GOOD


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result


def test_list_shows_the_rules_in_force(tmp_path: Path) -> None:
    own, settings = tmp_path / "own.toml", tmp_path / "hackwatch.toml"
    own.write_text(GOOD)
    settings.write_text(f'[detection]\nrules = ["{own}"]\n')
    listed = json.loads(run("--config", str(settings), "rules", "list", "--json").stdout)
    shipped = sum(text.count("[[rule]]") for _, text in shipped_files())
    assert len(listed) == len(run("--config", str(settings), "rules", "list").stdout.splitlines())
    assert "mine" in {rule["id"] for rule in listed}
    settings.write_text(f'[detection]\nrules = ["{own}"]\nshipped_rules = false\n')
    assert len(run("--config", str(settings), "rules", "list").stdout.splitlines()) == 1
    assert len(listed) == shipped - 1 + 1, "the commented example in the head of the file is an override"


@pytest.mark.parametrize("stream", ["process", "memory"])
def test_list_of_one_stream(stream: str) -> None:
    assert {line.split()[1] for line in run("rules", "list", "--stream", stream).stdout.splitlines()} == {stream}


def test_show_tells_all_of_a_rule() -> None:
    shown = run("rules", "show", "short-lived-burst").stdout
    for wanted in (
        "A burst of short-lived processes",
        "T1059 execution",
        "100 records",
        "within 60 s",
        "finished AND",
        "fires on",
    ):
        assert wanted in shown
    assert "hackwatch rules list" in run("rules", "show", "none", code=2).output


def test_check_reports_every_problem_with_its_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(GOOD)
    assert "ok: 1 rules of these files" in run("rules", "check", str(good)).stdout
    bad.write_text(GOOD.replace('"mine"', '"other"', 1).replace("CPU > 0.5", "cpu > 0.5").replace("high", "bad"))
    output = run("rules", "check", str(good), str(bad), code=2).output
    assert f"{bad}:7: severity must be one of" in output
    bad.write_text(GOOD.replace('"mine"', '"other"', 1).replace("CPU > 0.5", "cpu > 0.5"))
    assert f"{bad}:6: unknown column 'cpu'" in run("rules", "check", str(bad), code=2).output
    assert "cannot be read" in run("rules", "check", str(tmp_path / "none.toml"), code=2).output
