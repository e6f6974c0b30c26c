"""Evaluation against what can be counted by hand, and a report that stands alone."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import (  # type: ignore[import-untyped]  # it ships no types
    average_precision_score,
    f1_score,
    precision_score,
    roc_auc_score,
)

from hackwatch.detect.bundle import Bundle
from hackwatch.detect.evaluation import evaluate
from hackwatch.detect.evaluation.report import html
from hackwatch.errors import DataError
from tests.detect.support import ATTACKS, STREAM, records

TEST = records(3000, seed=6, attacks=0.2, clients=3)


def test_counts_are_those_of_the_records(bundle: Bundle) -> None:
    found = evaluate(bundle, STREAM, TEST)
    scored = TEST.with_columns(suspect=pl.Series(bundle.score(TEST) >= np.float32(bundle.threshold)))
    attacks, normal = scored.filter(label=1), scored.filter(label=0)
    assert (found.rows, found.attacks) == (3000, attacks.height)
    assert found.true_positives == attacks["suspect"].sum()
    assert found.false_positives == normal["suspect"].sum()
    assert found.true_positives + found.false_negatives == attacks.height
    assert found.false_positives + found.true_negatives == normal.height
    assert found.recall == pytest.approx(found.true_positives / attacks.height)
    assert [entry.type for entry in found.types] == ["normal", *sorted(ATTACKS)]
    for entry in found.types:
        assert entry.rows == scored.filter(type=entry.type).height
        assert entry.suspects == scored.filter(type=entry.type)["suspect"].sum()


def test_measures_are_those_of_others(bundle: Bundle) -> None:
    """Each measure under its own name: against scikit-learn, and recall at a rate of false alarms by hand."""
    found = evaluate(bundle, STREAM, TEST)
    truth, scores = (TEST["label"] == 1).to_numpy(), bundle.score(TEST)
    suspects = scores >= np.float32(bundle.threshold)
    assert found.roc_auc == pytest.approx(roc_auc_score(truth, scores))
    assert found.pr_auc == pytest.approx(average_precision_score(truth, scores))
    assert found.f1 == pytest.approx(f1_score(truth, suspects))
    assert found.precision == pytest.approx(precision_score(truth, suspects))
    assert found.false_alarm_rate == pytest.approx(suspects[~truth].mean())
    for told, rate in ((found.recall_at_1_percent, 0.01), (found.recall_at_01_percent, 0.001)):
        allowed = [limit for limit in np.unique(scores) if (scores[~truth] >= limit).mean() <= rate]
        assert told == pytest.approx(max((scores[truth] >= limit).mean() for limit in [*allowed, 2.0]))
    assert found.recall_at_01_percent <= found.recall_at_1_percent


def test_false_alarms_are_per_host_and_day(bundle: Bundle) -> None:
    found = evaluate(bundle, STREAM, TEST)
    assert found.hosts == 3
    # Three clients, each watched for nearly the whole day that the records span.
    assert 2.95 < found.host_days <= 3
    assert found.false_alarms_per_host_day == pytest.approx(found.false_positives / found.host_days)
    assert found.false_programs_per_host_day <= found.false_alarms_per_host_day


def test_calibration_covers_all_records(bundle: Bundle) -> None:
    found = evaluate(bundle, STREAM, TEST)
    assert sum(entry.rows for entry in found.calibration) == 3000
    assert all(0 <= entry.attacks <= 1 and 0 <= entry.score <= 1 for entry in found.calibration)


def test_unlabelled_records_are_left_out(bundle: Bundle) -> None:
    some = TEST.with_columns(pl.when(pl.int_range(pl.len()) < 2000).then("label").alias("label"))
    assert evaluate(bundle, STREAM, some).rows == 2000


@pytest.mark.parametrize(
    "frame",
    [TEST.drop("label"), TEST.filter(label=0), TEST.filter(label=1), TEST.clear()],
    ids=["no labels", "no attacks", "no normal records", "nothing"],
)
def test_one_kind_of_record_is_not_enough(bundle: Bundle, frame: pl.DataFrame) -> None:
    with pytest.raises(DataError, match="both kinds"):
        evaluate(bundle, STREAM, frame)


def test_json_has_every_measure_and_no_nan(bundle: Bundle) -> None:
    timeless = TEST.with_columns(event_time=pl.lit(TEST["event_time"][0]))
    text = json.dumps(evaluate(bundle, STREAM, timeless).as_json(), allow_nan=False)
    found = json.loads(text)
    assert found["false_alarms_per_host_day"] is None
    assert {"roc_auc", "pr_auc", "f1", "recall_at_1_percent", "recall_at_01_percent"} <= set(found)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset", "action")]


def test_the_report_stands_alone(bundle: Bundle) -> None:
    page = html(evaluate(bundle, STREAM, TEST))
    parsed = _Page()
    parsed.feed(page)
    assert parsed.links == []
    assert "script" not in parsed.tags
    assert "url(" not in page
    assert "@import" not in page
    assert parsed.tags.count("svg") == 4
    for title in ("ROC curve", "Precision and recall", "Calibration", "Feature importance", "Confusion"):
        assert title in page


def test_the_report_trusts_no_text(bundle: Bundle) -> None:
    nasty = TEST.with_columns(pl.when(pl.col("label") == 1).then(pl.lit("<script>alert(1)</script>")).alias("type"))
    page = html(evaluate(bundle, STREAM, nasty))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
