"""What the pipeline has observed, as it is handed to the policy: records, pairs, outliers, wrong clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.detect.detector import Detector
from hackwatch.streams.declarations import Correlation, Outliers
from hackwatch.streams.stream import Stream, microseconds

__all__ = ["Detectors", "Outlier", "Pairs", "Records", "Row", "Skew"]

#: What decided about the records of each stream; None where rules alone did.
Detectors = Mapping[str, Detector | None]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Scored records of one stream. `rows`: the stream's columns, POSITION, score, prediction, rules and late."""

    stream: Stream
    topic: str
    rows: pl.DataFrame


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """New pairs of a correlation. `topics`: by stream.

    `rows`: the join keys, then every other column of both sides with the stream's name before it.
    """

    correlation: Correlation
    left: Stream
    right: Stream
    topics: Mapping[str, str]
    rows: pl.DataFrame

    @property
    def name(self) -> str:
        """The two streams as one: what alerts of pairs have as theirs."""
        return f"{self.left.name}+{self.right.name}"

    def times(self) -> npt.NDArray[np.int64]:
        """When each pair was complete: the later event time of the two, in microseconds."""
        times = (microseconds(self.rows[f"{stream.name}_event_time"]) for stream in (self.left, self.right))
        later: npt.NDArray[np.int64] = np.maximum(*times)
        return later

    def of_left(self, column: str) -> pl.Series:
        """A column of the left side: a join key is under its own name."""
        return self.rows.get_column(column if column in self.rows.columns else f"{self.left.name}_{column}")

    @staticmethod
    def side(stream: Stream, pair: Row) -> dict[str, Any]:
        """One side of a pair, under the stream's own column names."""
        prefix = f"{stream.name}_"
        keys = {name: value for name, value in pair.items() if name in stream.schema}
        return keys | {n.removeprefix(prefix): v for n, v in pair.items() if n.startswith(prefix)}


@dataclass(frozen=True, slots=True)
class Outlier:
    """A final interval of an aggregate that stands out. `start`, `end`: Unix seconds. `values`: by measure.

    `usual`: the usual value of the measure that is declared to be judged.
    """

    declared: Outliers
    entity: str
    start: int
    end: int
    values: Mapping[str, Any]
    usual: float


@dataclass(frozen=True, slots=True)
class Skew:
    """A source whose clock differs from the others' by `seconds` (ahead: greater than 0)."""

    source: str
    seconds: float
