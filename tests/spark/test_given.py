"""A saved Spark ML pipeline as the detector of a stream: what it says of each record is what the lake has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from hackwatch.errors import DataError
from hackwatch.lake import Lake
from tests.engine.processes import Folder, feed
from tests.servers.spark import missing
from tests.spark.mlsupport import Recipe, fitted, records, verdicts
from tests.spark.support import SPARK, on_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


def given(path: Path, model: Path) -> Folder:
    folder = Folder.make(path, models=False, more=SPARK)
    text = folder.config.read_text().replace("[streams.process]\n", f'[streams.process]\nspark_ml = "{model}"\n')
    folder.config.write_text(text)
    return folder


def test_every_record_has_the_score_that_spark_ml_gives_it(spark: SparkSession, tmp_path: Path) -> None:
    model = fitted(spark, Recipe("forest"), records(2000, 1), tmp_path / "model")
    folder = given(tmp_path / "run", tmp_path / "model")
    feed(folder, 4000)
    on_spark(folder, spark)
    rows = Lake(folder.data / "lake").scan("process").collect()
    _, probability, predicted = verdicts(model, spark, rows)
    assert np.allclose(rows["score"].to_numpy(), probability, atol=1e-6)
    ruled = (rows["rules"].list.len() > 0).to_numpy()
    assert (rows["prediction"].to_numpy() == 1)[~ruled].tolist() == predicted[~ruled].tolist()
    assert 0 < int(predicted.sum()) < len(rows)
    with folder.store() as store:
        counts = store.accounting.totals().filter(pl.col("stream") == "process").sum()
    assert len(rows) == counts["on_time"].item() + counts["late"].item()
    parts = ("on_time", "late", "duplicate", "rejected")
    assert counts["records"].item() == sum(counts[name].item() for name in parts)
    assert min(counts[name].item() for name in ("late", "duplicate", "rejected")) > 0


def test_a_folder_that_is_not_a_saved_pipeline(spark: SparkSession, tmp_path: Path) -> None:
    folder = given(tmp_path / "run", tmp_path)
    with pytest.raises(DataError, match="not a saved PipelineModel"):
        on_spark(folder, spark)
