"""The same messages through both engines: equal rows, windows, attacks and alerts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.processes import Folder, Outcome, feed
from tests.servers.spark import missing
from tests.spark.support import SPARK, assert_same, embedded, on_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


def test_simulated_days_out_of_order_late_repeated_and_malformed(spark: SparkSession, tmp_path: Path) -> None:
    parts: list[Callable[[Folder], object]] = [lambda folder, n=n: feed(folder, 6000, seed=n) for n in (1, 2)]
    expected = embedded(tmp_path / "embedded", parts)
    folder = Folder.make(tmp_path / "spark", more=SPARK)
    for write in parts:
        write(folder)
        on_spark(folder, spark)
    found = Outcome.of(folder)
    assert_same(found, expected)
    counts = found.accounting.sum()
    assert min(counts[name].item() for name in ("late", "duplicate", "rejected", "suspects")) > 20
    assert len(found.tables["attacks"]) > 20
