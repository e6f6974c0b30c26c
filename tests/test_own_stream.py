"""A stream that another package registers works everywhere, and nothing else is changed for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

START = 1_700_006_400
ENTRY = "[hackwatch.streams]\ndisk = disk_stream:STREAM\n"
METADATA = "Metadata-Version: 2.1\nName: disk-stream\nVersion: 1.0\n"
RULE = """
[[rule]]
id = "disk-eater"
title = "A program writes as if there were no end"
stream = "disk"
where = "WRDSK >= 1073741824 AND DSK > 0.5"
severity = "medium"
must_fire = [{ WRDSK = 2147483648, DSK = 0.9 }]
must_not_fire = [{ WRDSK = 2147483648, DSK = 0.1 }]
"""
SETTINGS = """
[detection]
rules = ["rule.toml"]
[streams.disk]
letterless_kib = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the package of the example as if it were installed, settings and a rule."""
    package = tmp_path / "site"
    (package / "disk_stream-1.0.dist-info").mkdir(parents=True)
    (package / "disk_stream-1.0.dist-info" / "METADATA").write_text(METADATA)
    (package / "disk_stream-1.0.dist-info" / "entry_points.txt").write_text(ENTRY)
    shutil.copy(ROOT / "examples" / "disk_stream.py", package)
    (tmp_path / "hackwatch.toml").write_text(SETTINGS)
    (tmp_path / "rule.toml").write_text(RULE)
    return tmp_path


def hackwatch(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "hackwatch", "--data", str(folder / "data"), *arguments]
    paths = [str(folder / "site"), os.environ.get("PYTHONPATH", "")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def record(number: int, **more: Any) -> dict[str, Any]:
    usual = {"machine": f"web-{number % 2}", "PID": 100 + number % 20, "RDDSK": f"{number}K", "WRDSK": str(number % 7)}
    return {**usual, "WCANCL": "0K", "DSK": "1%", "CMD": "postgres", "ts": START + number, **more}


def test_feed_engine_rules_lake_and_training_know_it(folder: Path) -> None:
    rows = [record(number) for number in range(400)]
    rows[50] = record(50, PID=666, CMD="fill", WRDSK="2.0G", DSK="90%")
    rows[60] = record(60, WRDSK="much")
    file = folder / "disk.ndjson"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    hackwatch(folder, "normalise", str(file), "--as", "disk", "-o", "disk.parquet")
    assert pl.read_parquet(folder / "disk.parquet").height == 399
    hackwatch(folder, "train", str(file), "--as", "disk", "--method", "unsupervised")
    hackwatch(folder, "feed", "follow", str(file), "--as", "disk", "--from-start", "--duration", "2")
    hackwatch(folder, "run", "--duration", "3")

    def ask(query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(hackwatch(folder, "sql", query, "--format", "json"))
        return found

    assert ask("SELECT count(*) AS n, max(WRDSK) AS most, min(WRDSK) AS least FROM disk") == [
        {"n": 399, "most": float(2 << 30), "least": 0.0}
    ]
    assert ask("SELECT score > 0 AS scored, count(*) AS n FROM disk GROUP BY ALL") == [{"scored": True, "n": 399}]
    [rejected] = ask("SELECT stream, reason FROM rejected")
    assert rejected["stream"] == "disk"
    assert rejected["reason"].startswith("WRDSK: not a size")
    [alert] = ask("SELECT kind, stream, entity, subject, rule FROM alerts WHERE rule = 'disk-eater'")
    assert alert == {"kind": "rule", "stream": "disk", "entity": "web-0", "subject": "fill", "rule": "disk-eater"}
    windows = ask("SELECT entity, sum(records)::BIGINT AS n FROM windows WHERE stream = 'disk' GROUP BY ALL ORDER BY 1")
    assert windows == [{"entity": "web-0", "n": 199}, {"entity": "web-1", "n": 200}]
