"""Sources that fall silent move on with engine time on Spark too, from Kafka and from a spool, and after a restart."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from hackwatch import topics
from hackwatch.errors import ResourceError
from hackwatch.spark.service import run_spark
from tests.engine.processes import NAMES, Folder, until
from tests.servers.kafka import Broker
from tests.servers.spark import missing
from tests.spark.support import SPARK, settings_of
from tests.streams.support import record
from tests.third.scored import START

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

IDLE = 2.0


@contextmanager
def running(folder: Folder, spark: SparkSession) -> Iterator[None]:
    """The engine in a thread; what it raised is raised here."""
    stop, failures = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            run_spark(settings_of(folder), stop, session=spark)
        except BaseException as error:
            failures.append(error)

    engine = threading.Thread(target=work, daemon=True)
    engine.start()
    try:
        yield
    finally:
        stop.set()
        engine.join(120)
    assert not failures, failures


def windows(folder: Folder) -> dict[tuple[str, str], tuple[int, bool]]:
    """By stream and machine: records, and whether all windows are final."""
    try:
        with folder.store() as store:
            rows = store.windows.find(limit=1000)
    except ResourceError:  # there is none yet, or it is being made
        return {}
    found = rows.group_by("stream", "entity").agg(pl.col("records").sum(), pl.col("final").all())
    return {(stream, entity): (records, final) for stream, entity, records, final in found.iter_rows()}


def test_windows_of_silent_sources_become_final_without_messages(
    spark: SparkSession, kafka: Broker, tmp_path: Path
) -> None:
    """`process` comes from Kafka, `memory` from a spool. Who begins to send after a restart begins again."""
    kafka.create("idle-process", 2)
    folder = Folder.make(tmp_path / "run", models=False, idle_seconds=IDLE, more=SPARK)
    text = folder.config.read_text()
    for name, more in (("process", f'topic = "{kafka.url("idle-process")}"\n'), ("memory", "")):
        text = text.replace(f"[streams.{name}]\n", f"[streams.{name}]\nwindow_seconds = 5\n{more}")
    folder.config.write_text(text)
    folder.data.mkdir(mode=0o700)
    send(folder, "a", 0, 1, 2)
    with running(folder, spark):
        until(lambda: windows(folder) == dict.fromkeys(places("a"), (3, True)), "all windows are final", seconds=240)
    send(folder, "b", -60, -59)
    with running(folder, spark):
        until(lambda: all(windows(folder).get(place) == (2, True) for place in places("b")), "b too", seconds=240)
    for name in NAMES:
        assert not folder.lake.scan(name).select(pl.col("late").any()).collect().item()


def places(machine: str) -> list[tuple[str, str]]:
    return [(name, machine) for name in NAMES]


def send(folder: Folder, machine: str, *seconds: float) -> None:
    for name in NAMES:
        writer = topics.open_writer(folder.settings.spool_url(name))
        writer.append([json.dumps(record(name, machine=machine, ts=START + t)).encode() for t in seconds], key=machine)
        writer.close()
