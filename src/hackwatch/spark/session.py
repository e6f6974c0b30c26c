"""A Spark session that can do what the pipeline needs, or an error that says what is missing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hackwatch.config import Settings
from hackwatch.errors import ResourceError
from hackwatch.spark.buckets import S3A_CLASS, bucket_configuration, s3a_package, tell_secrets, uses_buckets

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["check_java", "check_pyspark", "close_session", "configuration", "open_session", "packages"]

OLDEST_JAVA = 17
#: The newest Delta for each Spark; since Delta 4.1 the artifact's name carries Spark's version.
_DELTA = {"4.0": "delta-spark_2.13:4.0.0", "4.1": "delta-spark_4.1_2.13:4.1.0", "4.2": "delta-spark_4.2_2.13:4.4.0"}
_DELTA_CLASS, _KAFKA_CLASS = (
    "io.delta.sql.DeltaSparkSessionExtension",
    "org.apache.spark.sql.kafka010.KafkaSourceProvider",
)
#: The dates of rows depend on it.
_UTC = ("spark.sql.session.timeZone", "UTC")
#: Records that go from the JVM to Python at a time: few round trips, and batches of some 10 MB.
_ARROW_RECORDS = 50_000
#: They print pages about what a task or query failed at: the engine says it in a line, and what it does about it.
_QUIET = (
    "org.apache.spark.executor.Executor",
    "org.apache.spark.scheduler.TaskSetManager",
    "org.apache.spark.broadcast.TorrentBroadcast",
    "org.apache.spark.sql.execution.streaming",
)


def open_session(settings: Settings, *, kafka: bool = False) -> SparkSession:
    """The session of a run; `kafka`: whether it must be able to read Kafka.

    Under `spark-submit`, what it was given comes first. Raises ResourceError: no PySpark, no Java or one that is
    too old, jars missing or not to be had.
    """
    check_pyspark()
    from pyspark import SparkConf
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if not submitted:
        check_java(os.environ)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(f"hackwatch {settings.pipeline}")
    given = SparkConf() if submitted else None
    for name, value in configuration(settings, kafka=kafka, submitted=submitted).items():
        if given is None or not given.contains(name) or name in settings.spark.conf:
            builder = builder.config(name, value)
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        session = builder.getOrCreate()
    except (PySparkException, OSError) as error:
        raise _no_session(settings, error) from error
    if threading.current_thread() is threading.main_thread():
        # Spark takes Ctrl-C for itself, and would cut off the batch at work.
        signal.signal(signal.SIGINT, interrupted)
    session.conf.set(*_UTC)
    if not submitted and "spark.log.level" not in settings.spark.conf:
        _quieten(session)
    tell_secrets(session, settings)
    _check_classes(session, settings, kafka=kafka)
    return session


def close_session(session: SparkSession) -> None:
    """Stop Spark; of the tasks that it cuts off meanwhile its log says nothing."""
    session.sparkContext.setLogLevel("OFF")
    session.stop()


def configuration(settings: Settings, *, kafka: bool, submitted: bool = False) -> dict[str, str]:
    """What the session is configured with; `[spark] conf` wins, but for the time zone: rows have dates in UTC."""
    spark = settings.spark
    conf = {
        "spark.sql.extensions": _DELTA_CLASS,
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(_ARROW_RECORDS),
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        "spark.executorEnv.POLARS_MAX_THREADS": "1",
        "spark.scheduler.mode": "FAIR",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }
    if not submitted:
        conf["spark.master"] = spark.master
        if cores := local_cores(spark.master):
            conf |= {"spark.sql.shuffle.partitions": str(cores), "spark.driver.memory": "2g"}
        if spark.jars is not None:
            conf["spark.jars"] = ",".join(str(jar) for jar in _jars(spark.jars, kafka=kafka))
        else:
            wanted = [*packages(_pyspark_version()), *([s3a_package()] if uses_buckets(settings) else [])]
            conf["spark.jars.packages"] = ",".join(wanted)
    conf |= bucket_configuration(settings)
    return conf | {name: _text(value) for name, value in spark.conf.items()} | dict([_UTC])


def packages(version: str) -> tuple[str, ...]:
    """The Maven coordinates of Delta and of the Kafka connector that fit a version of PySpark."""
    series = ".".join(version.split(".")[:2])
    delta = _DELTA.get(series)
    if delta is None:
        raise ResourceError(
            f"PySpark {version} is not one that hackwatch knows a Delta for ({', '.join(_DELTA)})",
            where="pyspark",
            next_step="pip install 'hackwatch[spark]', or name a folder of jars: [spark] jars",
        )
    return f"io.delta:{delta}", f"org.apache.spark:spark-sql-kafka-0-10_2.13:{version}"


def check_pyspark() -> None:
    """ResourceError if PySpark is not installed."""
    if importlib.util.find_spec("pyspark") is None:
        raise ResourceError(
            "the Spark engine needs the extra `spark`",
            where="--engine spark",
            next_step="pip install 'hackwatch[spark]'",
        )


def check_java(environ: Mapping[str, str]) -> None:
    """ResourceError unless there is a Java that Spark can use, at $JAVA_HOME or on the path."""
    home = environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java", path=environ.get("PATH"))
    advice = f"install Java {OLDEST_JAVA} or newer (Debian: apt-get install openjdk-17-jre-headless), or set JAVA_HOME"
    if java is None:
        raise ResourceError("Spark needs Java, and there is none", where="$PATH", next_step=advice)
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True).stderr
    except (OSError, subprocess.SubprocessError) as error:
        raise ResourceError(f"Java does not start: {error}", where=java, next_step=advice) from error
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    if found is None or int(found[1]) < OLDEST_JAVA:
        version = found[1] if found else told.strip().splitlines()[0] if told.strip() else "unknown"
        raise ResourceError(f"Java {version} is too old for Spark", where=java, next_step=advice)


def local_cores(master: str) -> int | None:
    """How many cores a local master has; None for a cluster."""
    found = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\s*\d+)?\])?", master.strip())
    if found is None:
        return None
    if found[1] == "*":
        return os.cpu_count() or 1
    return int(found[1] or 1)


def _pyspark_version() -> str:
    import pyspark

    return pyspark.__version__


def _jars(folder: Path, *, kafka: bool) -> list[Path]:
    jars = sorted(folder.glob("*.jar"))
    wanted = {"delta-spark": "Delta", "delta-storage": "Delta"}
    if kafka:
        wanted |= {"spark-sql-kafka": "Kafka", "kafka-clients": "Kafka"}
    missing = [name for name in wanted if not any(jar.name.startswith(name) for jar in jars)]
    if missing:
        coordinates = " and ".join(packages(_pyspark_version()))
        raise ResourceError(
            f"the folder of jars lacks {', '.join(missing)}",
            where=str(folder),
            next_step=f"put {coordinates} there with what they depend on "
            "(mvn dependency:copy-dependencies), or leave [spark] jars out to have them fetched",
        )
    return jars


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _no_session(settings: Settings, error: Exception) -> ResourceError:
    """Mostly the jars cannot be fetched: the JVM then ends before Python hears why (it prints it)."""
    advice = "see what Spark printed above"
    if settings.spark.jars is None:
        advice += '; without a Maven repository in reach, name a folder of jars: [spark] jars = "/path"'
    what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ResourceError(f"Spark does not start: {what}", where=settings.spark.master, next_step=advice)


def _quieten(session: SparkSession) -> None:
    """Leave out of the log what the engine says itself; who sets `spark.log.level` wants to see it all."""
    log4j = session._jvm.org.apache.logging.log4j  # type: ignore[union-attr]
    for name in _QUIET:
        log4j.core.config.Configurator.setLevel(name, log4j.Level.OFF)


def _check_classes(session: SparkSession, settings: Settings, *, kafka: bool) -> None:
    """Under spark-submit nobody has looked at the jars yet."""
    wanted = {_DELTA_CLASS: "Delta", **({_KAFKA_CLASS: "Kafka"} if kafka else {})}
    if uses_buckets(settings):
        wanted[S3A_CLASS] = "S3"
    for name, part in wanted.items():
        try:
            session._jvm.java.lang.Thread.currentThread().getContextClassLoader().loadClass(name)  # type: ignore[union-attr]
        except Exception as error:  # of py4j, which has no other name for it
            coordinates = (*packages(_pyspark_version()), *([s3a_package()] if part == "S3" else []))
            raise ResourceError(
                f"Spark runs without {part}: the class {name} is missing",
                where=settings.spark.master,
                next_step=f"spark-submit --packages {','.join(coordinates)}, or [spark] jars",
            ) from error
