"""The demo: its own data, its cached detectors, its truth, and one real run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hackwatch import streams
from hackwatch.config import prepare_data_folder
from hackwatch.demo import demo_settings
from hackwatch.demo.evaluator import Evaluator, Finding, names
from hackwatch.demo.folders import cache_folder, data_folder
from hackwatch.demo.training import Trainer
from hackwatch.detect.registry import Registry
from hackwatch.errors import ConfigurationError, ResourceError
from hackwatch.families.host.simulate import Episode
from hackwatch.families.host.simulate.simulator import truth
from hackwatch.runtime.lock import EngineLock
from hackwatch.store import open_store
from hackwatch.threads import ThreadGroup
from hackwatch.top import Story
from tests.conftest import mode
from tests.top.support import alert
from tests.top.test_terminal import Terminal

ATTACK = truth(Episode("dos", "web-1", 1000.0, 1060.0, (("hping3", 0), ("slowhttptest-long", 0)), 1.0))


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# ---------------------------------------------------------------------------------------------- its folders


def test_the_data_of_the_last_demo_gives_way_to_the_next() -> None:
    folder = data_folder(None)
    assert folder == cache_folder() / "data"
    assert mode(folder) == 0o700
    (folder / "lake").mkdir()
    (folder / "lake" / "file").touch()
    (folder / "store.sqlite").touch()
    assert data_folder(None) == folder
    assert {entry.name for entry in folder.iterdir()} == {"engine.lock"}


def test_a_demo_at_work_is_left_alone() -> None:
    folder = data_folder(None)
    (folder / "store.sqlite").touch()
    with EngineLock(folder / "engine.lock"), pytest.raises(ResourceError, match="another engine"):
        data_folder(None)
    assert (folder / "store.sqlite").exists()


def test_a_folder_with_other_data_is_refused(tmp_path: Path) -> None:
    given = prepare_data_folder(tmp_path / "mine")
    assert data_folder(given) == given
    (given / "store.sqlite").touch()
    with pytest.raises(ConfigurationError, match="empty data folder"):
        data_folder(given)


def test_no_setting_of_the_user_plays_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hackwatch.toml").write_text('[[routes]]\nname = "boss"\ntype = "stdout"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HACKWATCH_DATA", str(tmp_path / "real"))
    settings = demo_settings(tmp_path / "demo")
    assert settings.data == tmp_path / "demo"
    assert settings.routes == ()


# ---------------------------------------------------------------------------------------------- its detectors


@pytest.mark.slow
@pytest.mark.alone
def test_detectors_are_trained_once(tmp_path: Path) -> None:
    def trainer(name: str, seed: int = 3) -> tuple[Trainer, Registry]:
        models = Registry(tmp_path / name)
        return Trainer(streams.demo_family(), models, seed, Story(time.time), threading.Event()), models

    first, models = trainer("first")
    assert not first.from_cache()
    first.train()
    second, again = trainer("second")
    assert second.from_cache()
    for stream in ("process", "memory"):
        assert again.load(stream).threshold == models.load(stream).threshold
    assert not trainer("third", seed=4)[0].from_cache()
    (damaged,) = cache_folder().glob("models-*/process/process-*/model.ubj")
    damaged.write_bytes(b"?")
    assert not trainer("fourth")[0].from_cache()
    assert not list(cache_folder().glob("models-*"))


def test_training_ends_when_all_stops(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    threads = ThreadGroup(stop)
    models = Registry(tmp_path / "models")
    threads.start("trainer", Trainer(streams.demo_family(), models, 1, Story(time.time), stop).train)
    threads.join()
    assert not (tmp_path / "models").exists()


def test_what_fails_in_a_thread_stops_all_and_is_raised() -> None:
    threads = ThreadGroup(threading.Event())
    threads.start("waits", threads.stop.wait)
    threads.start("fails", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        threads.join()


# ---------------------------------------------------------------------------------------------- its truth


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"entity": "web-2"}, False),
        ({"subjects": ("sh",)}, False),
        ({"subjects": ("sh", "slowhttptest-l")}, True),
        ({"first_seen": 900.0, "last_seen": 998.0}, False),
        ({"first_seen": 900.0, "last_seen": 1001.0}, True),
        ({"first_seen": 1089.0, "last_seen": 1089.0}, True),
        ({"first_seen": 1091.0, "last_seen": 1091.0}, False),
    ],
    ids=["same", "elsewhere", "another program", "a cut name", "before", "goes on", "just after", "long after"],
)
def test_an_alert_names_an_attack(changes: dict[str, Any], same: bool) -> None:
    found = alert(**{"first_seen": 1003.0, "last_seen": 1004.0, "created": 1005.0, **changes})
    assert names(found, ATTACK) == same


@pytest.mark.parametrize(("created", "seconds"), [(1001.5, 1.5), (999.0, None)])
def test_an_alert_from_before_tells_no_time(created: float, seconds: float | None) -> None:
    assert Finding(ATTACK, alert(created=created)).seconds == seconds


def test_the_story_tells_of_a_find_once(tmp_path: Path) -> None:
    story = Story(lambda: 1000.0)
    evaluator = Evaluator(story)
    with open_store(tmp_path / "store.sqlite") as store:
        evaluator.begins(ATTACK)
        assert [note.tone for note in evaluator.look(store.triage)] == ["truth"]
        found = {"first_seen": 1003.0, "last_seen": 1004.0, "created": 1002.5, "title": "t"}
        store.checkpoints.log_batches("main", (), [alert(**found), alert(**found, id="b" * 32, entity="db-1")])
        for _ in range(2):
            told = evaluator.look(store.triage)
            assert [note.text for note in told][1:] == ["found: dos on web-1, 2.5 s after its begin"]
        assert evaluator.unfounded(store.triage) == 1


# ---------------------------------------------------------------------------------------------- the real thing


def processes_of(session: int) -> list[int]:
    """Processes that belong to a session, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.platform
