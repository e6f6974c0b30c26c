"""Environments: made once from a lock, the same whatever was made before, and told apart where they must be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_forge import planned
from tests.test_house import locked


def environment(kind: str, venv: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "VENV": str(venv), **variables}
    return subprocess.run(["tools/environment", kind], cwd=ROOT, env=environ, capture_output=True, text=True)


def made(venv: Path, kind: str) -> Path:
    """An environment as if it had been made of this lock; its stamp."""
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    if not (venv / "bin" / "python").exists():
        (venv / "bin" / "python").symlink_to(Path(sys.executable))
    stamp = venv / f".made-from-{kind}"
    stamp.write_bytes((ROOT / "locks" / f"{kind}.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes())
    return stamp


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def failing_uv(tmp_path: Path) -> dict[str, str]:
    """Variables under which tools/environment finds a uv that notes what it is asked for, and fails."""
    script(tmp_path / "uv", f'[ "$1" = --version ] || {{ echo "$@" >> {tmp_path}/asked; exit 1; }}')
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NO_UV": ""}


def old_python(folder: Path) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        script(folder / name, '[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1')


def test_a_python_that_is_too_old_is_told_before_anything_is_done(tmp_path: Path) -> None:
    old_python(tmp_path)
    done = environment("runtime", tmp_path / "venv", PATH=f"{tmp_path}:/usr/bin:/bin", PYTHON="")
    assert done.returncode == 1
    assert "hackwatch needs Python 3.11 or newer; found: Python 3.9.2." in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("kind", ["runtime", "dev", "bench", "docs"])
def test_an_environment_is_made_only_once(tmp_path: Path, kind: str) -> None:
    """The stamp holds what it was made from; an unchanged one is left alone, without asking for any tool."""
    made(tmp_path, kind)
    done = environment(kind, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_pip_is_there_for_extras_where_uv_makes_the_environment_too(tmp_path: Path, failing_uv: dict[str, str]) -> None:
    """`pip install 'hackwatch[...]'` is what doctor and errors advise; another pip would not find this hackwatch."""
    environment("runtime", tmp_path / "venv", **failing_uv)
    asked = (tmp_path / "asked").read_text().split()
    assert asked[0] == "venv"
    assert "--seed" in asked


def test_what_tests_need_holds_all_that_the_program_needs(tmp_path: Path, failing_uv: dict[str, str]) -> None:
    runtime, dev = locked("runtime"), locked("dev")
    assert {name: dev.get(name) for name in runtime} == runtime
    made(tmp_path / "venv", "dev")
    assert environment("runtime", tmp_path / "venv", **failing_uv).returncode == 0
    assert not (tmp_path / "asked").exists()


def test_what_was_true_of_an_environment_is_forgotten_once_another_lock_goes_into_it(
    tmp_path: Path, failing_uv: dict[str, str]
) -> None:
    stamp = made(tmp_path / "venv", "runtime")
    assert environment("dev", tmp_path / "venv", **failing_uv).returncode != 0
    assert not stamp.exists()


def test_the_benchmark_takes_a_python_that_bytewax_knows(tmp_path: Path) -> None:
    """Where there is one; what runs everything else may be newer."""
    for name in ("python3", "python3.12"):
        script(tmp_path / name, f"case $1 in -c) exit 0 ;; --version) echo {name} ;; *) exit 1 ;; esac")
    found = {
        kind: environment(kind, tmp_path / "venv", PATH=f"{tmp_path}:/usr/bin:/bin", PYTHON="", NO_UV="1").stderr
        for kind in ("bench", "dev")
    }
    assert "(bench) with pip and python3.12;" in found["bench"]
    assert "(dev) with pip and python3;" in found["dev"]


@pytest.mark.parametrize(
    ("target", "folder"),
    [("demo", ""), ("test-fast", ""), ("lint", ""), ("soak", ""), ("bench", "-bench"), ("site", "-docs")],
)
def test_only_what_fits_together_shares_a_folder(tmp_path: Path, target: str, folder: str) -> None:
    """Of one checkout, in any order: the benchmark's packages are never seen by tests and types."""
    first, *rest = planned(target, f"{tmp_path}/env")
    assert "tools/environment" in first
    assert (f"VENV={tmp_path}/env-" in first) == bool(folder)
    assert all(f"{tmp_path}/env{folder}/bin/" in line for line in rest)


@pytest.mark.parametrize("installed", [False, True], ids=["not installed", "installed"])
def test_types_do_not_depend_on_whether_bytewax_is_installed(tmp_path: Path, installed: bool) -> None:
    """It has types for half of what it holds; `mypy` of the benchmark must pass where it is, and where it is not."""
    if installed:
        (tmp_path / "bytewax").mkdir()
        (tmp_path / "bytewax" / "__init__.py").write_text("")
        (tmp_path / "bytewax" / "operators.py").write_text("def untyped(x):\n    return x\n")
    program = tmp_path / "flow.py"
    program.write_text("from bytewax import operators as op\n\nfound: str = op.untyped(1)\n")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), str(program)]
    environ = {**os.environ, "MYPYPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
