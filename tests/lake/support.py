"""Small records for the lake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hackwatch.lake import Lake
from hackwatch.objects import Bucket

#: A test of the lake that holds in a folder and in a bucket.
EVERYWHERE = pytest.mark.parametrize("lake", ["folder", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)
NOON = datetime(2031, 5, 1, 12, tzinfo=UTC)


def records(number: int = 10, *, first: int = 0, site: str | None = "here", days: int = 1) -> pl.DataFrame:
    """Rows with ids `first`.., spread over some days from 2031-05-01."""
    ids = range(first, first + number)
    return pl.DataFrame(
        {
            "id": ids,
            "path": [f"cmd{i % 7}" for i in ids],
            "score": [i / 100 for i in ids],
            "rules": [["r1", "r2"] if i % 3 == 0 else [] for i in ids],
            "event_time": [NOON + timedelta(days=i % days, microseconds=i) for i in ids],
            "site": [site for _ in ids],
        },
        schema={
            "id": pl.Int64(),
            "path": pl.String(),
            "score": pl.Float32(),
            "rules": pl.List(pl.String()),
            "event_time": pl.Datetime("us", "UTC"),
            "site": pl.String(),
        },
    ).with_columns(pl.col("event_time").dt.date().alias("date"))


def data_files(folder: Path) -> set[Path]:
    """All Parquet files of a table that hold data, in use or not."""
    return {path for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts}


def again(lake: Lake) -> Lake:
    """The same lake as another process sees it."""
    return Lake(lake.location, options=lake.options)


def stored(lake: Lake) -> set[str]:
    """The names of all Parquet files of a lake that hold data, in use or not."""
    if lake.remote:
        keys = Bucket(lake.location, lake.options).keys()
        return {key for key in keys if key.endswith(".parquet") and "_delta_log" not in key}
    return {str(path) for path in data_files(lake.path)}
