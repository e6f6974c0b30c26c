"""`hackwatch run` as a whole: how it ends, what it refuses, and what it takes up while it runs."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hackwatch import streams
from hackwatch.errors import ConfigurationError, DataError, HackwatchError
from hackwatch.lake import Lake
from hackwatch.store import StoredAlert
from tests.engine.processes import NAMES, Folder, Outcome, add_models, feed, until

RECORDS = 8_000


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.make(tmp_path / "run")


def system_alerts(folder: Folder) -> list[StoredAlert]:
    if not folder.committed():
        return []
    with folder.store() as store:
        return store.triage.alerts(kind="system", limit=None)


def models_in_use(folder: Folder) -> dict[str, str]:
    with folder.store() as store:
        streams_ = store.statuses.read().get("main", {}).get("streams", {})
    return {name: about["model"] for name, about in streams_.items()}


# -- how it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_soon_with_everything_committed(tmp_path: Path, number: signal.Signals) -> None:
    """The open epoch, an hour long here, is committed; nothing that it had read is left for the next engine."""
    folder = Folder.make(tmp_path / "run", epoch_seconds=3600.0)
    messages = feed(folder, RECORDS)
    with folder.run() as engine:
        until(lambda: "running" in folder.state(), "it works")
        until(lambda: seen(folder) == messages, "it has read everything")
        assert not folder.committed()
        began = time.monotonic()
        engine.send(number)
        assert engine.ended() == 0, engine.log
        assert time.monotonic() - began < 3.0
        assert "engine stopped" in engine.log
        assert "Traceback" not in engine.log
    assert folder.worked_off()
    assert folder.state() == "stopped"


def seen(folder: Folder) -> int:
    with folder.store() as store:
        status = store.statuses.read().get("main", {}).get("streams", {})
    return sum(about["messages"] for about in status.values())


@pytest.mark.slow
def test_a_second_engine_is_refused(folder: Folder) -> None:
    with folder.run() as first:
        first.started()
        with folder.run() as second:
            assert second.ended() == 4, second.log
            assert f"process {first.process.pid}" in second.log
            assert "--data" in second.log
            assert "Traceback" not in second.log
        assert first.alive
        first.stop()


def ruin_store(folder: Folder) -> None:
    (folder.data / "store.sqlite").write_bytes(b"this is not a database, whatever its name says" * 100)


def ruin_rules(folder: Folder) -> None:
    rules = folder.path / "own.toml"
    rules.write_text('[[rules]]\nid = "x"\ntitle = = "y"\n')
    with folder.config.open("a") as config:
        config.write(f'[detection]\nrules = ["{rules}"]\n')


def ruin_settings(folder: Folder) -> None:
    folder.config.write_text("[engine]\nepoch_seconds = -1\n")


ENDS: list[tuple[str, Callable[[Folder], None], int, str]] = [
    ("a damaged store", ruin_store, 3, "store.sqlite"),
    ("a rule file that is no TOML", ruin_rules, 2, "own.toml:3"),
    ("settings out of range", ruin_settings, 2, "hackwatch.toml:2"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("ruin", "code", "where"), [end[1:] for end in ENDS], ids=[end[0] for end in ENDS])
def test_what_it_cannot_start_with(tmp_path: Path, ruin: Callable[[Folder], None], code: int, where: str) -> None:
    """Says what, where and what to do next, with the exit code of who must act."""
    folder = Folder.make(tmp_path / "run", models=False)
    folder.config.write_text("")
    folder.data.mkdir(mode=0o700)
    ruin(folder)
    with folder.run() as engine:
        assert engine.ended() == code, engine.log
        assert where in engine.log
        assert "Traceback" not in engine.log


# -- what is damaged ---------------------------------------------------------------------------------------------------


DAMAGES: dict[str, str] = {
    "no JSON": "UPDATE state SET snapshot = CAST('{\"policy\"' AS BLOB) WHERE name = 'state'",
    "another shape": "UPDATE state SET snapshot = CAST('{}' AS BLOB) WHERE name = 'state'",
    "wrong values": "UPDATE state SET snapshot = CAST('[1, 2]' AS BLOB) WHERE name = 'state'",
    "no Arrow": "UPDATE state SET snapshot = CAST('garbage' AS BLOB) WHERE name LIKE 'correlation%'",
    "empty": "UPDATE state SET snapshot = CAST('' AS BLOB) WHERE name LIKE 'correlation%'",
    "one part gone": "DELETE FROM state WHERE name = 'state'",
    "cut off": "UPDATE state SET snapshot = substr(snapshot, 1, length(snapshot) / 2) WHERE name LIKE 'corr%'",
}


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder that an engine has worked in."""
    folder = Folder.make(tmp_path_factory.mktemp("worked") / "run")
    feed(folder, RECORDS)
    with folder.service():
        until(folder.worked_off, "everything is committed")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named(worked: Folder, tmp_path: Path, damage: str) -> None:
    """Going on from half a state would give wrong windows for ever: it is refused, with advice."""
    folder = Folder(tmp_path / "run")
    shutil.copytree(worked.path, folder.path)
    with sqlite3.connect(folder.data / "store.sqlite") as connection:
        assert connection.execute(damage).rowcount > 0
    connection.close()
    with pytest.raises(DataError) as caught, folder.service() as engine:
        engine.join(30.0)
    assert "checkpoint" in str(caught.value)
    assert caught.value.next_step is not None


@pytest.mark.slow
def test_an_engine_that_has_nothing_to_do_tells_the_epoch_that_it_went_on_from(worked: Folder, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "run")
    shutil.copytree(worked.path, folder.path)
    before = epoch(folder)
    with folder.service():
        until(lambda: folder.state() == "running", "it works")
        assert epoch(folder) == before > 0


