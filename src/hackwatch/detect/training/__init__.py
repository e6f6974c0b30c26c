"""From records to a bundle: one door for every method."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
import polars as pl

from hackwatch.detect.bundle import Bundle, Description
from hackwatch.detect.models.methods import METHODS
from hackwatch.detect.statistics import Statistics, describe
from hackwatch.detect.training.options import Options, Progress, Trained
from hackwatch.detect.training.rows import prepare
from hackwatch.errors import ConfigurationError
from hackwatch.streams.stream import Stream

__all__ = ["SCORE_BINS", "Options", "Progress", "bundled", "train"]

#: Equal bins of the score, for drift: finer ones would tell a score of 0.0003 from one of 0.0008.
SCORE_BINS = 10


def train(
    records: pl.DataFrame,
    stream: Stream,
    method: str = "supervised",
    options: Options | None = None,
    progress: Progress | None = None,
    now: datetime | None = None,
) -> Bundle:
    """Train a detector for `stream` on normalised `records`; truth in the columns `label` (0/1) and `type`.

    supervised needs both labels. unsupervised and permuted learn from the rows labelled 0, or from all if none are
    labelled. Equal records, options and seed give equal scores. Raises DataError if the data cannot carry it.
    """
    from hackwatch.detect.training.outliers import train_permuted, train_unsupervised
    from hackwatch.detect.training.supervised import train_supervised

    ways = dict(zip(METHODS, (train_supervised, train_unsupervised, train_permuted), strict=True))
    if method not in ways:
        raise ConfigurationError(f"unknown method {method!r}", next_step=f"choose one of {', '.join(METHODS)}")
    options = options or Options()
    rows = prepare(records, stream)
    trained = ways[method](rows, stream, options, progress or (lambda what, done, steps: None))
    normal = records.filter(pl.col("label").fill_null(0) == 0) if "label" in records.columns else records
    statistics = describe(normal, stream.features.columns)
    columns = {name: str(records.schema[name]) for name in stream.features.columns}
    return bundled(trained, stream, method, options, statistics, columns, records.height, now)


def bundled(
    trained: Trained,
    stream: Stream,
    method: str,
    options: Options,
    statistics: tuple[Statistics, ...],
    columns: Mapping[str, str],
    records: int,
    now: datetime | None = None,
) -> Bundle:
    """The bundle of what a method has trained; `columns` with their Polars types, `records`: how many it saw."""
    held, records_held = trained.held
    shares, _ = np.histogram(held, bins=SCORE_BINS, range=(0, 1), weights=records_held / records_held.sum())
    description = Description(
        stream=stream.name,
        method=method,
        columns=columns,
        units={name: stream.units[name] for name in columns if name in stream.units},
        threshold=float(np.float32(trained.threshold)),
        alert_budget=options.alert_budget,
        rows=records,
        created=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
        score_shares=tuple(shares.tolist()),
        metrics=trained.metrics,
        parameters=asdict(options),
        libraries={name: importlib.metadata.version(name) for name in ("hackwatch", "numpy", "polars", "scikit-learn")}
        | {"xgboost": _xgboost_version(), "python": platform.python_version()},
    )
    return Bundle(description, trained.encoder, trained.model, statistics)


def _xgboost_version() -> str:
    from hackwatch.detect.models.booster import xgb

    return str(xgb.__version__)
