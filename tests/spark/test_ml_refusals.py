"""What cannot become a bundle is said at once: every stage with its problem and what to do. What the others can do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from hackwatch.cli import main
from hackwatch.detect.registry import Registry
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.spark.ml.importing import import_pipeline
from tests.spark.mlsupport import PROCESS, Recipe, fitted, frame, records, verdicts

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.slow

TRAINING = records(1500, seed=1)
Saved = tuple["PipelineModel", Path]


@pytest.fixture(scope="module")
def saved(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A forest over indexed and assembled columns, fitted and saved once for all tests here."""
    folder = tmp_path_factory.mktemp("pipeline") / "model"
    return fitted(spark, Recipe("forest", index="error", assemble="error"), TRAINING, folder), folder


@pytest.fixture
def copy(saved: Saved, tmp_path: Path) -> Path:
    """A copy of the saved pipeline that a test may damage."""
    return Path(shutil.copytree(saved[1], tmp_path / "model"))


def stage(folder: Path, kind: str) -> Path:
    """The folder of a stage."""
    return next(path for path in (folder / "stages").iterdir() if kind in path.name)


def rewrite(folder: Path, **params: object) -> None:
    """Change parameters in a stage's metadata."""
    path = next((folder / "metadata").glob("part-*"))
    about = json.loads(path.read_text())
    about["paramMap"] |= params
    about |= {name: value for name, value in params.items() if name in about}
    path.write_text(json.dumps(about) + "\n")


def problems(folder: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        import_pipeline(folder, PROCESS)
    assert caught.value.next_step
    return caught.value.problems


def test_every_problem_is_named_with_its_stage(spark: SparkSession, tmp_path: Path) -> None:
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import StandardScaler, StringIndexer, VectorAssembler

    stages: list[Any] = [
        StringIndexer(inputCol="label", outputCol="index"),
        VectorAssembler(inputCols=["CPU", "TRUN"], outputCol="raw"),
        StandardScaler(inputCol="raw", outputCol="scaled"),
        VectorAssembler(inputCols=["scaled", "extra"], outputCol="features"),
        LogisticRegression(labelCol="index", maxIter=1),
    ]
    model = Pipeline(stages=stages).fit(frame(spark, TRAINING).selectExpr("*", "PRI * 2 AS extra"))
    model.save(str(tmp_path / "model"))
    found = problems(tmp_path / "model")
    for said in ("StandardScalerModel is not supported", "'extra'", "LogisticRegressionModel is not supported"):
        assert sum(said in problem for problem in found) == 1
    assert all(
        problem.split("_")[0] in {"StandardScaler", "VectorAssembler", "LogisticRegression"} for problem in found
    )
    assert len(found) == 3, "what follows from another problem is not told again"


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        pytest.param("VectorAssembler", {"inputCols": ["CMD"]}, "CMD is text", id="text assembled"),
        pytest.param("VectorAssembler", {"inputCols": ["event_time"]}, "event_time is no number", id="a time"),
        pytest.param("VectorAssembler", {"inputCols": ["CPU"]}, "6 features and is given 1", id="a shorter vector"),
        pytest.param("VectorAssembler", {"outputCol": "other"}, "nothing makes its features", id="no vector"),
        pytest.param("VectorAssembler", {"handleInvalid": "guess"}, "'guess' is not known", id="unknown handling"),
        pytest.param("StringIndexer", {"inputCols": ["finished", "CMD"]}, "neither text nor", id="boolean indexed"),
        pytest.param("StringIndexer", {"inputCols": ["type", "CMD"]}, "cannot be known", id="truth as a feature"),
        pytest.param("RandomForest", {"numClasses": 3}, "3 classes", id="three classes"),
    ],
)
def test_a_pipeline_that_does_not_fit_is_refused(copy: Path, kind: str, params: dict[str, object], said: str) -> None:
    rewrite(stage(copy, kind), **params)
    stages = {path.name.partition("_")[2] for path in (copy / "stages").iterdir()}
    assert [said in problem and problem.partition(":")[0] in stages for problem in problems(copy)] == [True]


def test_a_pipeline_without_classifier_is_refused(copy: Path) -> None:
    uids = [path.name.partition("_")[2] for path in sorted((copy / "stages").iterdir())]
    rewrite(copy, stageUids=uids[:-1])
    assert "no classifier" in problems(copy)[0]


