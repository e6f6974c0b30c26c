"""`hackwatch status` is a probe: its exit code says whether the engine is alive, its output how far it is."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hackwatch.cli import main
from hackwatch.store import open_store

STREAM = {
    "messages": 10, "records": 1_250_000, "on_time": 8, "late": 1, "duplicate": 0, "rejected": 7, "suspects": 2,
    "rate": 5.0, "lag_bytes": 3 << 20, "watermark": None, "model": "visit-000001-ab12", "threshold": 0.5,
    "arrivals": {"web-1": [0] * 60}, "suspect_arrivals": {},
}  # fmt: skip


def say(data: Path, **changes: Any) -> None:
    """What an engine says of itself, in a data folder."""
    data.mkdir(mode=0o700, exist_ok=True)
    now = time.time()
    told: Mapping[str, Any] = {
        "pipeline": "main", "pid": 7, "site": "berlin", "started": now - 3600, "updated": now, "state": "running",
        "epoch": 4, "epoch_age": 2.0, "rate": 1_234.0, "latency_ms": {"p50": 5.0, "p99": 9.0},
        "streams": {"visit": STREAM, "login": {**STREAM, "model": None, "lag_bytes": 0, "lag_messages": 1_200}},
        **changes,
    }  # fmt: skip
    with open_store(data / "store.sqlite") as store:
        store.statuses.write("main", told)


def status(data: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["--data", str(data), "status", *options])


@pytest.mark.parametrize(
    ("state", "silent", "options", "code"),
    [
        ("running", 0.0, (), 0),
        ("recovering", 20.0, (), 0),
        ("paused: no space left on device", 1.0, (), 0),
        ("running", 40.0, (), 1),
        ("running", 40.0, ("--max-age", "60"), 0),
        ("running", 5.0, ("--max-age", "2"), 1),
        ("paused: no space left on device", 60.0, (), 1),
        ("stopped", 0.0, (), 1),
    ],
)
def test_an_engine_is_alive_if_it_spoke_lately_and_did_not_say_goodbye(
    tmp_path: Path, state: str, silent: float, options: tuple[str, ...], code: int
) -> None:
    data = tmp_path / "data"
    say(data, state=state, updated=time.time() - silent)
    assert status(data, *options).exit_code == code
    told = json.loads(status(data, "--json", *options).stdout)
    assert told["healthy"] is (code == 0)
    assert told["state"] == state
    assert silent <= told["age"] <= silent + 30


def test_people_read_what_it_said(tmp_path: Path) -> None:
    say(tmp_path / "data", updated=time.time() - 45)
    assert status(tmp_path / "data").stdout.splitlines() == [
        "running (silent), said 45 s ago by process 7",
        "pipeline main of site berlin, up 59 min",
        "epoch 4 committed 47 s ago, 1,234 records/s, a micro-batch in 5 ms (p99 9 ms)",
        "visit: 1.25M records, 1 late, 7 rejected, 2 suspects; 3 MiB to read; model visit-000001-ab12",
        "login: 1.25M records, 1 late, 7 rejected, 2 suspects; 1,200 messages to read; model none",
    ]


def test_scripts_get_every_figure_but_the_machines(tmp_path: Path) -> None:
    say(tmp_path / "data")
    told = json.loads(status(tmp_path / "data", "--json").stdout)
    assert told["streams"]["visit"]["lag_bytes"] == 3 << 20
    assert told["streams"]["visit"]["rejected"] == 7
    assert "arrivals" not in told["streams"]["visit"]
    assert (told["site"], told["epoch"], told["rate"]) == ("berlin", 4, 1_234.0)


def test_no_engine_yet_is_an_error_that_says_so(tmp_path: Path) -> None:
    done = status(tmp_path / "data")
    assert done.exit_code == 4
    open_store(tmp_path / "store.sqlite").close()
    done = status(tmp_path)
    assert done.exit_code == 4
    assert "no engine has run the pipeline main" in done.stderr
    assert "next: start one with: hackwatch run" in done.stderr


def test_words_from_the_store_cannot_command_a_terminal(tmp_path: Path) -> None:
    say(tmp_path / "data", state="paused: \x1b[2J")
    assert "\x1b" not in status(tmp_path / "data").stdout
