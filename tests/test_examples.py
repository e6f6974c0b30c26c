"""The examples do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hackwatch import streams
from hackwatch.detect.registry import Registry
from hackwatch.detect.rules import load_rules
from hackwatch.store import open_store
from tests.store.support import alert, commit, windows

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_training_in_a_notebook(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "train_in_a_notebook.py"), str(tmp_path / "models")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "usually" in done.stdout
    current = Registry(tmp_path / "models").current("process")
    assert current is not None
    assert f"promoted {current}" in done.stdout


def test_asking_in_a_notebook(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    counted = windows(("process", "4", 0, 120, 9, 2, 1, True))
    with open_store(data / "store.sqlite") as store:
        store.checkpoints.log_batches("main", (), [alert(1)])
        store.checkpoints.commit_epoch("main", commit(1, 1, counted=counted))
    command = [sys.executable, str(EXAMPLES / "ask_in_a_notebook.py"), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("high: a scan by 4\n4: 9 records, 1 alerts nobody has looked at\n")


def test_own_rules() -> None:
    rules = load_rules([EXAMPLES / "own_rules.toml"], {name: streams.get(name) for name in streams.names()})
    assert rules["database-shell"].severity == "high"
    assert rules["network-scanner"].severity == "low"


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for file in EXAMPLES.iterdir():
        assert file.name == "README.md" or f"({file.name})" in listed
