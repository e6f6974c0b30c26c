"""A pipeline that scores on Spark itself: no record is lost to a null, and all verdicts are those of its import."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from hackwatch import streams
from hackwatch.config import load_settings
from hackwatch.engine.service import run_service
from hackwatch.errors import ConfigurationError
from hackwatch.spark.ml.guard import Guard
from hackwatch.spark.ml.importing import import_pipeline
from hackwatch.spark.scorer import Scorer, rows_schema
from tests.spark.mlsupport import PROCESS, Recipe, fitted, frame, records

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.slow

TRAINING = records(1500, seed=1)


def whole(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with all columns that go through Spark, `offset` being their number."""
    missing = {name: kind for name, kind in rows_schema(PROCESS).items() if name not in rows.columns}
    more = rows.with_columns(pl.lit(None, kind).alias(name) for name, kind in missing.items())
    return more.with_columns(pl.int_range(pl.len()).alias("offset")).select(list(rows_schema(PROCESS)))


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(Recipe("tree", index="error", assemble="error"), id="refused"),
        pytest.param(Recipe("tree", index="skip", assemble="skip"), id="skipped"),
        pytest.param(
            Recipe("tree", indexed=("CMD",), encoded=("TRUN", "CMD"), numbers=("CPU", "finished"), assemble="error"),
            id="a number encoded",
        ),
        pytest.param(Recipe("tree", indexed=("PRI", "CMD"), numbers=("CPU",), index="skip"), id="a number indexed"),
        pytest.param(Recipe("tree"), id="kept"),
    ],
)
def test_every_record_comes_back_with_the_verdict_of_the_import(
    recipe: Recipe, spark: SparkSession, tmp_path: Path
) -> None:
    fitted(spark, recipe, TRAINING, tmp_path / "model")
    rows = whole(records(3000, seed=4, odd=True).with_columns(TRUN=pl.int_range(pl.len()) % 9))
    bundle = import_pipeline(tmp_path / "model", PROCESS)
    scored = pl.DataFrame(Scorer(spark, tmp_path / "model", PROCESS).scored(frame(spark, rows)).toArrow())
    scored = scored.sort("offset")
    score = bundle.score(rows)
    np.testing.assert_array_equal(scored["given_prediction"] > 0.5, score >= np.float32(bundle.threshold))
    np.testing.assert_allclose(scored["given_score"], score, atol=2e-6)
    assert scored.select(list(rows_schema(PROCESS))).equals(rows), "no value is changed on the way"
    assert (score == 0).any() or recipe.assemble == "keep"


def test_stages_that_cannot_be_imported_are_guarded_too(spark: SparkSession, tmp_path: Path) -> None:
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import StandardScaler, StringIndexer, VectorAssembler

    stages: list[Any] = [
        StringIndexer(inputCol="CMD", outputCol="index"),
        VectorAssembler(inputCols=["CPU", "NICE", "index"], outputCol="raw"),
        StandardScaler(inputCol="raw", outputCol="features"),
        LogisticRegression(maxIter=3),
    ]
    model = Pipeline(stages=stages).fit(frame(spark, TRAINING))
    model.save(str(tmp_path / "model"))
    rows = whole(records(1000, seed=4, odd=True))
    scored = pl.DataFrame(Scorer(spark, tmp_path / "model", PROCESS).scored(frame(spark, rows)).toArrow())
    known = pl.col("CMD").is_in(TRAINING["CMD"].unique().implode()) & pl.col("NICE").is_not_null()
    known = known & pl.col("CPU").is_not_nan() & pl.col("CPU").is_not_null()
    assert scored.height == rows.height
    assert (scored.filter(known & pl.col("CPU").is_finite())["given_score"] > 0).all()
    assert (scored.filter(~known.fill_null(False))["given_score"] == 0).all()
    assert 100 < scored.filter(known).height < 900


def test_columns_that_the_stream_has_not_are_named(spark: SparkSession, tmp_path: Path) -> None:
    fitted(spark, Recipe("tree"), TRAINING, tmp_path / "model")
    with pytest.raises(ConfigurationError, match="CPU, NICE, PRI, TSLPI"):
        Guard(tmp_path / "model", streams.get("memory"))


def test_the_embedded_engine_says_what_to_do(tmp_path: Path) -> None:
    config = tmp_path / "hackwatch.toml"
    config.write_text(f'data = "{tmp_path}/data"\n[streams.process]\nspark_ml = "/models/forest"\n')
    with pytest.raises(ConfigurationError) as caught:
        run_service(load_settings(config), threading.Event())
    assert caught.value.where == "streams.process.spark_ml"
    assert "hackwatch models import --spark-ml /models/forest --as process" in str(caught.value)
