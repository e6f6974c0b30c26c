"""What training saw, column by column: enough for explanations, drift and a canary batch, without a single row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

__all__ = ["Statistics", "describe"]

#: Bins of a number for PSI: the customary ten.
BINS = 10
#: Categories that keep a share of their own; the rest is "other".
CATEGORIES = 50


@dataclass(frozen=True, slots=True)
class Statistics:
    """One column in training.

    Numbers: `edges` are inner bin edges (increasing), `shares` the part of rows in each of the len(edges)+1 bins
    `(edge, next edge]`, `median`, `least` and `greatest` of all, in the column's unit. Categories: `categories` with
    `shares`, most frequent first, and one more share for all others. `nulls` is the share of nulls (NaN included);
    the other shares are of all rows, so that shares + nulls = 1.
    """

    column: str
    numeric: bool
    nulls: float
    shares: tuple[float, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    median: float = 0.0
    least: float = 0.0
    greatest: float = 0.0

    @property
    def usual(self) -> float | str | None:
        """The median of a number, the most frequent category; null if most rows were null."""
        if self.nulls > 0.5:
            return None
        if self.numeric:
            return self.median
        return self.categories[0] if self.categories else None

    def counts(self, values: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Rows of `values` per bin or category, then other (categories), then null."""
        if self.numeric:
            numbers = values.cast(pl.Float64).to_numpy()
            known = numbers[~np.isnan(numbers)]
            found = np.bincount(np.searchsorted(self.edges, known, side="left"), minlength=len(self.edges) + 1)
            return np.append(found, len(numbers) - len(known)).astype(np.int64)
        # In Python, for a sample is small: a query would cost more.
        other = len(self.categories)
        places = {None: other + 1} | {name: place for place, name in enumerate(self.categories)}
        names = values.cast(pl.String).to_list()
        found = np.array([places.get(name, other) for name in names], np.int64)
        return np.bincount(found, minlength=other + 2).astype(np.int64)

    @property
    def expected(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The shares that `counts` should show."""
        return np.append(np.asarray(self.shares, np.float64), self.nulls)

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Statistics:
        values = dict(data)
        for name in ("shares", "edges", "categories"):
            values[name] = tuple(values[name])
        return cls(**values)


def describe(records: pl.DataFrame, columns: Iterable[str]) -> tuple[Statistics, ...]:
    """Statistics of the given columns of training `records` (as many rows as training saw, duplicates included)."""
    return tuple(
        _number(records[column]) if records[column].dtype.is_numeric() else _category(records[column])
        for column in columns
    )


def _number(values: pl.Series) -> Statistics:
    numbers = values.cast(pl.Float64).fill_nan(None)
    known = numbers.drop_nulls().to_numpy()
    nulls = numbers.null_count() / max(len(numbers), 1)
    if not len(known):
        return Statistics(values.name, True, nulls, (1 - nulls,))
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
    edges = edges[edges < known.max()]
    shares = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1) / len(numbers)
    return Statistics(
        values.name,
        True,
        nulls,
        tuple(shares.tolist()),
        edges=tuple(edges.tolist()),
        median=float(np.median(known)),
        least=float(known.min()),
        greatest=float(known.max()),
    )


def _category(values: pl.Series) -> Statistics:
    names = values.cast(pl.String).rename("value")
    total = max(len(names), 1)
    counts = names.drop_nulls().value_counts().sort(["count", "value"], descending=[True, False]).head(CATEGORIES)
    shares = (counts["count"] / total).to_list()
    nulls = names.null_count() / total
    other = max(0.0, 1.0 - nulls - sum(shares))
    return Statistics(values.name, False, nulls, (*shares, other), categories=tuple(counts["value"].to_list()))
