"""Runs of the pipeline on Spark, and what they are compared by."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.testing import assert_frame_equal

from hackwatch.alerts.system import CLOCK_SKEW
from hackwatch.config import Settings, load_settings
from hackwatch.spark.service import run_spark
from hackwatch.streams.declarations import Distinct
from tests.engine.processes import Folder, Outcome, until
from tests.servers.spark import CONF, jars

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["EXACT", "SPARK", "assert_same", "on_spark", "settings_of", "work_off_embedded"]

#: Settings for a small Spark; tests/engine's settings follow.
SPARK = f"""
[spark]
master = "local[2]"
jars = "{jars()}"
trigger_seconds = 0.2
max_mib = 1
max_messages = 2000
conf = {{ {", ".join(f'"{name}" = "{value}"' for name, value in CONF.items())} }}
"""


#: Distinct identities up to which a count is exact.
EXACT = Distinct("", "").exact


def settings_of(folder: Folder) -> Settings:
    return load_settings(folder.config, {"data": folder.data})


def on_spark(folder: Folder, spark: SparkSession) -> None:
    """All that is in the topics, through the pipeline on Spark, in the session of the tests."""
    run_spark(settings_of(folder), threading.Event(), available_now=True, session=spark)


def work_off_embedded(folder: Folder) -> None:
    """The same with the embedded engine."""
    with folder.service() as engine:
        until(lambda: folder.worked_off() or not engine.is_alive(), "everything is committed")


def assert_same(found: Outcome, expected: Outcome) -> None:
    """Equal rows, rejects, windows, pairs and alerts; estimated counts of windows within 2 %, all others exact."""
    assert set(found.tables) == set(expected.tables)
    for name in expected.tables:
        assert_frame_equal(found.tables[name], expected.tables[name], check_exact=True)
    keys = ["site", "stream", "entity", "start", "end"]
    exact = [*keys, "records", "suspects", "final"]
    assert_frame_equal(found.windows.select(exact), expected.windows.select(exact))
    counts = zip(found.windows["count"], expected.windows["count"], strict=True)
    assert all(one == other or (other > EXACT and abs(one - other) <= 0.02 * other) for one, other in counts)
    assert timeless(found.alerts) == timeless(expected.alerts)
    assert_frame_equal(totals(found.accounting), totals(expected.accounting))


def timeless(alerts: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Without those about clocks: whose clock is wrong is said after some seconds of engine time."""
    return {name: told for name, told in alerts.items() if CLOCK_SKEW not in told}


def totals(accounting: pl.DataFrame) -> pl.DataFrame:
    """Without the name of who counted."""
    return accounting.drop("pipeline").sort("stream", "topic", "partition")
