"""Roles: the champion decides alone; who scores beside it can do no harm, and every row says who scored it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hackwatch.detect.bundle import Bundle
from hackwatch.detect.detector import Detector, Driver
from hackwatch.detect.panel import Member, Panel, panel_schema, place
from hackwatch.pipeline.detection import SCORED, score_records
from tests.detect.support import SCHEMA, STREAM, records

ROWS = records(50, seed=5).select(SCHEMA.names())
Scores = npt.NDArray[np.float32]


class Told:
    """A detector that gives the scores it was told."""

    stream, threshold = "visit", 0.5

    def __init__(self, score: Callable[[pl.DataFrame], Scores], version: str = "visit-000009-told") -> None:
        self._score, self.version = score, version

    def score(self, records: pl.DataFrame) -> Scores:
        return self._score(records)

    def explain(self, records: pl.DataFrame, top: int = 4) -> list[list[Driver]]:
        return [[] for _ in range(len(records))]


def refuses(records: pl.DataFrame) -> Scores:
    raise RuntimeError("no")


def always(value: float) -> Detector:
    return Told(lambda records: np.full(len(records), value, np.float32))


WRONG: dict[str, tuple[Callable[[pl.DataFrame], Scores], str]] = {
    "raises": (refuses, "RuntimeError: no"),
    "one score for all": (lambda records: np.zeros(1, np.float32), "(1,) scores for 50 records"),
    "no numbers": (lambda records: np.array(["x"] * len(records)), "could not convert"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_failing_challenger_has_no_score_and_says_why(case: str, bundles: dict[str, Bundle]) -> None:
    score, problem = WRONG[case]
    alone = score_records(STREAM, ROWS, Panel(bundles["supervised"]), None)
    challenger = Member(Told(score))
    both = score_records(STREAM, ROWS, Panel(bundles["supervised"], {"challenger": challenger}), None)
    assert_frame_equal(both.select(alone.columns), alone, check_exact=True)
    assert both["challenger_score"].null_count() == len(ROWS)
    assert challenger.problem is not None
    assert problem in challenger.problem


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_the_champion_decides_alone(scores: list[float]) -> None:
    """Bit for bit the same with a challenger as without one, whatever that one says."""
    rows = ROWS.head(len(scores))
    champion = Told(lambda records: np.array(scores, np.float32), "visit-000001-abcd")
    alone = score_records(STREAM, rows, Panel(champion), None)
    both = score_records(STREAM, rows, Panel(champion, {"challenger": Member(always(1.0))}), None)
    assert_frame_equal(both.select(alone.columns), alone, check_exact=True)
    assert both["prediction"].to_list() == [int(score >= 0.5) for score in np.array(scores, np.float32)]
    assert set(both["challenger_score"]) == {1.0}


def test_each_row_names_the_version_of_each(bundles: dict[str, Bundle]) -> None:
    others = {"content": Member(bundles["permuted"]), "challenger": None}
    scored = score_records(STREAM, ROWS, Panel(bundles["supervised"], others), None)
    assert scored.schema == pl.Schema({**SCHEMA, **SCORED, **panel_schema(("content", "challenger"))})
    assert scored.select("model", "content_model", "challenger_model").unique().rows() == [
        (bundles["supervised"].version, bundles["permuted"].version, None)
    ]
    assert scored["content_score"].to_numpy().tolist() == bundles["permuted"].score(ROWS).tolist()
    assert scored["challenger_score"].null_count() == len(ROWS)


@pytest.mark.parametrize("rows", [0, 3])
def test_the_columns_do_not_depend_on_who_is_there(rows: int, bundles: dict[str, Bundle]) -> None:
    nobody = score_records(STREAM, ROWS.head(rows), Panel(None, {"content": None}), None)
    everybody = Panel(bundles["supervised"], {"content": Member(bundles["permuted"])})
    assert nobody.schema == score_records(STREAM, ROWS.head(rows), everybody, None).schema
    assert nobody["model"].null_count() == rows


def test_what_is_not_a_number_is_no_score() -> None:
    scored = score_records(STREAM, ROWS.head(2), Panel(None, {"content": Member(always(np.nan))}), None)
    assert scored["content_score"].to_list() == [None, None]


def test_names_in_the_log() -> None:
    panel = Panel(always(0.1), {"content": Member(always(0.2)), "challenger": None})
    named = {place("visit", role): version for role, version in panel.versions().items()}
    assert named == {"visit": "visit-000009-told", "visit:content": "visit-000009-told"}
