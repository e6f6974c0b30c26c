"""Two sites, one lake and one registry in a bucket: real engines that are killed, a server that goes away, training."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.conftest import ROOT
from tests.engine.processes import NAMES, Folder, Outcome, add_models, feed, until, work_off
from tests.servers.process import started
from tests.servers.s3 import SECRET, Server, missing

pytestmark = pytest.mark.slow
SITES = ("berlin", "madrid")
RECORDS, KILLS = 6_000, 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that may be killed; its secret is in the environment of all engines."""
    if why := missing():
        pytest.skip(why)
    with started(Server(tmp_path_factory.mktemp("s3"))) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3_SECRET", SECRET)
        yield server


def place(server: Server, bucket: str, path: Path, site: str) -> Folder:
    """A site whose lake and models are in the bucket, or in a folder that all sites see."""
    folder = Folder.make(path, models=False, more=f'site = "{site}"\n')
    text = folder.config.read_text()
    text = text.replace("[lake]\n", f'[lake]\npath = "{bucket}/lake"\n')
    text = text.replace("[detection]\n", f'[detection]\nmodels = "{bucket}/models"\n')
    # Shorter than usual, so that an engine notices soon that the server is back.
    folder.config.write_text(f'{text}{server.settings()}options = {{ connect_timeout = "1s", timeout = "5s" }}\n')
    return folder


