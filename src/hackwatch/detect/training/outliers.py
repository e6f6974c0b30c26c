"""Detectors that learn what is normal, without attacks: the ensemble, and the permuted-columns forest."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hackwatch.detect.calibration import tail_quantile, threshold_of
from hackwatch.detect.evaluation.measures import recall_at, roc_auc
from hackwatch.detect.features import Matrix, fit_encoder
from hackwatch.detect.models.booster import Trees, xgb
from hackwatch.detect.models.ensemble import fit_ensemble, probability, units
from hackwatch.detect.models.methods import Classifier
from hackwatch.detect.training.options import Options, Progress, Trained
from hackwatch.detect.training.rows import Rows
from hackwatch.streams.stream import Stream

__all__ = ["train_permuted", "train_unsupervised"]

#: Share of the worst distinct rows left out per refit when nobody says what is normal.
DROP = 0.03
#: Folds of the cross-fit.
FOLDS = 3


def train_unsupervised(rows: Rows, stream: Stream, options: Options, progress: Progress) -> Trained:
    """Train the ensemble, leave out the oddest rows and train again; threshold from rows scored unseen.

    The threshold is over all rows, those left out too: an attack in the training data raises it, never lowers it.
    """
    kept = normal = np.flatnonzero(~rows.label)
    drop = (0.0 if rows.labelled else DROP) if options.drop is None else options.drop
    rounds = options.refits + 1 if drop else 1
    for number in range(rounds):
        progress("isolation forest, histograms, distances", number, rounds)
        encoder = fit_encoder(rows.records[kept], stream.features, metric=True)
        matrix = encoder.encode(rows.records)
        scale = units(encoder, matrix[kept])
        model, place, unseen, records = fit_ensemble(
            matrix[kept], rows.count[kept], scale, seed=options.seed, folds=min(options.folds, FOLDS)
        )
        level = model.levels(matrix).mean(axis=0)
        # A row's own level is its mean over the folds that held records of it out.
        level[kept] = np.bincount(place, unseen * records) / np.bincount(place, records)
        if number + 1 < rounds:
            kept = normal[level[normal] <= np.quantile(level[kept], 1 - drop)]
    progress("isolation forest, histograms, distances", rounds, rounds)
    left_out = np.setdiff1d(normal, kept)
    unseen = np.concatenate([unseen, level[left_out]])
    records = np.concatenate([records, rows.count[left_out]])
    limit = tail_quantile(unseen, records, options.alert_budget)
    threshold = float(np.nextafter(probability(np.array(limit)), np.float32(1)))
    metrics = _metrics(rows, probability(level), threshold)
    return Trained(encoder, model, threshold, metrics, (probability(unseen), records))


def train_permuted(rows: Rows, stream: Stream, options: Options, progress: Progress) -> Trained:
    """A random forest that tells real rows from rows whose columns were each drawn independently.

    What looks like a draw from independent columns breaks the relations of normal rows (Shi and Horvath 2006: random
    forest predictors for unlabelled data). Each row is scored out of fold for the threshold.
    """
    encoder = fit_encoder(rows.records.filter(~rows.label), stream.features, metric=False)
    matrix = encoder.encode(rows.records)
    normal = matrix[~rows.label]
    fold = np.random.default_rng(options.seed).permutation(len(normal)) % options.folds
    held = np.empty(len(normal), np.float32)
    for number in range(options.folds):
        progress("permuted-columns forest", number, options.folds + 1)
        out = fold == number
        held[out] = np.clip(_permuted_forest(normal[~out], options).predict(normal[out]), 0, 1)
    progress("permuted-columns forest", options.folds, options.folds + 1)
    trees = _permuted_forest(normal, options)
    progress("permuted-columns forest", options.folds + 1, options.folds + 1)
    threshold = threshold_of(held, rows.count[~rows.label], options.alert_budget)
    model = Classifier(trees, len(encoder))
    scores = model.score(matrix)
    scores[~rows.label] = held
    metrics = _metrics(rows, scores, threshold)
    return Trained(encoder, model, threshold, metrics, (held, rows.count[~rows.label]))


def _permuted_forest(matrix: Matrix, options: Options) -> Trees:
    random = np.random.default_rng(options.seed)
    synthetic = np.column_stack([random.choice(matrix[:, column], len(matrix)) for column in range(matrix.shape[1])])
    # A random forest in XGBoost: parallel trees of one round, leaves are class shares.
    settings = {
        "objective": "reg:squarederror",
        "base_score": 0.5,
        "tree_method": "hist",
        "num_parallel_tree": options.trees,
        "max_depth": max(options.depth, 10),
        "subsample": 0.25,
        "colsample_bynode": float(1 / np.sqrt(matrix.shape[1])),
        "eta": 1.0,
        "lambda": 0.0,
        "min_child_weight": 2,
        "seed": options.seed,
        "nthread": options.cores(2 * len(matrix)),
        "verbosity": 0,
    }
    truth = np.repeat(np.array([0, 1], np.float32), len(matrix))
    booster = xgb.train(settings, xgb.DMatrix(np.concatenate([matrix, synthetic]), truth), 1)
    return Trees(bytes(booster.save_raw("ubj")), threads=options.cores(len(matrix)))


def _metrics(rows: Rows, scores: npt.NDArray[np.float32], threshold: float) -> dict[str, Any]:
    normal = ~rows.label
    metrics: dict[str, Any] = {
        "rows": len(scores),
        "false_alarm_rate": float(np.average(scores[normal] >= threshold, weights=rows.count[normal])),
    }
    if rows.label.any():
        metrics |= {
            "attacks": int(rows.label.sum()),
            "roc_auc": roc_auc(rows.label, scores),
            "recall_at_1_percent": recall_at(rows.label, scores, 0.01),
            "recall_at_threshold": float((scores[rows.label] >= threshold).mean()),
        }
    return metrics
