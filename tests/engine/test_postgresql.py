"""Real engines on a store they share, while they and the server are killed: the same answers as undisturbed and alone.

What they are compared with ran on SQLite.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from tests.engine.processes import EngineProcess, Folder, Outcome, feed, until, work_off
from tests.servers.postgres import PASSWORD, Server

pytestmark = pytest.mark.slow
#: Shares of a story, each later than the one before, by their seed.
SHARE, KILLS, SEED = 5_000, 6, 11
WAITS = "paused: store"


def settings(url: str, name: str = "main", site: str = "local") -> str:
    return f'site = "{site}"\npipeline = "{name}"\n[store]\nurl = "{url}"\n'


def undisturbed(folder: Folder, at: Path, site: str = "local", name: str = "main") -> Outcome:
    """What an engine on SQLite that nobody disturbs makes of the same topics."""
    calm = Folder.make(at, more=f'site = "{site}"\npipeline = "{name}"\n')
    shutil.copytree(folder.data / "spool", calm.data / "spool")
    for committed in (calm.data / "spool").rglob("committed*"):
        committed.unlink()
    work_off(calm)
    return Outcome.of(calm)


def assert_same(run: Outcome, calm: Outcome) -> None:
    for name, table in calm.tables.items():
        assert_frame_equal(run.tables[name], table, check_exact=True)
    assert_frame_equal(run.windows, calm.windows)
    assert_frame_equal(run.accounting, calm.accounting)
    assert run.alerts == calm.alerts


def test_an_engine_killed_again_and_again(tmp_path: Path, postgres_url: str) -> None:
    folder = Folder.make(tmp_path / "run", more=settings(postgres_url), epoch_seconds=0.3)
    for seed in range(1, 4):
        feed(folder, SHARE, seed)
    chance = random.Random(SEED)
    for life in range(KILLS):
        with folder.run() as engine:
            engine.started()
            time.sleep(chance.uniform(0.0, 1.5))
            engine.kill()
            assert engine.process.returncode == -signal.SIGKILL, engine.log
        feed(folder, SHARE, 4 + life)
    work_off(folder)
    assert len(Outcome.of(folder).alerts) > 20
    assert_same(Outcome.of(folder), undisturbed(folder, tmp_path / "calm"))


def test_a_server_killed_again_and_again_under_an_engine_at_work(tmp_path: Path, own_postgres: Server) -> None:
    """The engine says that it waits for the store, goes on by itself, and every record counts once."""
    folder = Folder.make(tmp_path / "run", more=settings(own_postgres.url()), epoch_seconds=0.3)
    feed(folder, SHARE)
    chance = random.Random(SEED)
    with folder.run() as engine:
        engine.started()
        for life in range(1, 5):
            time.sleep(chance.uniform(0.0, 1.0))
            told = engine.log.count(WAITS)
            own_postgres.kill()
            feed(folder, SHARE, 1 + life)
            until(partial(_more_than, engine, told), "it says that it waits")
            assert engine.alive, engine.log
            own_postgres.start()
            until(folder.worked_off, "everything is committed")
        until(lambda: folder.state() == "running", "it says that it goes on")
        engine.stop()
        log = engine.log
    assert "the store cannot be reached" in log
    assert "p%40ss" not in log
    assert PASSWORD not in log
    assert_same(Outcome.of(folder), undisturbed(folder, tmp_path / "calm"))


def _more_than(engine: EngineProcess, told: int) -> bool:
    return engine.log.count(WAITS) > told


def test_two_sites_on_one_store(tmp_path: Path, postgres_url: str) -> None:
    """Machines of the same names, rules and times: windows, alerts, checkpoints and messages of each stay its own."""
    folders = [
        Folder.make(tmp_path / name, more=settings(postgres_url, name, site=f"at-{name}")) for name in ("one", "two")
    ]
    for folder, seed in zip(folders, (1, 2), strict=True):
        for share in (1, 1 + seed):
            feed(folder, SHARE, share)
    with folders[0].run() as first, folders[1].run() as second:
        for folder, engine in zip(folders, (first, second), strict=True):
            until(folder.worked_off, "everything is committed")
            assert engine.alive, engine.log
        for engine in (first, second):
            engine.stop()
    both = Outcome.of(folders[0])
    calm = {
        name: undisturbed(folder, tmp_path / f"calm-{name}", f"at-{name}", name)
        for name, folder in zip(("one", "two"), folders, strict=True)
    }
    assert both.alerts == calm["one"].alerts | calm["two"].alerts
    for name, folder in zip(("one", "two"), folders, strict=True):
        assert len(calm[name].alerts) > 10
        run = Outcome.of(folder)
        own = Outcome(
            run.tables,
            run.windows.filter(site=f"at-{name}"),
            run.intervals,
            {key: run.alerts[key] for key in calm[name].alerts},
            run.accounting.filter(pipeline=name),
        )
        assert_same(own, calm[name])


def test_a_pipeline_that_is_at_work_elsewhere_is_refused(tmp_path: Path, postgres_url: str) -> None:
    here, there = (Folder.make(tmp_path / name, more=settings(postgres_url), models=False) for name in ("a", "b"))
    with here.run() as engine:
        until(lambda: here.state() == "running", "the engine works")
        with there.run() as second:
            assert second.ended() == 4, second.log
            assert "another engine (process " in second.log
            assert "works on the pipeline 'main' of this store" in second.log
            assert "next: stop it, or give this engine a pipeline of its own" in second.log
            assert "p%40ss" not in second.log
        assert engine.alive, engine.log
        engine.kill()
    # The server lets go of the dead engine's lock at once, as it runs on the same machine.
    with there.run() as second:
        second.started()
        second.stop()


def test_an_engine_that_was_taken_over_ends(tmp_path: Path, postgres_url: str, postgres: Server) -> None:
    """Cut off for so long that another one began: it must not go on when it can reach the store again."""
    here, there = (Folder.make(tmp_path / name, more=settings(postgres_url), models=False) for name in ("a", "b"))
    with here.run() as first:
        until(lambda: here.state() == "running", "the engine works")
        first.send(signal.SIGSTOP)
        with postgres.connected() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = %s",
                (postgres_url.rpartition("/")[2],),
            )
        with there.run() as second:
            until(lambda: "engine started" in second.log or not second.alive, "the other begins")
            first.send(signal.SIGCONT)
            feed(here, 1000)
            assert first.ended() == 4, first.log
            assert "another engine has taken over the pipeline 'main'" in first.log
            assert second.alive, second.log
            second.stop()


def test_without_a_server_an_engine_does_not_begin(tmp_path: Path) -> None:
    address = f"postgresql://hackwatch:{PASSWORD.replace(' ', '%20')}@127.0.0.1:1/x"
    folder = Folder.make(tmp_path / "run", more=settings(address), models=False)
    with folder.run() as engine:
        assert engine.ended() == 4, engine.log
        assert "postgresql://hackwatch@127.0.0.1:1/x: the store cannot be reached: " in engine.log
        assert "next: " in engine.log
        assert "Traceback" not in engine.log
        assert "p@ss" not in engine.log