def hackwatch(folder: Folder, *arguments: str) -> str:
    """A command with the settings of a folder, as a person would run it."""
    command = [sys.executable, "-m", "hackwatch", "--config", str(folder.config), "--data", str(folder.data)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def model_in_use(folder: Folder, stream: str) -> str | None:
    with folder.store() as store:
        status = store.statuses.read().get("main", {}).get("streams", {})
    return str(status[stream]["model"]) if status.get(stream, {}).get("model") else None


# -- killed, and the server killed -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """What two disturbed sites left, and what each left that worked alone, undisturbed and into a folder."""

    disturbed: dict[str, Outcome]
    calm: dict[str, Outcome]
    paused: dict[str, str]
    kills: int
    messages: dict[str, int]


@pytest.fixture(scope="module")
def runs(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    base, bucket, chance = tmp_path_factory.mktemp("sites"), server.bucket(), random.Random(5)
    sites = {site: place(server, bucket, base / site, site) for site in SITES}
    alone = {site: Folder.make(base / f"{site}-alone", models=False, more=f'site = "{site}"\n') for site in SITES}
    add_models(sites["berlin"], seed=1)
    for folder in alone.values():
        add_models(folder, seed=1)
    messages = dict.fromkeys(SITES, 0)
    paused, kills = {}, 0

    def feed_all(part: int) -> None:
        for number, site in enumerate(SITES):
            messages[site] += feed(sites[site], RECORDS, seed=2 * part + number)
            feed(alone[site], RECORDS, seed=2 * part + number)

    for life in range(KILLS + 1):
        feed_all(2 * life)
        with sites["berlin"].run() as berlin, sites["madrid"].run() as madrid:
            engines = {"berlin": berlin.started(), "madrid": madrid.started()}
            if life == 1:
                server.kill()
                feed_all(2 * life + 1)
                paused = _paused(sites)
                assert all(engine.alive for engine in engines.values())
                server.start()
                _running(sites)
            if life < KILLS:
                time.sleep(chance.uniform(0.1, 1.5))
                for engine in engines.values():
                    engine.kill()
                    assert engine.process.returncode == -signal.SIGKILL, engine.log
                    kills += 1
                if life % 2:
                    sites["berlin"].lake.compact("process")
            else:
                for site, engine in engines.items():
                    _worked_off(sites[site])
                    engine.stop()
    for folder in alone.values():
        work_off(folder)
    disturbed, calm = ({site: Outcome.of(folder) for site, folder in of.items()} for of in (sites, alone))
    return Runs(disturbed, calm, paused, kills, messages)


def _paused(sites: dict[str, Folder]) -> dict[str, str]:
    """What each site says that it waits for."""

    def waits(folder: Folder) -> str:
        state = folder.state()
        return state if state.startswith("paused") else ""

    return {site: str(until(partial(waits, folder), f"{site} says that it waits")) for site, folder in sites.items()}


def _running(sites: dict[str, Folder]) -> None:
    for site, folder in sites.items():
        until(partial(lambda at: at.state() == "running", folder), f"{site} goes on")


def _worked_off(folder: Folder) -> None:
    until(folder.worked_off, "everything is committed")


def _uses(folder: Folder, stream: str, version: str) -> bool:
    return model_in_use(folder, stream) == version


def test_engines_wait_visibly_while_the_server_is_away(runs: Runs) -> None:
    assert runs.kills == 2 * KILLS
    for site in SITES:
        assert "lake table" in runs.paused[site]
        assert "S3: the server cannot be reached" in runs.paused[site]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("table", [*NAMES, "attacks", "rejected"])
def test_the_shared_lake_equals_lakes_of_undisturbed_engines(runs: Runs, site: str, table: str) -> None:
    assert len(runs.disturbed[site].tables[table]) > 10
    assert_frame_equal(runs.disturbed[site].tables[table], runs.calm[site].tables[table], check_exact=True)


@pytest.mark.parametrize("site", SITES)
def test_every_message_is_there_once(runs: Runs, site: str) -> None:
    run = runs.disturbed[site]
    assert int(run.accounting["messages"].sum()) == runs.messages[site]
    kept = 0
    for name in (*NAMES, "rejected"):
        rows = run.tables[name]
        key = ["stream"] if name == "rejected" else []
        assert rows.select(*key, "partition", "offset", "index").is_unique().all()
        kept += len(rows)
    assert kept + int(run.accounting["duplicate"].sum()) == runs.messages[site]
    assert_frame_equal(run.windows, runs.calm[site].windows)
    assert _without_system(run) == _without_system(runs.calm[site])
    assert_frame_equal(run.accounting, runs.calm[site].accounting)


def _without_system(run: Outcome) -> dict[str, tuple[Any, ...]]:
    """Alerts but for those about hackwatch itself: that the registry could not be asked."""
    system = {alert[3] for alert in run.alerts.values() if alert[0] == "system"}
    assert system <= {"model-refused"}
    return {key: alert for key, alert in run.alerts.items() if alert[0] != "system"}


# -- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", ["folder", "s3"])
def test_one_training_job_reads_all_sites_and_both_engines_adopt_its_model(
    server: Server, tmp_path: Path, shared: str
) -> None:
    bucket = server.bucket() if shared == "s3" else str(tmp_path / "shared")
    sites = {site: place(server, bucket, tmp_path / site, site) for site in SITES}
    elsewhere = place(server, bucket, tmp_path / "trainer", "trainer")
    for number, folder in enumerate(sites.values()):
        feed(folder, 4000, seed=number)
    with sites["berlin"].run() as berlin, sites["madrid"].run() as madrid:
        for folder in sites.values():
            _worked_off(folder)
        rows = elsewhere.lake.scan("process").group_by("site").len().collect()
        assert sorted(rows["site"]) == sorted(SITES)
        told = hackwatch(
            elsewhere, "train", "--as", "process", "--lake", "--method", "permuted", "--trees", "5", "--json"
        )
        summary = json.loads(told)
        assert summary["records"] == rows["len"].sum(), "the records of both sites"
        for site, folder in sites.items():
            until(partial(_uses, folder, "process", summary["version"]), f"{site} uses the new model")
        assert f"* {summary['version']}" in hackwatch(elsewhere, "models", "list")
        for number, folder in enumerate(sites.values()):
            feed(folder, 1000, seed=10 + number)
        for folder in sites.values():
            _worked_off(folder)
        for engine in (berlin, madrid):
            engine.stop()
    scored = elsewhere.lake.scan("process").filter(pl.col("score").is_not_null()).group_by("site").len().collect()
    assert sorted(scored["site"]) == sorted(SITES)
