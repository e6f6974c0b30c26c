"""Training on Spark gives the same kind of bundle, as good as local training gives it, without rows on the driver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from hackwatch.cli import main
from hackwatch.detect.bundle import Bundle
from hackwatch.detect.evaluation.measures import roc_auc
from hackwatch.detect.registry import Registry
from hackwatch.detect.training import Options, train
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.families.host.simulate import labelled
from hackwatch.lake import Lake
from hackwatch.spark.ml.train import train_on_spark
from hackwatch.streams.stream import DecodeOptions, Messages
from tests.detect.support import STREAM, records
from tests.spark.mlsupport import PROCESS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.slow

#: Two types of attack: each one is left out of a training once.
ROWS = records(3000).filter(pl.col("type") != "dos")
OPTIONS = Options(trees=8, depth=4, folds=2, alert_budget=0.01)


def related(rows: int, seed: int) -> pl.DataFrame:
    """Records whose columns all follow from the page; in an attack each column follows from another one."""
    random = np.random.default_rng(seed)
    attack = random.random(rows) < 0.1
    base = records(rows, seed)
    kinds = np.where(attack, random.integers(0, 6, (4, rows)), random.integers(0, 6, rows))
    return base.with_columns(
        pl.Series("path", [f"/page/{number}" for number in kinds[0]]),
        pl.Series("load", np.round(kinds[1] / 8 + random.normal(0, 0.01, rows), 3)),
        pl.Series("bytes", np.round(np.exp(12 + kinds[2] + random.normal(0, 0.1, rows)), -3)),
        pl.Series("status", kinds[3] * 3),
        pl.Series("label", attack.astype(np.int8)),
        pl.Series("type", np.where(attack, "mixed", "normal")),
    )


#: By method: what it is trained on, and what it is measured on.
TRAINING = {"supervised": ROWS, "permuted": related(2000, 1)}
TEST = {"supervised": records(2000, seed=9), "permuted": related(2000, 9)}


def spread(session: SparkSession, rows: pl.DataFrame) -> DataFrame:
    """The rows as a Spark frame in two partitions."""
    return session.createDataFrame(rows.to_arrow()).repartition(2)


@pytest.fixture(scope="module")
def pairs(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Bundle, Bundle]]:
    """By method: trained on Spark, and locally."""
    scratch = str(tmp_path_factory.mktemp("scratch"))
    return {
        method: (
            train_on_spark(spread(spark, rows), STREAM, method, OPTIONS, scratch=scratch, workers=1),
            train(rows, STREAM, method, OPTIONS),
        )
        for method, rows in TRAINING.items()
    }


def test_encoder_and_statistics_are_those_of_local_training(pairs: dict[str, tuple[Bundle, Bundle]]) -> None:
    there, here = pairs["supervised"]
    assert there.encoder.as_json() == here.encoder.as_json()
    assert there.description.columns == here.description.columns
    assert there.description.rows == here.description.rows
    assert there.statistics.keys() == here.statistics.keys()
    for name, found in there.statistics.items():
        expected = here.statistics[name]
        assert (found.categories, found.edges, found.nulls) == (expected.categories, expected.edges, expected.nulls)
        assert found.shares == pytest.approx(expected.shares)
        assert (found.least, found.greatest) == (expected.least, expected.greatest)
        usual = pytest.approx(expected.usual, rel=1e-3) if found.numeric else expected.usual
        assert found.usual == usual, "a quantile of Spark is one of the values, to one part in 10,000 of the rows"


@pytest.mark.parametrize(("method", "slack"), [("supervised", 0.01), ("permuted", 0.05)])
def test_is_as_good_as_local_training(pairs: dict[str, tuple[Bundle, Bundle]], method: str, slack: float) -> None:
    test = TEST[method]
    truth = (test["label"] == 1).to_numpy()
    there, here = (roc_auc(truth, bundle.score(test)) for bundle in pairs[method])
    assert there > max(here - slack, 0.9)


@pytest.mark.parametrize("method", ["supervised", "permuted"])
def test_threshold_keeps_the_alert_budget(pairs: dict[str, tuple[Bundle, Bundle]], method: str) -> None:
    bundle = pairs[method][0]
    normal = TEST[method].filter(pl.col("label") == 0)
    assert (bundle.score(normal) >= np.float32(bundle.threshold)).mean() < 3 * OPTIONS.alert_budget
    assert sum(bundle.description.score_shares) == pytest.approx(1)


def test_measures_agree_with_local_ones(pairs: dict[str, tuple[Bundle, Bundle]]) -> None:
    there, here = (bundle.metrics for bundle in pairs["supervised"])
    assert there.keys() == here.keys()
    assert there["rows"] == here["rows"]
    assert there["out_of_fold"]["roc_auc"] == pytest.approx(here["out_of_fold"]["roc_auc"], abs=0.02)
    assert there["types_left_out"].keys() == here["types_left_out"].keys()
    for name, found in there["types_left_out"].items():
        assert found.keys() == here["types_left_out"][name].keys()
        assert found["rows"] == here["types_left_out"][name]["rows"]


@pytest.mark.parametrize("method", ["supervised", "permuted"])
def test_the_registry_keeps_it_beside_local_ones(
    pairs: dict[str, tuple[Bundle, Bundle]], method: str, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "models")
    for bundle in pairs[method]:
        version = registry.add(bundle, STREAM)
        loaded = registry.load(STREAM.name, version)
        test = TEST[method]
        np.testing.assert_array_equal(loaded.score(test), bundle.score(test))
        suspects = test.filter(pl.Series(loaded.score(test) >= np.float32(loaded.threshold)))
        assert any(loaded.explain(suspects))
    assert len(registry.list()) == 2


def simulated() -> pl.DataFrame:
    """Normalised labelled records of the stream `process`, with one type of attack."""
    frame = labelled(1, records=6000)[0].filter(pl.col("type").is_in(["normal", "dos"]))
    payload = frame.write_ndjson().encode()
    ends = np.flatnonzero(np.frombuffer(payload, np.uint8) == 10) + 1
    messages = Messages("made", 0, payload, np.concatenate([[0], ends[:-1]]).astype(np.int64), len(payload))
    return PROCESS.decode(messages, DecodeOptions(labels=True)).records


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose lake has labelled records of two sites."""
    data = tmp_path_factory.mktemp("data")
    whole = simulated().with_columns(pl.col("event_time").dt.date().alias("date"))
    for epoch, site in enumerate(("north", "south")):
        part = whole.gather_every(2, epoch).with_columns(pl.lit(site).alias("site"))
        assert Lake(data / "lake").append("process", part, epoch, f"pipeline-{site}")
    return data


