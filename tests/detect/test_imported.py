"""Trees from elsewhere: numbers find their place exactly, and probabilities become predictions as in Spark ML."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from hackwatch.detect.features import Encoder, Feature
from hackwatch.detect.models.booster import Trees
from hackwatch.detect.models.forests import Tree, forest
from hackwatch.detect.models.imported import Decision, Imported, Leaves

INF, NAN = math.inf, math.nan
JUST_ABOVE = float(np.nextafter(0.1, 1))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        pytest.param(-INF, 0, id="least"),
        pytest.param(0.1, 0, id="at an edge"),
        pytest.param(JUST_ABOVE, 1, id="above it by a step that float32 cannot see"),
        pytest.param(7.0, 1, id="at the last edge"),
        pytest.param(7.5, 2, id="beyond"),
        pytest.param(INF, 2, id="infinite"),
        pytest.param(NAN, 3, id="nan"),
        pytest.param(None, 4, id="null"),
    ],
)
def test_a_number_finds_its_place_in_float64(value: float | None, code: int) -> None:
    feature = Feature("x", "place", null=4, unseen=3, edges=(0.1, 7.0))
    encoder = Encoder.from_json(Encoder((feature,)).as_json())
    assert encoder.features == (feature,)
    assert encoder.encode(pl.DataFrame({"x": [value, 1.0]}, schema={"x": pl.Float64})).tolist() == [[code], [1]]


def test_a_feature_without_edges_tells_only_null_and_nan() -> None:
    encoder = Encoder((Feature("x", "place", null=2, unseen=1),))
    rows = pl.DataFrame({"x": [-1e300, NAN, None]}, schema={"x": pl.Float64})
    assert encoder.encode(rows).tolist() == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("votes", "thresholds", "predicted"),
    [
        pytest.param((1.0, 1.0), None, False, id="of equals the first"),
        pytest.param((1.0, 1.0 + 1e-15), None, True, id="the last bit decides"),
        pytest.param((1.0, 3.0), (0.2, 0.8), False, id="less than its share"),
        pytest.param((1.0, 5.0), (0.2, 0.8), True, id="more than its share"),
        pytest.param((9.0, 1.0), (1.0, 0.0), True, id="a threshold of 0 wins"),
        pytest.param((1.0, 0.0), (1.0, 0.0), False, id="but not with a probability of 0"),
        pytest.param((1.0, 9.0), (0.0, 1.0), False, id="the other one's threshold of 0 wins"),
        pytest.param((0.0, 1.0), (0.0, 1.0), True, id="but not with a probability of 0 either"),
    ],
)
def test_votes_become_a_prediction(
    votes: tuple[float, float], thresholds: tuple[float, float] | None, predicted: bool
) -> None:
    decision = Decision("votes", thresholds)
    probability, found = decision.exactly(np.array([[votes]]))
    assert found.tolist() == [predicted]
    assert probability[0] == pytest.approx(votes[1] / sum(votes))
    score = stump(votes, decision).score(np.zeros((1, 1), np.float32))
    assert (score[0] >= decision.threshold) == predicted
    assert score[0] == pytest.approx(probability[0], abs=1e-6)


def stump(votes: tuple[float, float], decision: Decision) -> Imported:
    """A model whose two leaves both give these votes; code 2 is refused."""
    share = np.float32(votes[1] / sum(votes))
    nodes = np.array([1, -1, -1], np.int32)
    tree = Tree(
        left=nodes,
        right=np.array([2, -1, -1], np.int32),
        feature=np.zeros(3, np.int32),
        condition=np.array([1, share, share], np.float32),
        cover=np.array([2, 1, 1], np.float32),
    )
    leaves = Leaves(np.array([votes] * 3), np.array([0]))
    return Imported(Trees(forest([tree], 1)), leaves, decision, (np.array([False, False, True]),))


def test_refused_codes_score_zero() -> None:
    model = stump((1.0, 4.0), Decision("votes"))
    scores = model.score(np.array([[0], [1], [2]], np.float32))
    assert scores.tolist() == pytest.approx([0.8, 0.8, 0.0])


@pytest.mark.parametrize("right", [(0,), (1, 3), (0, 1, 2, 3)])
def test_a_split_by_membership_sends_its_set_right(right: tuple[int, ...]) -> None:
    tree = Tree(
        left=np.array([1, -1, -1], np.int32),
        right=np.array([2, -1, -1], np.int32),
        feature=np.zeros(3, np.int32),
        condition=np.array([0, 10, 20], np.float32),
        cover=np.array([2, 1, 1], np.float32),
        sets={0: right},
    )
    trees = Trees(forest([tree], 1))
    codes = np.arange(5, dtype=np.float32)[:, None]
    expected = [20 if code in right else 10 for code in range(5)]
    assert trees.predict(codes).tolist() == expected
    assert trees.leaves(codes)[:, 0].tolist() == [2 if code in right else 1 for code in range(5)]
    np.testing.assert_allclose(trees.contributions(codes).sum(axis=1), expected, rtol=1e-6)
