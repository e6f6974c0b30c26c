"""`hackwatch run --engine spark` as a whole: how it ends, what it refuses, what it takes up while it runs."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from hackwatch.cli import main
from hackwatch.config import Settings
from hackwatch.errors import ConfigurationError, DataError, ResourceError
from hackwatch.lake import Lake
from hackwatch.spark import submit
from hackwatch.spark.session import check_java, configuration, packages
from tests.engine.kafka_folder import KafkaFolder
from tests.engine.processes import NAMES, Folder, Outcome, add_models, feed
from tests.servers.kafka import Broker
from tests.servers.spark import jars, missing
from tests.spark.drivers import Driver, batches, command, read
from tests.spark.support import SPARK, assert_same, on_spark, settings_of, work_off_embedded

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

real = pytest.mark.skipif(missing() is not None, reason=str(missing()))


# -- how it runs and ends --------------------------------------------------------------------------------------------


@real
@pytest.mark.slow
def test_it_takes_up_a_new_model_and_ends_well_when_it_is_asked_to(tmp_path: Path) -> None:
    folder = Folder.make(tmp_path / "run", more=SPARK)
    old = {name: folder.registry.current(name) for name in NAMES}
    feed(folder, 2000, seed=1)
    with Driver(folder, command(folder)) as driver:
        driver.wait_for(lambda: read(folder), "the first part is read")
        new = add_models(folder, seed=2)
        feed(folder, 2000, seed=2)
        driver.wait_for(lambda: read(folder), "the second part is read")
        driver.wait_for(lambda: models_in_use(folder) == new, "the status names the new models")
        os.kill(driver.process.pid, signal.SIGTERM)
        assert driver.ended() == 0, driver.log[-4000:]
        assert "Traceback" not in driver.log
    assert folder.state() == "stopped"
    assert new != old
    scored = Lake(folder.data / "lake").scan("process").collect()
    assert len(scored) > 1500


def models_in_use(folder: Folder) -> dict[str, str]:
    with folder.store() as store:
        told = store.statuses.read().get("main", {}).get("streams", {})
    return {name: about["model"] for name, about in told.items()}


@real
@pytest.mark.slow
def test_spark_submit_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)  # what it looks for PySpark with
    folder = Folder.make(tmp_path / "run", more=SPARK)
    feed(folder, 2000)
    paths = ",".join(str(jar) for jar in sorted(jars().glob("*.jar")))
    launcher = Path(sys.executable).with_name("spark-submit")
    start = [str(launcher), "--master", "local[1]", "--driver-memory", "1g", "--jars", paths, submit.__file__]
    options = ["--config", str(folder.config), "--data", str(folder.data), "--available-now"]
    with Driver(folder, [*start, *options]) as driver:
        assert driver.ended() == 0, driver.log[-4000:]
    assert read(folder)
    assert batches(folder) >= 4


@real
@pytest.mark.slow
def test_the_time_zone_of_the_machine_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Event time is UTC everywhere: half an hour beside it, days, windows and attacks are the same."""
    calm, folder = Folder.make(tmp_path / "calm"), Folder.make(tmp_path / "run", more=SPARK)
    for each in (calm, folder):
        feed(each, 2000)
    work_off_embedded(calm)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    with Driver(folder, command(folder, "--available-now")) as driver:
        assert driver.ended() == 0, driver.log[-4000:]
    monkeypatch.undo()
    assert_same(Outcome.of(folder), Outcome.of(calm))


# -- what it refuses -------------------------------------------------------------------------------------------------


@real
@pytest.mark.slow
def test_each_engine_leaves_the_other_ones_pipeline_alone(spark: SparkSession, tmp_path: Path) -> None:
    """Positions mean different things: one engine could only read everything again, and double it."""
    folder = Folder.make(tmp_path / "run", more=SPARK)
    feed(folder, 500)
    work_off_embedded(folder)
    with pytest.raises(ConfigurationError, match="run by the embedded engine"):
        on_spark(folder, spark)
    other = Folder.make(tmp_path / "other", more=SPARK)
    feed(other, 500)
    on_spark(other, spark)
    with pytest.raises(ConfigurationError, match="run on Spark"):
        work_off_embedded(other)


