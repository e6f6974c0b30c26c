"""Roles on Spark: the same scores and versions in the lake as the embedded engine writes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hackwatch import streams
from tests.engine.processes import Folder, feed
from tests.servers.spark import missing
from tests.spark.support import SPARK, on_spark, work_off_embedded

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

JUDGED = ["score", "prediction", "model", "content_score", "content_model", "challenger_score", "challenger_model"]


def with_roles(folder: Folder) -> Folder:
    text = folder.config.read_text()
    detectors = '[streams.process]\ndetectors = ["content", "challenger"]\n'
    folder.config.write_text(text.replace("[streams.process]\n", detectors))
    return folder


def judged(folder: Folder) -> pl.DataFrame:
    rows = folder.lake.scan("process").select("partition", "offset", "index", *JUDGED).collect()
    return rows.sort("partition", "offset", "index")


def test_both_engines_score_in_all_roles(spark: SparkSession, tmp_path: Path) -> None:
    """The first half without roles, as a version before had it: their columns come to a table that has rows."""
    sparkling = Folder.make(tmp_path / "spark", more=SPARK)
    feed(sparkling, 2000, seed=1)
    on_spark(sparkling, spark)
    assert "content_score" not in sparkling.lake.scan("process").collect_schema()
    champion = sparkling.registry.current("process")
    assert champion is not None
    content = sparkling.registry.add(sparkling.registry.load("process"), streams.get("process"), role="content")
    embedded = with_roles(Folder.make(tmp_path / "embedded", models=False))
    embedded.data.mkdir(mode=0o700)
    shutil.copytree(sparkling.data / "models", embedded.data / "models")
    with_roles(sparkling)
    feed(embedded, 2000, seed=1)
    for folder in (sparkling, embedded):
        feed(folder, 2000, seed=2)
    on_spark(sparkling, spark)
    work_off_embedded(embedded)
    found, expected = judged(sparkling), judged(embedded)
    assert_frame_equal(found.select("score", "prediction", "model"), expected.select("score", "prediction", "model"))
    later = found.filter(pl.col("content_model").is_not_null())
    assert_frame_equal(later, expected.join(later, on=["partition", "offset", "index"], how="semi"))
    assert 0 < len(later) < len(found)
    assert set(expected["content_model"]) == {content}
    assert set(expected["model"]) == {champion}
    assert later["content_score"].equals(later["score"].alias("content_score")), "the same model in both roles"
    assert expected["challenger_score"].null_count() == len(expected)
