"""Where an optional part is not installed, the command that needs it says which extra to install; nothing breaks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_house import PROJECT

SETTINGS = """
[[routes]]
name = "mail"
type = "apprise"
url = "mailto://nobody:secret@example.org"
"""
#: Runs hackwatch as if a package were not there.
WITHOUT = "import sys; sys.modules[sys.argv.pop(1)] = None; from hackwatch.cli import main; main()"


@dataclass(frozen=True)
class Case:
    """A command that needs a package, and the settings that make it so."""

    extra: str
    package: str
    command: str
    settings: str = ""


CASES = [
    Case("apprise", "apprise", "routes test mail", SETTINGS),
    Case("kafka", "confluent_kafka", "topics describe kafka://127.0.0.1:1/t"),
    Case("kafka", "confluent_kafka", "run --duration 1", '[streams.process]\ntopic = "kafka://127.0.0.1:1/t"\n'),
    Case("kafka", "confluent_kafka", "top --from kafka://127.0.0.1:1/t --once"),
    Case("plot", "matplotlib", "top --from topic --once --save-plot chart.png"),
    Case("postgres", "psycopg", "alerts list", '[store]\nurl = "postgresql://me@127.0.0.1:1/db"\n'),
    Case("postgres", "psycopg", "run --duration 1", '[store]\nurl = "postgresql://me@127.0.0.1:1/db"\n'),
    Case("s3", "obstore", "lake statistics", '[lake]\npath = "s3://bucket/lake"\n'),
    Case("s3", "obstore", "models list", '[detection]\nmodels = "s3://bucket/models"\n'),
    Case("spark", "pyspark", "run --engine spark"),
    Case("spark", "pyspark", "train --as process --lake --engine spark"),
    Case("tune", "optuna", "train --as process --simulated --records 1000 --tune 1"),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.extra}: {case.command}")
def test_a_missing_extra_is_named(tmp_path: Path, case: Case) -> None:
    (tmp_path / "hackwatch.toml").write_text(case.settings)
    (tmp_path / "topic").mkdir()
    command = [sys.executable, "-c", WITHOUT, case.package, "--data", str(tmp_path / "data"), *case.command.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 4, done.stderr
    assert f"pip install 'hackwatch[{case.extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_every_extra_is_among_the_cases() -> None:
    assert {case.extra for case in CASES} | {"bench"} == set(PROJECT["project"]["optional-dependencies"])
