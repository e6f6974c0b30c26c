"""Search for better training options, judged by attack types left out; resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from hackwatch.detect.evaluation.measures import roc_auc
from hackwatch.detect.features import fit_encoder
from hackwatch.detect.training.options import Options
from hackwatch.detect.training.rows import Rows, prepare
from hackwatch.detect.training.supervised import leave_types_out, out_of_fold
from hackwatch.errors import ConfigurationError, ResourceError
from hackwatch.streams.stream import Stream

__all__ = ["Tuned", "tune"]


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best options found, their `quality`, and how many `trials` the study holds in all."""

    options: Options
    quality: float
    trials: int


def tune(
    records: pl.DataFrame,
    stream: Stream,
    options: Options,
    trials: int,
    study: Path,
    on_trial: Callable[[int, float], None] | None = None,
) -> Tuned:
    """Try `trials` more sets of options for supervised training; `study` is a SQLite file that keeps all of them.

    Quality is the mean ROC-AUC over attack types that a model did not see in training (out-of-fold ROC-AUC if there are
    fewer than two types): a random split would say 1.0 to everything. `on_trial` hears (trials done, best quality).
    Raises ResourceError if Optuna is not installed.
    """
    if trials < 1:
        raise ConfigurationError(f"{trials} trials are nothing to do", next_step="give a positive number to --tune")
    optuna = _optuna()
    rows = prepare(records, stream)
    matrix = fit_encoder(rows.records, stream.features, metric=False).encode(rows.records)
    # The name tells apart data that must not share trials.
    name = f"{stream.name}-{len(matrix)}-{int(rows.label.sum())}-{options.seed}"
    storage = optuna.storages.RDBStorage(f"sqlite:///{study}")
    search = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=options.seed),
    )

    def quality(trial: Any) -> float:
        return _quality(matrix, rows, _suggested(trial, options))

    def heard(study: Any, trial: Any) -> None:
        if on_trial:
            on_trial(trial.number + 1, study.best_value)

    search.optimize(quality, n_trials=trials, callbacks=[heard])
    storage.engine.dispose()
    return Tuned(replace(options, **search.best_params), float(search.best_value), len(search.trials))


def _suggested(trial: Any, options: Options) -> Options:
    return replace(
        options,
        trees=trial.suggest_int("trees", 20, 200, step=20),
        depth=trial.suggest_int("depth", 3, 8),
        learning_rate=trial.suggest_float("learning_rate", 0.03, 0.5, log=True),
        row_share=trial.suggest_float("row_share", 0.5, 1.0),
        column_share=trial.suggest_float("column_share", 0.4, 1.0),
    )


def _quality(matrix: Any, rows: Rows, options: Options) -> float:
    def silent(what: str, done: int, steps: int) -> None: ...

    left_out = leave_types_out(matrix, rows, 0.5, options, silent)
    if left_out:
        return sum(found["roc_auc"] for found in left_out.values()) / len(left_out)
    return roc_auc(rows.label, out_of_fold(matrix, rows.label, options, silent))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ResourceError(
            "tuning needs Optuna, which is not installed", next_step="pip install 'hackwatch[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
