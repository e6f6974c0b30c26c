"""What is trained on: distinct rows with their count and truth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl

from hackwatch.detect.calibration import Floats
from hackwatch.errors import DataError
from hackwatch.streams.stream import Stream

__all__ = ["LEAST_ROWS", "Rows", "feature_columns", "prepare"]

#: Distinct rows below which nothing honest can be learned.
LEAST_ROWS = 50


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
