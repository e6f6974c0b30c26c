"""How a run on Spark ends, and what it says when it cannot go on: a line or two, never pages of the JVM."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from hackwatch.errors import ConfigurationError
from hackwatch.spark.service import run_spark
from tests.engine.processes import Folder, feed
from tests.routes.support import refusing_port
from tests.servers.spark import missing
from tests.spark.drivers import Driver, command, read
from tests.spark.support import SPARK, settings_of, work_off_embedded

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


def pages(log: str) -> str:
    """The first traceback of Java in a log (errors of Python in tasks are in one), and what leads to it."""
    before, found, after = log.partition("\tat ")
    return before[-1500:] + found + after[:500] if found else ""


def test_ctrl_c_ends_it_after_the_batch_at_work(tmp_path: Path) -> None:
    """Spark has a way of its own with this signal: it cuts the work off."""
    folder = Folder.make(tmp_path / "run", more=SPARK)
    feed(folder, 500)
    with Driver(folder, command(folder)) as driver:
        driver.wait_for(lambda: "engine running" in driver.log and read(folder), "all is read")
        driver.process.send_signal(signal.SIGINT)
        assert driver.ended() == 0, driver.log[-4000:]
        assert "Aborted" not in driver.log
        assert not pages(driver.log)
    assert folder.state() == "stopped"


def test_a_checkpoint_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    checkpoint = tmp_path / "file" / "spark"
    folder = Folder.make(tmp_path / "run", more=SPARK.replace("[spark]", f'[spark]\ncheckpoint = "{checkpoint}"'))
    feed(folder, 100)
    with Driver(folder, command(folder)) as driver:
        assert driver.ended() == 4, driver.log[-4000:]
        assert f"next: see that Spark can write to the checkpoint folder {checkpoint}" in driver.log
        assert not pages(driver.log)


def test_tasks_that_fail_are_told_in_a_line_and_tried_again(tmp_path: Path) -> None:
    with refusing_port() as port:
        folder = Folder.make(tmp_path / "run", more=f'[kafka]\nenriched = "kafka://127.0.0.1:{port}/e"\n{SPARK}')
        feed(folder, 500)
        with Driver(folder, command(folder)) as driver:
            driver.wait_for(lambda: "engine paused: tasks of Spark" in driver.log, "it waits for the brokers")
            driver.process.send_signal(signal.SIGTERM)
            assert driver.ended() == 0, driver.log[-4000:]
            assert "no Kafka broker answers" in driver.log
            assert not pages(driver.log)


def test_who_may_not_run_hears_so_before_spark_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder.make(tmp_path / "run", more=SPARK)
    feed(folder, 200)
    work_off_embedded(folder)
    monkeypatch.setattr("hackwatch.spark.service.open_session", lambda *_, **__: pytest.fail("Spark was started"))
    with pytest.raises(ConfigurationError, match="run by the embedded engine"):
        run_spark(settings_of(folder), threading.Event())