def command(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--data", str(data), "train", "--as", "process", *arguments])


def test_the_command_trains_on_the_whole_lake(spark: SparkSession, lake: Path) -> None:
    done = command(lake, "--lake", "--engine", "spark", "--workers", "1", "--trees", "5", "--depth", "4", "--json")
    assert done.exit_code == 0, done.output
    about = json.loads(done.stdout.splitlines()[-1])
    rows = simulated()
    assert (about["method"], about["records"], about["promoted"]) == ("supervised", rows.height, True)
    bundle = Registry(lake / "models").load("process")
    assert bundle.version == about["version"]
    truth = (rows["label"] == 1).to_numpy()
    score = bundle.score(rows)
    assert roc_auc(truth, score) > 0.95
    assert (score[~truth] >= np.float32(bundle.threshold)).mean() < 0.01
    assert spark.range(3).count() == 3, "a session that ran before is left running"


def test_local_training_knows_the_labels_of_the_lake_too(lake: Path) -> None:
    done = command(lake, "--lake", "--trees", "5", "--no-promote", "--json")
    assert done.exit_code == 0, done.output
    about = json.loads(done.stdout.splitlines()[-1])
    assert (about["method"], about["records"]) == ("supervised", simulated().height)


def test_parquet_folders_are_read_by_spark_alone(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "labelled"
    folder.mkdir()
    simulated().drop("CPU").write_parquet(folder / "part-1.parquet")
    here, there = command(tmp_path, str(folder)), command(tmp_path, str(folder), "--engine", "spark")
    assert (here.exit_code, there.exit_code) == (2, 3)
    assert "--engine spark" in here.output
    assert "columns missing: CPU" in there.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(["--lake"], 3, "no records of process yet", id="empty lake"),
        pytest.param(["--simulated"], 2, "need --engine local", id="simulation"),
        pytest.param(["--lake", "--tune", "3"], 2, "need --engine local", id="tuning"),
    ],
)
def test_what_spark_cannot_train_on_is_said(
    spark: SparkSession, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    done = command(tmp_path, "--engine", "spark", *arguments)
    assert done.exit_code == code
    assert said in done.output


def test_a_method_without_spark_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="unsupervised"):
        train_on_spark(spread(spark, ROWS), STREAM, "unsupervised", OPTIONS, scratch=str(tmp_path))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param(ROWS.drop("load"), "columns missing: load", id="column"),
        pytest.param(ROWS.head(20), "20 distinct rows", id="too few"),
        pytest.param(ROWS.drop("label"), "needs both", id="no labels"),
        pytest.param(ROWS.filter(pl.col("label") == 0), "needs both", id="no attacks"),
    ],
)
def test_data_that_cannot_carry_it_is_refused(
    spark: SparkSession, tmp_path: Path, rows: pl.DataFrame, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        train_on_spark(spread(spark, rows), STREAM, "supervised", OPTIONS, scratch=str(tmp_path))
