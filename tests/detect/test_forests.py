"""Trees made elsewhere score in XGBoost exactly as where they came from, and SHAP points the right way."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped]  # has no types

from hackwatch.detect.features import Matrix
from hackwatch.detect.models.booster import Trees
from hackwatch.detect.models.forests import average_path, forest, histogram_tree, isolation_forest


def _matrix(kind: str, rows: int = 2000, columns: int = 5) -> Matrix:
    random = np.random.default_rng(5)
    if kind == "counts":
        return random.integers(0, 6, (rows, columns)).astype(np.float32)
    if kind == "tiny":
        return (random.normal(size=(rows, columns)) * 1e-30).astype(np.float32)
    return random.normal(size=(rows, columns)).astype(np.float32)


@pytest.mark.parametrize("kind", ["normal", "counts", "tiny"])
@pytest.mark.parametrize("sample", [2, 64, 256])
def test_an_isolation_forest_equals_scikit_learn(kind: str, sample: int) -> None:
    matrix = _matrix(kind)
    output = Trees(isolation_forest(matrix, trees=40, sample=sample, seed=7)).predict(matrix)
    known = IsolationForest(n_estimators=40, max_samples=sample, random_state=7).fit(matrix).score_samples(matrix)
    np.testing.assert_allclose(-(2.0 ** (output / average_path(sample))), known, atol=1e-6)


def test_rows_on_a_split_go_left_as_in_scikit_learn() -> None:
    matrix = _matrix("counts")
    trained = IsolationForest(n_estimators=40, max_samples=256, random_state=7).fit(matrix)
    splits = np.concatenate([tree.tree_.threshold[tree.tree_.children_left >= 0] for tree in trained.estimators_])
    edge = np.tile(splits.astype(np.float32)[:400, None], (1, 5))
    output = Trees(isolation_forest(matrix, trees=40, sample=256, seed=7)).predict(edge)
    np.testing.assert_allclose(-(2.0 ** (output / average_path(256))), trained.score_samples(edge), atol=1e-6)


def test_one_row_scores_as_in_a_batch_and_as_its_contributions_say() -> None:
    matrix = _matrix("normal")[:100]
    trees = Trees(isolation_forest(_matrix("normal"), trees=20, sample=256, seed=7))
    whole = trees.predict(matrix)
    np.testing.assert_array_equal([trees.predict(matrix[row : row + 1])[0] for row in range(100)], whole)
    np.testing.assert_allclose(trees.contributions(matrix).sum(axis=1), whole, atol=1e-4)


def test_200_planted_anomalies_are_attributed_to_the_planted_column() -> None:
    random = np.random.default_rng(11)
    matrix = _matrix("normal", rows=5000, columns=8)
    trees = Trees(isolation_forest(matrix, trees=100, sample=512, seed=7))
    planted = matrix[random.choice(5000, 200, replace=False)]
    column = random.integers(0, 8, 200)
    planted[np.arange(200), column] = random.choice([-1, 1], 200) * random.uniform(6, 9, 200)
    found = trees.contributions(planted)[:, :-1]
    assert (found.argmax(axis=1) == column).mean() >= 0.95
    # The output is minus the path length: with its sign turned the attribution would be right in none.
    assert (found.argmin(axis=1) == column).sum() == 0


def test_average_path_is_that_of_the_paper() -> None:
    # Liu, Ting, Zhou 2008: c(2) = 1, c(n) = 2 H(n - 1) - 2 (n - 1) / n with H(i) about ln(i) + 0.5772156649.
    np.testing.assert_allclose(average_path([0, 1, 2, 256]), [0, 0, 1, 10.2448], atol=1e-4)


@pytest.mark.parametrize("bins", [1, 2, 3, 7, 65])
def test_a_histogram_tree_looks_up_the_bin(bins: int) -> None:
    random = np.random.default_rng(bins)
    edges = np.sort(random.normal(size=bins - 1)).astype(np.float32)
    values, cover = random.normal(size=bins), random.integers(1, 50, bins).astype(np.float64)
    trees = Trees(forest([histogram_tree(1, edges, values, cover)], 3))
    matrix = random.normal(size=(300, 3)).astype(np.float32)
    matrix[: len(edges), 1] = edges
    expected = values[np.searchsorted(edges, matrix[:, 1], side="right")]
    np.testing.assert_allclose(trees.predict(matrix), expected, rtol=1e-6)
    shap = trees.contributions(matrix)
    np.testing.assert_allclose(shap[:, 1], expected - np.average(values, weights=cover), atol=1e-4)
    assert not shap[:, [0, 2]].any()
