"""Boosted trees on labelled rows, judged by attacks they never saw."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hackwatch.detect.calibration import threshold_of
from hackwatch.detect.evaluation.measures import recall_at, roc_auc
from hackwatch.detect.features import Matrix, fit_encoder
from hackwatch.detect.models.booster import Trees, xgb
from hackwatch.detect.models.methods import Classifier
from hackwatch.detect.training.options import Options, Progress, Trained
from hackwatch.detect.training.rows import Rows
from hackwatch.errors import DataError
from hackwatch.streams.stream import Stream

__all__ = ["fit_booster", "leave_types_out", "out_of_fold", "train_supervised"]

Labels = npt.NDArray[np.bool_]


def fit_booster(matrix: Matrix, label: Labels, options: Options) -> Trees:
    """Train XGBoost on the rows given; scores are probabilities of attack."""
    settings = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": options.depth,
        "eta": options.learning_rate,
        "subsample": options.row_share,
        "colsample_bytree": options.column_share,
        "seed": options.seed,
        "nthread": options.cores(len(matrix)),
        "verbosity": 0,
    }
    data = xgb.DMatrix(matrix, label.astype(np.float32), nthread=options.cores(len(matrix)))
    booster = xgb.train(settings, data, options.trees)
    return Trees(bytes(booster.save_raw("ubj")), threads=options.cores(len(matrix)))


def train_supervised(rows: Rows, stream: Stream, options: Options, progress: Progress) -> Trained:
    """Train on all distinct rows; the threshold from out-of-fold scores of normal ones, metrics from types left out."""
    _check(rows, options)
    encoder = fit_encoder(rows.records, stream.features, metric=False)
    matrix = encoder.encode(rows.records)
    held = out_of_fold(matrix, rows.label, options, progress)
    normal = ~rows.label
    threshold = threshold_of(held[normal], rows.count[normal], options.alert_budget)
    metrics: dict[str, Any] = {
        "rows": len(matrix),
        "attacks": int(rows.label.sum()),
        "out_of_fold": {
            "roc_auc": roc_auc(rows.label, held),
            "recall_at_1_percent": recall_at(rows.label, held, 0.01),
            "recall_at_threshold": float((held[rows.label] >= threshold).mean()),
            "false_alarm_rate": float(np.average(held[normal] >= threshold, weights=rows.count[normal])),
        },
        "types_left_out": leave_types_out(matrix, rows, threshold, options, progress),
    }
    progress("final model", 0, 1)
    trees = fit_booster(matrix, rows.label, options)
    progress("final model", 1, 1)
    return Trained(encoder, Classifier(trees, len(encoder)), threshold, metrics, (held[normal], rows.count[normal]))


def _check(rows: Rows, options: Options) -> None:
    attacks, normal = int(rows.label.sum()), int((~rows.label).sum())
    if not rows.labelled or min(attacks, normal) < options.folds:
        raise DataError(
            f"{attacks} distinct attack rows and {normal} normal ones; supervised training needs both",
            where="training records",
            next_step="give labelled records (columns label or attack, type), or train with --method unsupervised",
        )


def folds_of(label: Labels, options: Options) -> npt.NDArray[np.int64]:
    """A fold number a row, attacks and normals spread evenly."""
    random = np.random.default_rng(options.seed)
    fold = np.empty(len(label), np.int64)
    for value in (False, True):
        place = np.flatnonzero(label == value)
        fold[place] = random.permutation(len(place)) % options.folds
    return fold


def out_of_fold(matrix: Matrix, label: Labels, options: Options, progress: Progress) -> npt.NDArray[np.float32]:
    """The score of each row by a model that did not see it, (rows,)."""
    fold = folds_of(label, options)
    held = np.empty(len(matrix), np.float32)
    for number in range(options.folds):
        progress("out-of-fold scores", number, options.folds)
        out = fold == number
        held[out] = fit_booster(matrix[~out], label[~out], options).predict(matrix[out])
    progress("out-of-fold scores", options.folds, options.folds)
    return held


def leave_types_out(
    matrix: Matrix, rows: Rows, threshold: float, options: Options, progress: Progress
) -> dict[str, dict[str, float]]:
    """How well each attack type is found by a model that saw none of it: the honest estimate for new attacks.

    Per type: rows, roc_auc and recall_at_1_percent against a fold of normal rows held out too, recall_at_threshold.
    """
    types = rows.type.to_numpy()
    names = sorted({str(name) for name in types[rows.label]})
    if len(names) < 2:
        return {}
    fold = folds_of(rows.label, options)
    found = {}
    for number, name in enumerate(names):
        progress("attack types left out", number, len(names))
        left = rows.label & (types == name)
        quiet = ~rows.label & (fold == number % options.folds)
        scores = fit_booster(matrix[~left & ~quiet], rows.label[~left & ~quiet], options).predict(matrix[left | quiet])
        truth = left[left | quiet]
        found[name] = {
            "rows": float(left.sum()),
            "roc_auc": roc_auc(truth, scores),
            "recall_at_1_percent": recall_at(truth, scores, 0.01),
            "recall_at_threshold": float((scores[truth] >= threshold).mean()),
        }
    progress("attack types left out", len(names), len(names))
    return found
