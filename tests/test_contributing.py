"""CONTRIBUTING.md, followed to the letter by somebody new: every file made, every change applied, every command run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^(?:<!-- (?P<what>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
PARTS = ("src", "tests", "tools", "locks", "docs", "bench", "examples", "pyproject.toml", "README.md", "LICENSE")
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Step:
    """One block of the page. `what`: file: NAME, apply, run, run: fails."""

    what: str
    text: str
    line: int


def steps() -> Iterator[Step]:
    for block in BLOCK.finditer(PAGE):
        assert block["what"], f"line {PAGE[: block.start()].count(chr(10)) + 1}: a block that nothing runs"
        yield Step(block["what"], block["text"], PAGE[: block.start("text")].count("\n") + 1)


def wrapper(path: Path, command: str) -> None:
    path.write_text(f"#!/bin/sh\nexec {command}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with an environment that is up to date; what pip installs stays beside it."""
    folder = tmp_path_factory.mktemp("new") / "hackwatch"
    folder.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder)
    bin_ = folder / ".venv" / "bin"
    bin_.mkdir(parents=True)
    for name in ("python", "pytest", "ruff"):
        wrapper(bin_ / name, f'"{BIN / name}" "$@"')
    wrapper(bin_ / "hackwatch", f'"{BIN}/python" -m hackwatch "$@"')
    options = f'--no-index --no-deps --no-build-isolation --quiet --upgrade --target "{folder.parent}/site"'
    wrapper(bin_ / "pip", f'"{BIN}/python" -m pip "$1" {options} "$2"')
    made_from = (folder / "locks" / "dev.txt", folder / "pyproject.toml")
    (folder / ".venv" / ".made-from-dev").write_bytes(b"".join(file.read_bytes() for file in made_from))
    return folder


def run(checkout: Path, command: str) -> tuple[int, str]:
    """Exit code and output of a command, its columns parted by single spaces."""
    paths = [checkout / "src", checkout.parent / "site", *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "HACKWATCH_"))}
    environ |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=checkout, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
    )  # fmt: skip
    return done.returncode, re.sub(r"[ \u2502]+", " ", done.stdout)


def follow(checkout: Path, step: Step) -> None:
    if step.what.startswith("file: "):
        file = checkout / step.what.removeprefix("file: ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(step.text, encoding="utf-8")
    elif step.what == "apply":
        patched = subprocess.run(
            ["git", "apply", "--verbose", "-"], cwd=checkout, input=step.text, capture_output=True, text=True
        )
        assert patched.returncode == 0, f"CONTRIBUTING.md:{step.line}: {patched.stderr}"
    else:
        for part in step.text.removeprefix("$ ").split("\n$ "):
            command, *expected = part.splitlines()
            code, output = run(checkout, command)
            assert (code != 0) == (step.what == "run: fails"), f"CONTRIBUTING.md:{step.line}: {command}\n{output}"
            for line in expected:
                assert line in output, f"CONTRIBUTING.md:{step.line}: {command}\n{output}"


@pytest.mark.slow
def test_somebody_new_gets_through_it_all(checkout: Path) -> None:
    known = {"apply", "run", "run: fails"}
    found = list(steps())
    assert {step.what for step in found if not step.what.startswith("file: ")} == known
    for step in found:
        follow(checkout, step)


def test_every_file_is_named_where_people_see_it() -> None:
    files = [step.what.removeprefix("file: ") for step in steps() if step.what.startswith("file: ")]
    assert files
    for name in files:
        assert f"`{name}`:\n\n<!-- file: {name} -->" in PAGE


def test_targets_that_it_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([a-z-]+)`", PAGE))
    assert named >= {"test", "test-fast", "lint", "soak", "site"}
    assert named <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def test_the_package_that_it_makes_is_registered_as_ours_are() -> None:
    """The groups of entry points that it writes are those by which hackwatch registers its own."""
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    assert set(re.findall(r'entry-points\."([\w.]+)"', PAGE)) == set(ours)