@pytest.mark.skipif(sys.platform != "linux", reason="looks for left processes in /proc")
def test_the_demo_finds_an_attack_within_20_seconds_and_leaves_nothing_running() -> None:
    began = time.time()
    demo = subprocess.Popen(
        [sys.executable, "-m", "hackwatch", "demo", "--duration", "25", "--plain", "--seed", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    told, errors = demo.communicate(timeout=120)
    ended = time.time()
    assert (demo.returncode, errors) == (0, "")
    assert ended - began < 25 + 8, "to start Python is part of it"
    assert not processes_of(demo.pid)
    (first, *_) = re.findall(
        r"^(\S+ \S+)Z  (?:HIGH|CRITICAL) .* is suspect in process and memory \(.+, usually ", told, re.M
    )
    assert datetime.fromisoformat(first).replace(tzinfo=UTC).timestamp() - began < 20
    assert "simulated: dos on" in told
    assert "found: dos on" in told
    assert re.search(r"^attacks simulated: \d+; found by the detectors of both streams together: [1-9]", told, re.M)
    assert "alerts list" in told


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("after", ["watched by rules", "found: "], ids=["while it trains", "at work"])
def test_a_signal_ends_it_within_3_seconds(number: signal.Signals, after: str) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "hackwatch", "demo", "--plain", "--seed", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert demo.stdout is not None
    while after not in demo.stdout.readline():
        assert demo.poll() is None
    time.sleep(0.5)
    os.kill(demo.pid, number)
    sent = time.monotonic()
    told, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (0, "")
    assert time.monotonic() - sent < 3
    assert "The data stays in" in told
    assert not processes_of(demo.pid)


@pytest.mark.slow
@pytest.mark.alone
def test_in_a_terminal_it_draws_what_it_finds_and_leaves_the_terminal_as_it_was() -> None:
    """As `make demo` starts it: a screen, until a person types q."""
    terminal = Terminal("demo", "--seed", "1")
    try:
        terminal.expect("simulated machines at work", 60)
        terminal.expect("found: ", 60)
        terminal.type(b"q")
        assert terminal.end(30) == 0
        assert terminal.restored
        told = terminal.written.decode(errors="replace")
        assert "attacks simulated: " in told.rpartition("\x1b[?1049l")[2], "the summary stays on the terminal"
        assert not processes_of(terminal.process.pid)
    finally:
        terminal.close()
