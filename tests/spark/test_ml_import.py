"""A pipeline of Spark ML as a bundle: the same predictions row by row, without Spark and without Java."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from hackwatch.detect.bundle import Bundle, load_bundle, save_bundle
from hackwatch.detect.registry.canary import canary
from hackwatch.spark.ml.importing import import_pipeline
from tests.spark.mlsupport import PROCESS, Recipe, fitted, records, verdicts

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.slow

TRAINING = records(1500, seed=1)

#: Every classifier, every way to treat invalid values, and shapes of pipelines, in as few fits as tell them apart.
RECIPES = {
    "tree, all kept": Recipe("tree"),
    "forest, all kept, many programs": Recipe("forest", programs=300, options={"maxBins": 320}),
    "boosted, all kept": Recipe("boosted"),
    "tree, one-hot, last dropped": Recipe("tree", encoded=("POLI", "CMD"), one_by_one=True),
    "forest, one-hot, last kept": Recipe("forest", encoded=("POLI", "CMD"), drop_last=False, nested=True),
    "boosted, one-hot, invalid kept": Recipe("boosted", encoded=("CMD",), encode="keep", drop_last=False),
    "tree, one-hot of a number": Recipe(
        "tree", indexed=("CMD",), encoded=("TRUN", "CMD"), numbers=("CPU", "NICE", "finished"), encode="keep"
    ),
    "tree, a number indexed": Recipe("tree", indexed=("POLI", "NICE", "CPU"), numbers=("PRI", "TSLPI")),
    "forest, skipped": Recipe("forest", index="skip", assemble="skip", encoded=("POLI",)),
    "boosted, refused": Recipe("boosted", index="error", assemble="error"),
    "forest of two trees, ties": Recipe("forest", numbers=("CPU",), options={"numTrees": 2, "maxDepth": 2}),
    "a single leaf": Recipe("tree", options={"maxDepth": 0}),
}

THRESHOLDS = {
    "tree": [(0.8, 0.2), (1.0, 0.0), (0.5, 0.5)],
    "forest": [(0.3, 0.7), (0.0, 1.0)],
    "boosted": [(0.65, 0.35), (0.0, 1.0), (1.0, 0.0)],
}


def at_the_edges(bundle: Bundle, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with numbers at, just below and just above every threshold of the model, in turn."""
    random = np.random.default_rng(5)
    for feature in bundle.encoder.features:
        if not feature.edges or not rows.schema[feature.column].is_float():
            continue
        edges = np.array(feature.edges)
        near = np.concatenate([edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)])
        chosen = pl.Series(random.choice(near, rows.height))
        use = pl.Series(random.random(rows.height) < 0.5)
        rows = rows.with_columns(pl.when(use).then(chosen).otherwise(feature.column).alias(feature.column))
    return rows


def check(model: PipelineModel, spark: SparkSession, bundle: Bundle, rows: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Hold the bundle to Spark's verdicts; the rows that Spark left out."""
    passed, probability, prediction = verdicts(model, spark, rows)
    score = bundle.score(rows)
    np.testing.assert_array_equal(score[passed] >= np.float32(bundle.threshold), prediction)
    np.testing.assert_allclose(score[passed], probability, atol=2e-6)
    left_out = np.setdiff1d(np.arange(rows.height), passed)
    assert not score[left_out].any(), "a record that Spark leaves out scores 0"
    assert len(passed) > 1500
    return left_out


@pytest.mark.parametrize("name", RECIPES)
def test_predicts_as_spark_does_row_by_row(name: str, spark: SparkSession, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    training = records(1500, seed=1, programs=recipe.programs)
    model = fitted(spark, recipe, training, tmp_path / "model")
    bundle = import_pipeline(tmp_path / "model", PROCESS)
    odd = recipe.index != "error"
    rows = at_the_edges(bundle, records(4000, seed=2, programs=recipe.programs, odd=odd))
    if "CPU" in recipe.indexed:
        # The one known difference: as a label, "-0.0" is not "0.0" to Spark.
        rows = rows.with_columns(CPU=pl.when(pl.col("CPU") == 0).then(0.0).otherwise("CPU"))
    if not odd:
        rows = rows.filter(pl.col("CMD").is_in(training["CMD"].unique().implode()))
    left_out = check(model, spark, bundle, rows)
    assert bool(len(left_out)) == (recipe.index == "skip")
    canary(bundle, PROCESS)
    save_bundle(bundle, tmp_path / "bundle")
    np.testing.assert_array_equal(load_bundle(tmp_path / "bundle").score(rows), bundle.score(rows))


@pytest.mark.parametrize("kind", THRESHOLDS)
def test_thresholds_of_the_classes_decide_as_in_spark(
    kind: Literal["tree", "forest", "boosted"], spark: SparkSession, tmp_path: Path
) -> None:
    model = fitted(spark, Recipe(kind, indexed=("POLI",)), TRAINING, tmp_path / "model")
    rows = at_the_edges(import_pipeline(tmp_path / "model", PROCESS), records(3000, seed=3, odd=True))
    for number, thresholds in enumerate(THRESHOLDS[kind]):
        model.stages[-1].setThresholds(list(thresholds))  # type: ignore[attr-defined]  # a classifier is the last stage
        model.save(str(tmp_path / f"{number}"))
        bundle = import_pipeline(tmp_path / f"{number}", PROCESS)
        check(model, spark, bundle, rows)
