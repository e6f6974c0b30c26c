"""What forges and git are told to run is what people run: `.ci/run`, `make lint`; on every Python that is promised."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROMISED = sorted(
    re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["project"]["classifiers"]), re.MULTILINE),
    key=lambda version: int(version.partition(".")[2]),
)
GITHUB, GITLAB = ROOT / ".github" / "workflows" / "ci.yml", ROOT / ".gitlab-ci.yml"


def parsed(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def planned(target: str, venv: str = ".venv") -> list[str]:
    """The commands of a target of the Makefile, and of those that it needs."""
    command = ["make", "--dry-run", "--no-print-directory", target, f"VENV={venv}"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_github_runs_what_ci_runs_on_every_python() -> None:
    (job,) = parsed(GITHUB)["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert job["strategy"]["matrix"] == {"python": PROMISED}
    assert job["env"]["PYTHON"] == "python${{ matrix.python }}"
    set_up = [step for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python@")]
    assert [step["with"]["python-version"] for step in set_up] == ["${{ matrix.python }}"]


def test_a_pull_request_can_write_nothing() -> None:
    workflow = parsed(GITHUB)
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML reads the key `on` as true


def test_gitlab_runs_what_ci_runs_on_every_python() -> None:
    (job,) = parsed(GITLAB).values()
    assert job["script"] == [".ci/run"]
    assert job["parallel"]["matrix"] == [{"VERSION": PROMISED}]
    assert "$VERSION" in job["image"]
    assert job["variables"]["PYTHON"] == "python$VERSION"


def test_the_least_python_is_among_those_that_are_tested() -> None:
    assert PROJECT["project"]["requires-python"] == f">={PROMISED[0]}"
    assert PROJECT["tool"]["mypy"]["python_version"] == PROMISED[0]


@pytest.mark.parametrize("file", [GITHUB, GITLAB], ids=["GitHub", "GitLab"])
def test_no_network_address_is_named(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert "://" not in text
    assert all(name.startswith("actions/") for name in re.findall(r"uses: (\S+)", text))


def test_ci_runs_the_tests_in_strict_mode() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "export HACKWATCH_TEST_STRICT=1" in script
    assert script.rstrip().endswith("exec make test")


def test_git_checks_what_make_lint_checks() -> None:
    (source,) = parsed(ROOT / ".pre-commit-config.yaml")["repos"]
    assert source["repo"] == "local"
    assert [hook["entry"] for hook in source["hooks"]] == planned("lint")
    for hook in source["hooks"]:
        assert (hook["language"], hook["pass_filenames"]) == ("system", False)


def test_soak_tests_are_run_by_make_soak_alone() -> None:
    """They are marked slow too, so that `-m "not slow"` leaves them out."""
    markers = {target: re.findall(r'-m "?([^"\n]+)"?', "\n".join(planned(target))) for target in ("test", "soak")}
    assert markers["soak"] == ["soak"]
    assert len(markers["test"]) == 3
    for expression, alone in product(markers["test"], (True, False)):
        assert not eval(expression, {}, {"slow": True, "soak": True, "alone": alone}), expression
