"""Learning from a live host: what it shows for a while is normal, and little of it has to be enough."""

from __future__ import annotations

import polars as pl

from hackwatch.detect.bundle import Bundle
from hackwatch.detect.training import train
from hackwatch.detect.training.options import Options, Progress
from hackwatch.errors import DataError
from hackwatch.streams.stream import Stream

__all__ = ["BUDGET", "LEAST_RECORDS", "learn"]

#: So small that the threshold lies beyond anything the host showed, with a margin: at rest it raises nothing.
BUDGET = 1e-6
#: Records below which a threshold would be a guess: about ten samples of a small machine.
LEAST_RECORDS = 500


def learn(records: pl.DataFrame, stream: Stream, *, seed: int = 1, progress: Progress | None = None) -> Bundle:
    """An unsupervised detector of one stream from what a host showed, all of it taken as normal.

    The threshold is above the oddest record held out, by the mean excess of the odd ones. Truth columns are ignored.
    Raises DataError with fewer than LEAST_RECORDS records.
    """
    if records.height < LEAST_RECORDS:
        raise DataError(
            f"{records.height:,} records of {stream.name}, at least {LEAST_RECORDS:,} are needed to learn from",
            where=f"stream {stream.name}",
            next_step="collect longer (--minutes); until then the shipped rules watch alone",
        )
    unlabelled = records.drop("label", "type", strict=False)
    return train(unlabelled, stream, "unsupervised", Options(alert_budget=BUDGET, seed=seed), progress)
