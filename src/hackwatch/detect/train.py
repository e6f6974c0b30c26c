"""From records to a bundle: one door for every method."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.detect.bundle import Bundle, Description, Model
from hackwatch.detect.calibration import Floats
from hackwatch.detect.features import Encoder
from hackwatch.detect.methods import METHODS
from hackwatch.detect.statistics import Statistics, describe
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.streams.base import Stream

__all__ = ["LEAST_ROWS", "Options", "Progress", "Rows", "Trained", "bundled", "feature_columns", "prepare", "train"]

#: Called with (what is being done, steps done, steps in all).
Progress = Callable[[str, int, int], None]
#: Distinct rows below which nothing honest can be learned.
LEAST_ROWS = 50
#: Equal bins of the score, for drift: finer ones would tell a score of 0.0003 from one of 0.0008.
SCORE_BINS = 10


@dataclass(frozen=True, slots=True)
class Options:
    """How to train.

    `alert_budget`: share of normal records that may become suspects; 1 in 1,000 by default, since a host shows about
    70 records a second and two streams must agree before it is an attack. `trees`, `depth`, `learning_rate`,
    `row_share`, `column_share` are for boosted trees. `folds` for out-of-fold scores. `drop`: share of the worst
    distinct rows left out when no labels say what is normal, `refits` times; None: 3 % without labels, 0 with them.
    `threads`: of XGBoost; 0: one for each 50,000 rows, as many as there are cores at most, since small data only make
    more of them wait for each other.
    """

    alert_budget: float = 0.001
    seed: int = 1
    trees: int = 60
    depth: int = 6
    learning_rate: float = 0.3
    row_share: float = 1.0
    column_share: float = 1.0
    folds: int = 5
    drop: float | None = None
    refits: int = 2
    threads: int = 0

    def cores(self, rows: int) -> int:
        """Threads to use for so many rows."""
        return self.threads or max(1, min(os.cpu_count() or 1, rows // 50_000))

    def __post_init__(self) -> None:
        problems = [
            text
            for wrong, text in (
                (not 0 < self.alert_budget < 1, f"alert budget {self.alert_budget} is not between 0 and 1"),
                (self.trees < 1, f"trees {self.trees} is not at least 1"),
                (not 1 <= self.depth <= 16, f"depth {self.depth} is not 1 to 16"),
                (self.folds < 2, f"folds {self.folds} is not at least 2"),
                (self.drop is not None and not 0 <= self.drop < 0.5, f"drop {self.drop} is not 0 to 0.5"),
            )
            if wrong
        ]
        if problems:
            raise ConfigurationError("training options", problems=tuple(problems), next_step="correct the options")


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Distinct training rows: `records` (feature columns), `count` of each (float), truth `label` (bool) and `type`.

    Without truth every label is False. `labelled` says whether there was any.
    """

    records: pl.DataFrame
    count: Floats
    label: np.ndarray[tuple[int], np.dtype[np.bool_]]
    type: pl.Series
    labelled: bool


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What a method returns: its parts of a bundle, and `held`: scores of normal rows held out, and their records."""

    encoder: Encoder
    model: Model
    threshold: float
    metrics: dict[str, Any]
    held: tuple[npt.NDArray[np.float32], Floats]


def feature_columns(present: Collection[str], stream: Stream) -> list[str]:
    """The columns that a detector of the stream looks at; DataError if they are not all `present`."""
    columns = list(stream.features.columns)
    missing = [column for column in columns if column not in present]
    if missing:
        raise DataError(
            f"columns missing: {', '.join(missing)}",
            where=f"training records of {stream.name}",
            next_step="give normalised records (hackwatch normalise)",
        )
    return columns


def prepare(records: pl.DataFrame, stream: Stream) -> Rows:
    """Distinct rows of the stream's features with their truth; without any truth all are normal."""
    columns = feature_columns(records.columns, stream)
    labelled = "label" in records.columns and records["label"].null_count() < records.height
    if labelled:
        records = records.filter(pl.col("label").is_not_null())
    truth = [
        (pl.col("label").cast(pl.Int64) != 0 if labelled else pl.lit(False)).alias("_label"),
        (
            pl.col("type").cast(pl.String).fill_null("?") if labelled and "type" in records.columns else pl.lit("?")
        ).alias("_type"),
    ]
    distinct = (
        records.select(*columns, *truth)
        .group_by([*columns, "_label"], maintain_order=True)
        .agg(pl.len().alias("_count"), pl.col("_type").first())
    )
    if distinct.height < LEAST_ROWS:
        raise DataError(
            f"{distinct.height} distinct rows of {records.height}, at least {LEAST_ROWS} are needed",
            where=f"training records of {stream.name}",
            next_step="collect longer, or give more files",
        )
    return Rows(
        distinct.select(columns),
        distinct["_count"].to_numpy().astype(np.float64),
        distinct["_label"].to_numpy(),
        distinct["_type"],
        labelled,
    )


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
    from hackwatch.detect.outliers import train_permuted, train_unsupervised
    from hackwatch.detect.supervised import train_supervised

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
    from hackwatch.detect.booster import xgb

    return str(xgb.__version__)