def epoch(folder: Folder) -> int:
    with folder.store() as store:
        return int(store.statuses.read()["main"]["epoch"])


@pytest.mark.slow
def test_a_new_store_beside_an_old_lake_loses_nothing(worked: Folder, tmp_path: Path) -> None:
    """The store is lost and moved away: the topics are read from their start, and every record is in the lake again.

    A new store counts its epochs from 1: the lake must not take them for those that it has.
    """
    folder = Folder(tmp_path / "run")
    shutil.copytree(worked.path, folder.path)
    before = Outcome.of(folder)
    for file in folder.data.glob("store.sqlite*"):
        file.unlink()
    with folder.service():
        until(folder.worked_off, "everything is committed")
    after = Outcome.of(folder)
    assert after.windows.equals(before.windows)
    assert after.alerts == before.alerts
    for name in NAMES:
        assert len(after.tables[name]) == 2 * len(before.tables[name])
        assert after.tables[name].unique(("partition", "offset", "index")).height == before.tables[name].height


@pytest.mark.slow
def test_what_the_clock_calls_old_is_not_old_in_a_replay(worked: Folder) -> None:
    """The records are years old. Housekeeping keeps the windows that the replay has just counted."""
    with worked.store() as store:
        windows = store.windows.find()
    assert windows["end"].max() < time.time() - 365 * 86_400  # type: ignore[operator]  # an integer column
    with worked.service():
        time.sleep(7.0)  # housekeeping comes every five seconds
    with worked.store() as store:
        assert store.windows.find().equals(windows)


# -- models ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_promoted_while_it_runs_is_taken_up(folder: Folder) -> None:
    feed(folder, RECORDS)
    with folder.service():
        until(folder.worked_off, "everything is committed")
        versions = add_models(folder, seed=2)
        until(lambda: models_in_use(folder) == versions, "the new models score")
        feed(folder, RECORDS, seed=2)
        until(folder.worked_off, "everything is committed")
        folder.registry.rollback(streams.get("process"))
        until(lambda: models_in_use(folder)["process"] != versions["process"], "the old model scores again")
    assert system_alerts(folder) == []


def ruin_model(folder: Folder, version: str) -> None:
    for file in (folder.data / "models" / "process" / version).iterdir():
        if file.name != "bundle.json":
            file.write_bytes(file.read_bytes()[:-10] + b"0123456789")


def ruin_document(folder: Folder, version: str) -> None:
    (folder.data / "models" / "process" / version / "bundle.json").write_text("{")


def remove_version(folder: Folder, version: str) -> None:
    shutil.rmtree(folder.data / "models" / "process" / version)


def ruin_pointer(folder: Folder, version: str) -> None:
    (folder.data / "models" / "process" / "current.json").write_text("{")


RUINS = [ruin_model, ruin_document, remove_version, ruin_pointer]


@pytest.mark.slow
@pytest.mark.parametrize("ruin", RUINS, ids=[ruin.__name__ for ruin in RUINS])
def test_a_damaged_model_leaves_the_old_one_at_work(
    folder: Folder, tmp_path: Path, ruin: Callable[[Folder, str], None]
) -> None:
    """It comes in the place of the good one at once: the engine refuses it, says so once, and goes on."""
    home = folder.data / "models" / "process"
    good = str(folder.registry.current("process"))
    hidden = tmp_path / "process"
    with folder.service():
        feed(folder, RECORDS // 4)
        until(folder.worked_off, "everything is committed")
        # Made ready elsewhere, so that the engine never sees it whole.
        shutil.copytree(home, hidden)
        other = Folder(tmp_path / "other")
        shutil.copytree(folder.data / "models", other.data / "models")
        shutil.copy(folder.config, other.config)
        bad = add_models(other, seed=3)["process"]
        ruin(other, bad)
        for path in (other.data / "models" / "process").iterdir():
            if path.name == bad:
                shutil.copytree(path, home / bad)
        os.replace(other.data / "models" / "process" / "current.json", home / "current.json")
        until(lambda: system_alerts(folder), "it says that it refused the model")
        feed(folder, RECORDS // 4, seed=2)
        until(folder.worked_off, "everything is committed")
        assert models_in_use(folder)["process"] == good
        time.sleep(0.5)
    alerts = system_alerts(folder)
    assert [alert.rule for alert in alerts] == ["model-refused"], "once, not with every look"
    assert good in alerts[0].title
    rows = Lake(folder.data / "lake").scan("process").select("score").collect()
    assert (rows["score"] > 0).any()


def test_an_engine_without_any_model_works_with_rules_alone(tmp_path: Path) -> None:
    folder = Folder.make(tmp_path / "run", models=False)
    messages = feed(folder, RECORDS // 4)
    with folder.service():
        until(folder.worked_off, "everything is committed")
    with folder.store() as store:
        assert int(store.accounting.totals()["messages"].sum()) == messages
        assert {alert.kind for alert in store.triage.alerts()} <= {"rule", "window"}


def test_a_corrupt_rule_file_names_file_and_line(tmp_path: Path) -> None:
    folder = Folder.make(tmp_path / "run", models=False)
    folder.config.write_text("")
    folder.data.mkdir(mode=0o700)
    ruin_rules(folder)
    with pytest.raises(ConfigurationError, match=r"own\.toml:3"), folder.service() as engine:
        engine.join(30.0)


def test_all_its_errors_say_what_to_do(tmp_path: Path) -> None:
    folder = Folder.make(tmp_path / "run", models=False)
    folder.data.mkdir(mode=0o700)
    ruin_store(folder)
    with pytest.raises(HackwatchError) as caught, folder.service() as engine:
        engine.join(30.0)
    assert caught.value.where is not None
    assert caught.value.next_step is not None
