"""The command `rules`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hackwatch.cli import main
from hackwatch.detect.rules.files import shipped_files
from tests.rules.test_load import GOOD
from tests.third.shop import SHOP, shop_all_along
from tests.third.support import RULES

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")


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


@pytest.fixture
def ours(tmp_path: Path) -> str:
    """Settings that name the rules of the shop."""
    settings = tmp_path / "hackwatch.toml"
    settings.write_text(f'[detection]\nrules = ["{RULES}"]\n')
    return str(settings)


@pytest.mark.parametrize("stream", SHOP)
def test_list_of_one_stream(ours: str, stream: str) -> None:
    listed = run("--config", ours, "rules", "list", "--stream", stream).stdout.splitlines()
    assert {line.split()[1] for line in listed} == {stream}


def test_show_tells_all_of_a_rule(ours: str) -> None:
    shown = run("--config", ours, "rules", "show", "shop-stuffing").stdout
    for wanted in (
        "A client tries one password after another",
        "T1110 credential-access",
        "5 records",
        "within 60 s",
        "failed = 1 AND",
        "fires on",
    ):
        assert wanted in shown
    assert "hackwatch rules list" in run("--config", ours, "rules", "show", "none", code=2).output


def test_check_reports_every_problem_with_its_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(GOOD)
    assert "ok: 1 rules of these files" in run("rules", "check", str(good)).stdout
    other = GOOD.replace('"mine"', '"other"', 1).replace("seconds > 0.5", "Seconds > 0.5")
    bad.write_text(other.replace("high", "bad"))
    output = run("rules", "check", str(good), str(bad), code=2).output
    assert f"{bad}:7: severity must be one of" in output
    bad.write_text(other)
    assert f"{bad}:6: unknown column 'Seconds'" in run("rules", "check", str(bad), code=2).output
    assert "cannot be read" in run("rules", "check", str(tmp_path / "none.toml"), code=2).output
