"""Trees made elsewhere, as XGBoost trees: isolation forests and histograms score natively and explain by TreeSHAP."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hackwatch.detect.features import Matrix
from hackwatch.detect.models.booster import xgb

__all__ = ["Tree", "average_path", "forest", "histogram_tree", "isolation_forest"]

_EULER = 0.5772156649015329
_NO_PARENT = 2147483647


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A binary tree as arrays over its nodes, root first: left if x < condition.

    `left`/`right` are node numbers, -1 at leaves; `condition` a float32 split or, at a leaf, its value; `cover` the
    training rows that passed the node (TreeSHAP weighs by it). `sets`: of nodes that split by membership, the codes
    (0, 1, ...) that go right, increasing. `gain`: what each split won in training, if known.
    """

    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    condition: npt.NDArray[np.float32]
    cover: npt.NDArray[np.float32]
    sets: Mapping[int, Sequence[int]] = field(default_factory=dict)
    gain: npt.NDArray[np.float32] | None = None


def forest(trees: Sequence[Tree], width: int) -> bytes:
    """A UBJ model of XGBoost whose output is the sum over `trees`, for matrices of `width` features."""
    model = {
        "learner": {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": {
                "model": {
                    "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(len(trees))},
                    "iteration_indptr": list(range(len(trees) + 1)),
                    "tree_info": [0] * len(trees),
                    "trees": [_as_json(tree, number, width) for number, tree in enumerate(trees)],
                },
                "name": "gbtree",
            },
            "learner_model_param": {
                "base_score": "[0E0]",
                "boost_from_average": "0",
                "num_class": "0",
                "num_feature": str(width),
                "num_target": "1",
            },
            "objective": {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}},
        },
        "version": [3, 0, 0],
    }
    booster = xgb.Booster()
    booster.load_model(bytearray(json.dumps(model).encode()))
    return bytes(booster.save_raw("ubj"))


def _side_by_side(tree: Tree) -> Tree:
    """The same tree with its nodes renumbered level by level: XGBoost takes the right child to follow the left one."""
    order = [0]
    left = np.full(len(tree.left), -1, np.int32)
    for new, old in enumerate(order):
        if tree.left[old] >= 0:
            left[new] = len(order)
            order += [int(tree.left[old]), int(tree.right[old])]
    right = np.where(left >= 0, left + 1, -1).astype(np.int32)
    sets = {new: tree.sets[old] for new, old in enumerate(order) if old in tree.sets}
    gain = None if tree.gain is None else tree.gain[order]
    return Tree(left, right, tree.feature[order], tree.condition[order], tree.cover[order], sets, gain)


def _as_json(tree: Tree, number: int, width: int) -> dict[str, Any]:
    tree = _side_by_side(tree)
    nodes = len(tree.left)
    parents = np.full(nodes, _NO_PARENT, np.int64)
    inner = np.flatnonzero(tree.left >= 0)
    parents[tree.left[inner]] = inner
    parents[tree.right[inner]] = inner
    zeros = [0] * nodes
    sizes = [len(codes) for codes in tree.sets.values()]
    return {
        "base_weights": np.where(tree.left < 0, tree.condition, 0).tolist(),
        "categories": [code for codes in tree.sets.values() for code in codes],
        "categories_nodes": list(tree.sets),
        "categories_segments": [sum(sizes[:place]) for place in range(len(sizes))],
        "categories_sizes": sizes,
        "default_left": zeros,
        "id": number,
        "left_children": tree.left.tolist(),
        "right_children": tree.right.tolist(),
        "loss_changes": [0.0] * nodes if tree.gain is None else tree.gain.tolist(),
        "parents": parents.tolist(),
        "split_conditions": tree.condition.tolist(),
        "split_indices": np.where(tree.left < 0, 0, tree.feature).tolist(),
        "split_type": [int(node in tree.sets) for node in range(nodes)],
        "sum_hessian": tree.cover.tolist(),
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(width),
            "num_nodes": str(nodes),
            "size_leaf_vector": "1",
        },
    }


def average_path(rows: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Mean path length of an unsuccessful search in a binary tree of n rows: c(n) of Liu, Ting, Zhou (2008)."""
    count = np.asarray(rows, np.float64)
    many = np.maximum(count, 3)
    found = 2 * (np.log(many - 1) + _EULER) - 2 * (many - 1) / many
    return np.where(count <= 1, 0.0, np.where(count == 2, 1.0, found))


def isolation_forest(matrix: Matrix, *, trees: int, sample: int, seed: int) -> bytes:
    """An isolation forest whose output is minus its mean path length: greater is odder (Liu, Ting, Zhou 2008).

    Trained by scikit-learn; equal to its `score_samples` by -2 ** (output / c(sample)). scikit-learn goes left on
    x <= t with a float64 t, XGBoost on x < t with a float32 one: hence the next float32 above.
    """
    from sklearn.ensemble import IsolationForest  # type: ignore[import-untyped]  # has no types; only trainers pay for scikit-learn

    sample = min(sample, len(matrix))
    trained = IsolationForest(n_estimators=trees, max_samples=sample, random_state=seed, n_jobs=1).fit(matrix)
    return forest([_isolation_tree(estimator.tree_, trees) for estimator in trained.estimators_], matrix.shape[1])


def _isolation_tree(tree: Any, trees: int) -> Tree:
    left = tree.children_left.astype(np.int32)
    right = tree.children_right.astype(np.int32)
    depth = np.zeros(len(left))
    for node in np.flatnonzero(left >= 0):  # parents come before their children
        depth[left[node]] = depth[right[node]] = depth[node] + 1
    split = tree.threshold.astype(np.float32)
    above = split > tree.threshold  # rounded up: x < split is x <= threshold already
    split = np.where(above, split, np.nextafter(split, np.float32(np.inf)))
    path = -(depth + average_path(tree.n_node_samples)) / trees
    return Tree(
        left,
        right,
        tree.feature.astype(np.int32),
        np.where(left < 0, path, split).astype(np.float32),
        tree.n_node_samples.astype(np.float32),
    )


def histogram_tree(
    feature: int, edges: npt.NDArray[np.float32], values: npt.NDArray[np.float64], cover: npt.NDArray[np.float64]
) -> Tree:
    """A balanced tree over one feature: values[i] for edges[i-1] <= x < edges[i]; len(values) = len(edges) + 1."""
    left: list[int] = []
    right: list[int] = []
    condition: list[float] = []
    weight: list[float] = []

    def grow(start: int, end: int) -> int:
        node = len(left)
        left.append(-1)
        right.append(-1)
        weight.append(float(cover[start:end].sum()))
        if end - start == 1:
            condition.append(float(values[start]))
            return node
        middle = (start + end) // 2
        condition.append(float(edges[middle - 1]))
        left[node] = grow(start, middle)
        right[node] = grow(middle, end)
        return node

    grow(0, len(values))
    return Tree(
        np.array(left, np.int32),
        np.array(right, np.int32),
        np.full(len(left), feature, np.int32),
        np.array(condition, np.float32),
        np.array(weight, np.float32),
    )
