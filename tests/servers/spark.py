"""A real local Spark with Delta and Kafka: one session that all tests of a run share, since it takes 10 s to start."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

from tests.servers.process import parts
from tests.third.support import SITE

__all__ = ["CONF", "jars", "missing", "spark"]

#: Small and quick to start: tests run beside others.
CONF = {
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
}


def jars() -> Path:
    """The folder of jars, as `[spark] jars` names it."""
    return parts("spark") / "jars"


def missing() -> str | None:
    """Why no Spark can run here; None if it can."""
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark is not installed (pip install 'hackwatch[spark]')"
    if shutil.which("java") is None or not (parts("spark") / "made-from.xml").exists():
        return "Java or the jars for Spark are not here; tools/servers/spark fetches them"
    return None


def start(folder: Path) -> SparkSession:
    """A session on two cores that knows Delta and Kafka, with its files in `folder`."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    conf = {
        **CONF,
        "spark.jars": ",".join(sorted(str(jar) for jar in jars().glob("*.jar"))),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.local.dir": str(folder),
        "spark.log.level": "ERROR",
        # Workers know the family of a third party, for tests that install it.
        "spark.executorEnv.PYTHONPATH": str(SITE),
    }
    builder = SparkSession.builder.master("local[2]").appName("hackwatch-tests")
    for name, value in conf.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The session that all tests of a run share: do not stop it."""
    if why := missing():
        pytest.skip(why)
    session = start(tmp_path_factory.mktemp("spark"))
    yield session
    session.stop()