@real
@pytest.mark.slow
def test_a_checkpoint_that_is_not_the_store_s_is_refused(spark: SparkSession, kafka: Broker, tmp_path: Path) -> None:
    """Batches would be taken for others, and lost; and without its files nobody knows the clocks."""
    for name in NAMES:
        kafka.create(f"refused-{name}", 1)
    folder = KafkaFolder.on(tmp_path / "run", kafka, "refused", more=SPARK)
    feed(folder, 500)
    on_spark(folder, spark)
    feed(folder, 500, seed=2)
    for lost, says in (("main/process", "another checkpoint"), (".", "has lost the file")):
        shutil.rmtree(folder.data / "spark" / lost)
        with pytest.raises(DataError, match=says) as error:
            on_spark(folder, spark)
        assert "put the checkpoint folder back" in str(error.value) or "put back the checkpoint" in str(error.value)


@pytest.mark.parametrize(
    ("version", "says"),
    [
        pytest.param('openjdk version "11.0.2" 2019-01-15', "Java 11 is too old", id="11"),
        pytest.param('java version "1.8.0_402"', "Java 8 is too old", id="8"),
        pytest.param("what?", "too old", id="not a Java"),
    ],
)
def test_a_java_that_is_too_old(tmp_path: Path, version: str, says: str) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho '{version}' >&2\n")
    java.chmod(stat.S_IRWXU)
    with pytest.raises(ResourceError, match=says) as error:
        check_java({"JAVA_HOME": str(tmp_path)})
    assert "openjdk-17" in str(error.value)


def test_no_java(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="there is none") as error:
        check_java({"PATH": str(tmp_path)})
    assert "apt-get install openjdk-17-jre-headless" in str(error.value)


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_folder_without_the_jars(tmp_path: Path) -> None:
    folder = Folder.make(tmp_path / "run", models=False, more=f'[spark]\njars = "{tmp_path}"\n')
    with pytest.raises(ResourceError, match="delta-spark") as error:
        configuration(settings_of(folder), kafka=True)
    assert "io.delta:delta-spark_" in str(error.value)
    assert "spark-sql-kafka-0-10_2.13" in str(error.value)


def test_the_coordinates_fit_the_version_of_pyspark() -> None:
    assert packages("4.2.1") == (
        "io.delta:delta-spark_4.2_2.13:4.4.0",
        "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.1",
    )
    assert packages("4.0.0")[0] == "io.delta:delta-spark_2.13:4.0.0"
    with pytest.raises(ResourceError, match=r"3\.5\.1"):
        packages("3.5.1")


def test_master_and_any_configuration_come_from_settings_and_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is given last wins; but Spark's sessions are in UTC, whatever is said."""
    pytest.importorskip("pyspark")
    config = tmp_path / "hackwatch.toml"
    config.write_text(
        '[spark]\nmaster = "local[1]"\n[spark.conf]\n"spark.executor.cores" = 2\n"spark.executor.memory" = "1g"\n'
    )
    asked: list[Settings] = []
    monkeypatch.setattr("hackwatch.spark.service.run_spark", lambda settings, *_, **__: asked.append(settings))
    options = ["--master", "local[3]", "--spark-conf", "spark.executor.memory=4g", "--spark-conf", "spark.x=a=b"]
    options += ["--spark-conf", "spark.sql.session.timeZone=Asia/Kolkata"]
    for more in ([], options):
        done = CliRunner().invoke(main, ["--config", str(config), "run", "--engine", "spark", *more])
        assert done.exit_code == 0, done.output
    first, second = (configuration(settings, kafka=False) for settings in asked)
    for name, before, after in (
        ("spark.master", "local[1]", "local[3]"),
        ("spark.sql.shuffle.partitions", "1", "3"),
        ("spark.executor.memory", "1g", "4g"),
        ("spark.executor.cores", "2", "2"),
        ("spark.x", None, "a=b"),
        ("spark.sql.session.timeZone", "UTC", "UTC"),
    ):
        assert (first.get(name), second.get(name)) == (before, after), name


@pytest.mark.parametrize("wrong", ["spark.x", "=1"])
def test_a_configuration_without_a_value_is_refused(wrong: str) -> None:
    done = CliRunner().invoke(main, ["run", "--engine", "spark", "--spark-conf", wrong])
    assert done.exit_code == 2
    assert "is not KEY=VALUE" in done.stderr


def test_options_of_spark_need_spark(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hackwatch", "--data", str(tmp_path), "run", "--master", "local[1]"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--engine spark" in done.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--config", "a.toml"], ["--config", "a.toml", "run", "--engine", "spark"]),
        (["--duration", "5", "--data=/d"], ["--data=/d", "run", "--engine", "spark", "--duration", "5"]),
    ],
)
def test_the_arguments_of_spark_submit(given: list[str], expected: list[str]) -> None:
    assert submit.arguments(given) == expected