@pytest.mark.parametrize("part", ["metadata", "data", "treesMetadata"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_damaged_files_are_refused(copy: Path, part: str, damage: str) -> None:
    folder = stage(copy, "RandomForest") / part
    if damage == "missing":
        shutil.rmtree(folder)
    else:
        for file in folder.glob("part-*"):
            file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError) as caught:
        import_pipeline(copy, PROCESS)
    assert str(copy) in (caught.value.where or "")
    assert caught.value.next_step


def test_a_missing_stage_and_another_folder_are_refused(copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(stage(copy, "VectorAssembler"))
    with pytest.raises(DataError, match=r"VectorAssembler\w+ is missing"):
        import_pipeline(copy, PROCESS)
    with pytest.raises(DataError, match="not a saved Spark ML model"):
        import_pipeline(tmp_path, PROCESS)


def test_records_that_spark_refuses_score_zero_and_that_is_said(saved: Saved, spark: SparkSession) -> None:
    model, folder = saved
    bundle = import_pipeline(folder, PROCESS)
    usual = records(50, seed=1)
    assert bundle.score(usual).any()
    for column in ("CMD", "CPU"):
        odd = usual.with_columns(pl.lit(None, usual.schema[column]).alias(column))
        assert not bundle.score(odd).any()
        with pytest.raises(Exception, match=r"NULL value|Encountered null|assemble"):
            verdicts(model, spark, odd)
    notes = bundle.description.parameters["notes"]
    assert sum("CMD" in note and "score 0" in note for note in notes) == 1


def test_alerts_name_the_columns_with_their_true_values(saved: Saved) -> None:
    day = records(600, seed=8)
    bundle = import_pipeline(saved[1], PROCESS, day)
    rows = day.filter((pl.col("CPU") > 0.5) & (pl.col("label") == 1) & (pl.col("POLI") != "btch"))
    assert rows.height
    for row, drivers in zip(rows.to_dicts(), bundle.explain(rows), strict=True):
        seen = {driver.column: driver.seen for driver in drivers}
        assert "CPU" in seen
        assert seen["CPU"] == f"{row['CPU'] * 100:.0f} %"
        assert all(driver.contribution > 0 for driver in drivers)
    assert {driver.usual for found in bundle.explain(rows) for driver in found} - {"unknown"}
    shares = bundle.importance()
    assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) in {"CPU", "CMD", "POLI"}


def test_without_usual_records_the_usual_value_is_unknown(saved: Saved) -> None:
    bundle = import_pipeline(saved[1], PROCESS)
    found = bundle.explain(records(200, seed=8).filter(pl.col("CPU") > 0.5))
    assert {driver.usual for drivers in found for driver in drivers} == {"unknown"}


def test_importing_and_scoring_need_neither_java_nor_pyspark(saved: Saved, tmp_path: Path) -> None:
    day = records(500, seed=9)
    day.write_parquet(tmp_path / "day.parquet")
    code = f"""
import sys
sys.modules["pyspark"] = None
import numpy, polars
from pathlib import Path
from hackwatch import streams
from hackwatch.spark.ml.importing import import_pipeline
bundle = import_pipeline(Path({str(saved[1])!r}), streams.get("process"))
numpy.save({str(tmp_path / "scores.npy")!r}, bundle.score(polars.read_parquet({str(tmp_path / "day.parquet")!r})))
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "SPARK_HOME")}
    environment["PATH"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    bundle = import_pipeline(saved[1], PROCESS)
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), bundle.score(day))


def test_the_command_keeps_and_promotes_it(saved: Saved, tmp_path: Path) -> None:
    runner, data = CliRunner(), str(tmp_path / "data")
    given = ["--data", data, "models", "import", "--spark-ml", str(saved[1]), "--as", "process", "--promote"]
    done = runner.invoke(main, given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "engines use it now" in done.output
    assert "note: " in done.output
    bundle = Registry(tmp_path / "data" / "models").load("process")
    assert bundle.description.method == "spark-ml"
    day = records(300, seed=10)
    np.testing.assert_array_equal(bundle.score(day), import_pipeline(saved[1], PROCESS).score(day))


@pytest.mark.parametrize(
    "given",
    [[], ["--spark-ml", "."], [".", "--as", "process"], [".", "--spark-ml", ".", "--as", "process"]],
    ids=["nothing", "no stream", "a stream for a bundle", "both"],
)
def test_the_command_wants_one_or_the_other(given: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--data", str(tmp_path), "models", "import", *given])
    assert done.exit_code == 2
