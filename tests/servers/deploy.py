"""What tests of deploy/ share: helm and compose, which only say what they make of a file, and the command line."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from hackwatch.cli import main
from tests.servers.process import parts

__all__ = ["compose_model", "helm", "missing", "needs_tools", "understood"]


def missing() -> str | None:
    """Why the programs cannot run here; None if they can."""
    there = all((parts("deploy") / name).is_file() for name in ("helm", "compose", "made-from"))
    return None if there else "no helm and compose for tests: run tools/servers/deploy"


needs_tools = pytest.mark.skipif(missing() is not None, reason=missing() or "")


def compose_model(file: Path, folder: Path) -> dict[str, Any]:
    """A compose file as `docker compose` understands it; AssertionError with its complaint if it does not."""
    done = _run([parts("deploy") / "compose", "-format", "json", file], folder)
    assert done.returncode == 0, done.stderr
    model: dict[str, Any] = json.loads(done.stdout)
    return model


def helm(command: str, chart: Path, folder: Path, *options: str) -> list[dict[str, Any]]:
    """What `helm lint` or `helm template` prints, as objects; AssertionError with its complaint if it fails.

    `folder`: for helm's own files.
    """
    release = ["hackwatch"] if command == "template" else []
    done = _run([parts("deploy") / "helm", command, *release, chart, *options], folder)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return [item for item in yaml.safe_load_all(done.stdout) if item] if command == "template" else []


def understood(words: list[str]) -> str:
    """The command that hackwatch takes these arguments for, like "feed simulate", without doing what they ask.

    Raises what hackwatch itself would say if it does not understand them.
    """
    group: click.Group = main
    context, rest = click.Context(main, info_name="hackwatch"), list(words)
    while True:
        found, command, rest = group.resolve_command(context, rest)
        assert command is not None
        if not isinstance(command, click.Group):
            return command.make_context(str(found), rest, parent=context).command_path.partition(" ")[2]
        group, context = command, click.Context(command, info_name=found, parent=context)


def _run(command: list[Path | str], folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "HOME": str(folder), "HELM_CACHE_HOME": str(folder), "HELM_CONFIG_HOME": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=folder, timeout=120, check=False)
