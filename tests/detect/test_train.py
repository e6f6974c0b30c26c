"""Training: thresholds keep their budget, unseen attack types are measured, small or wrong data are refused."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from hackwatch.detect.bundle import Bundle
from hackwatch.detect.models.methods import METHODS
from hackwatch.detect.training import Options, train
from hackwatch.detect.training.learn import LEAST_RECORDS, learn
from hackwatch.detect.training.rows import prepare
from hackwatch.errors import ConfigurationError, DataError
from tests.detect.support import ATTACKS, STREAM, records


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", [0.01, 0.05])
def test_unseen_normal_records_stay_near_the_budget(method: str, budget: float) -> None:
    bundle = train(records(4000), STREAM, method, Options(trees=20, depth=4, alert_budget=budget))
    unseen = records(6000, seed=77, attacks=0.0)
    rate = float((bundle.score(unseen) >= bundle.threshold).mean())
    assert rate <= 2.5 * budget


def test_supervised_metrics_leave_out_whole_types() -> None:
    bundle = train(records(), STREAM, "supervised", Options(trees=20, depth=4))
    left_out = bundle.metrics["types_left_out"]
    assert set(left_out) == set(ATTACKS)
    # Records with 30 GB are like no other attack: a model that never saw them cannot find them, and must say so.
    assert left_out["injection"]["roc_auc"] < bundle.metrics["out_of_fold"]["roc_auc"] - 0.1
    assert left_out["dos"]["roc_auc"] > 0.9


def test_attacks_hidden_in_unlabelled_training_are_still_odd() -> None:
    hidden = records(5000, attacks=0.01).drop("label", "type")
    bundle = train(hidden, STREAM, "unsupervised", Options(alert_budget=0.02))
    test = records(2000, seed=5, attacks=0.3)
    truth = (test["label"] == 1).to_numpy()
    scores = bundle.score(test)
    assert np.median(scores[truth]) > np.quantile(scores[~truth], 0.98)


def test_duplicates_train_as_one_row_but_count_for_the_threshold() -> None:
    once = records(500)
    rows = prepare(pl.concat([once, once, once]), STREAM)
    assert rows.records.height == prepare(once, STREAM).records.height
    assert rows.count.sum() == 1500


def test_progress_is_told() -> None:
    heard: list[tuple[str, int, int]] = []
    train(records(800), STREAM, "supervised", Options(trees=5), lambda *what: heard.append(what))
    assert {what for what, _, _ in heard} == {"out-of-fold scores", "attack types left out", "final model"}
    assert all(0 <= done <= steps for _, done, steps in heard)


@pytest.mark.parametrize(
    ("data", "method", "said"),
    [
        pytest.param(records(30), "unsupervised", "at least 50", id="too few"),
        pytest.param(records(400, attacks=0), "supervised", "0 distinct attack rows", id="no attacks"),
        pytest.param(records(400).drop("label"), "supervised", "needs both", id="no labels"),
        pytest.param(records(400).drop("load"), "unsupervised", "load", id="missing column"),
    ],
)
def test_data_that_cannot_carry_a_model_are_refused(data: pl.DataFrame, method: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        train(data, STREAM, method)


def test_wrong_options_are_told_all_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Options(alert_budget=0, trees=0, depth=99, folds=1, drop=0.9)
    assert len(caught.value.problems) == 5


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="magic"):
        train(records(400), STREAM, "magic")


@pytest.mark.parametrize("rows", [LEAST_RECORDS, 2000, 8000])
def test_what_was_learned_is_silent_at_rest(rows: int) -> None:
    bundle = learn(records(rows, attacks=0.0), STREAM)
    rest = records(20_000, seed=123, attacks=0.0)
    assert int((bundle.score(rest) >= bundle.threshold).sum()) <= 2


def test_what_was_learned_finds_the_outrageous() -> None:
    bundle = learn(records(8000, attacks=0.0), STREAM)
    odd = records(10, attacks=0.0).with_columns(
        pl.lit("/.env").alias("path"),
        pl.lit(0.99).alias("load"),
        pl.lit(8e9).alias("bytes"),
        pl.lit("POST").alias("method"),
    )
    assert (bundle.score(odd) >= bundle.threshold).all()


def test_learning_from_next_to_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="at least 500"):
        learn(records(LEAST_RECORDS - 1), STREAM)


def test_statistics_describe_the_normal_records(bundles: dict[str, Bundle]) -> None:
    statistics = bundles["supervised"].statistics
    normal = records(3000).filter(label=0)
    assert statistics["load"].median == pytest.approx(normal["load"].median())
    assert statistics["path"].usual == normal["path"].value_counts(sort=True)["path"][0]
    assert statistics["status"].nulls == pytest.approx(normal["status"].null_count() / normal.height)
    for entry in statistics.values():
        assert math.isclose(sum(entry.shares) + entry.nulls, 1.0)
