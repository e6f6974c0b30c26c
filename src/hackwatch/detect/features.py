"""From normalised columns to the float32 matrix that every model reads, one way in training and in scoring."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.detect.ngrams import BUCKETS, hashed_ngrams
from hackwatch.errors import DataError
from hackwatch.streams.checks import RESERVED
from hackwatch.streams.stream import Features

__all__ = ["NEVER", "Encoder", "Feature", "Matrix", "fit_encoder", "text_features"]

Matrix = npt.NDArray[np.float32]

#: Time, position and what the pipeline adds say when and where, not what: no model may look at them. Nor at the
#: identifiers of a stream, which its declaration is refused for.
NEVER = RESERVED | {"event_time"}

#: Categories kept in a vocabulary; rarer ones share the place of an unseen one.
VOCABULARY = 4096
#: Greatest magnitude handed to a model: float32 without infinity.
LARGEST = np.float32(3e38)
#: Up to so many rows are encoded without a query.
SMALL_ROWS = 512

Kind = Literal["number", "log", "rank", "rarity", "place", "text"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the matrix.

    `kind`: number (as it is), log (log1p of the magnitude, sign kept), rank (place in the vocabulary by frequency in
    training, most frequent 0), rarity (-log10 of the frequency in training), place (of a float64 number among
    `edges`: how many are less than it, so that thresholds of trees made elsewhere stay exact), text (the n-grams of a
    text that are hashed into `bucket` of `buckets`, see `ngrams`). `null` is the value of a null or NaN (NaN: left to
    the trees), `unseen` that of a category not in `values`, of NaN for a place.
    """

    column: str
    kind: Kind
    null: float
    unseen: float = 0.0
    values: tuple[tuple[str, float], ...] = ()
    edges: tuple[float, ...] = ()
    bucket: int = 0
    buckets: int = 0

    def expression(self) -> pl.Expr:
        """The feature as a Float32 expression over normalised columns; a text has none."""
        column = pl.col(self.column)
        if self.kind in ("rank", "rarity"):
            return pl.when(column.is_null()).then(pl.lit(self.null, pl.Float32)).otherwise(self._code(column))
        if self.kind == "place":
            return self._place(column.cast(pl.Float64))
        number = column.cast(pl.Float32)
        if self.kind == "log":
            number = number.sign() * number.abs().log1p()
        return number.fill_nan(None).fill_null(self.null) if not math.isnan(self.null) else number

    def _code(self, column: pl.Expr) -> pl.Expr:
        # By way of an Enum, whose codes are places in a table: a third of what `replace_strict`, which joins, costs.
        names = [name for name, _ in self.values]
        codes = pl.Series([*(code for _, code in self.values), self.unseen, self.unseen], dtype=pl.Float32)
        place = column.cast(pl.String).cast(pl.Enum(names), strict=False).to_physical().cast(pl.UInt32)
        return pl.lit(codes).gather(place.fill_null(len(names)))

    def _place(self, number: pl.Expr) -> pl.Expr:
        # Two infinities behind the last edge, which nothing exceeds: a literal of one value would count as a scalar.
        edges = pl.lit(pl.Series([*self.edges, math.inf, math.inf], dtype=pl.Float64))
        place = edges.search_sorted(number, side="left").cast(pl.Float32)
        return (
            pl.when(number.is_null())
            .then(pl.lit(self.null, pl.Float32))
            .when(number.is_nan())
            .then(pl.lit(self.unseen, pl.Float32))
            .otherwise(place)
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "column": self.column,
            "kind": self.kind,
            "null": None if math.isnan(self.null) else self.null,
            "unseen": self.unseen,
            "values": [[name, code] for name, code in self.values],
            **({"edges": list(self.edges)} if self.kind == "place" else {}),
            **({"bucket": self.bucket, "buckets": self.buckets} if self.kind == "text" else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Feature:
        return cls(
            column=str(data["column"]),
            kind=data["kind"],
            null=math.nan if data["null"] is None else float(data["null"]),
            unseen=float(data["unseen"]),
            values=tuple((str(name), float(code)) for name, code in data["values"]),
            edges=tuple(map(float, data.get("edges", ()))),
            bucket=int(data.get("bucket", 0)),
            buckets=int(data.get("buckets", 0)),
        )


class Encoder:
    """Encodes frames of one stream: rows of normalised columns -> rows of float32, C-contiguous.

    Every row is encoded on its own: order and size of the batch do not matter. Columns that no feature needs are
    ignored, a missing one is a DataError. Immutable, thread-safe.
    """

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self.features = features
        self.columns = tuple(feature.column for feature in features)
        self._expressions = {
            place: feature.expression().alias(f"{place}")
            for place, feature in enumerate(features)
            if feature.kind != "text"
        }
        self._texts: dict[tuple[str, int], list[int]] = {}
        for place, feature in enumerate(features):
            if feature.kind == "text":
                self._texts.setdefault((feature.column, feature.buckets), []).append(place)
        self._codes: list[dict[str | None, float]] = [
            {**dict(feature.values), None: feature.null} for feature in features
        ]

    def __len__(self) -> int:
        return len(self.features)

    def encode(self, records: pl.DataFrame) -> Matrix:
        """The matrix of `records`, (rows, features); infinities become +-3e38."""
        missing = [column for column in self.columns if column not in records.columns]
        if missing:
            raise DataError(
                f"columns missing: {', '.join(missing)}",
                where="records to score",
                next_step="give normalised records of the stream that the model was trained on",
            )
        if records.height == 0:
            return np.empty((0, len(self.features)), np.float32)
        if records.height <= SMALL_ROWS:
            matrix = self._small(records)
        elif self._texts:
            matrix = np.empty((records.height, len(self.features)), np.float32)
            matrix[:, list(self._expressions)] = records.select(list(self._expressions.values())).to_numpy()
        else:
            matrix = records.select(list(self._expressions.values())).to_numpy(order="c", writable=True)
        self._fill_texts(records, matrix)
        return np.clip(matrix, -LARGEST, LARGEST, out=matrix)

    def _fill_texts(self, records: pl.DataFrame, matrix: Matrix) -> None:
        for (column, buckets), places in self._texts.items():
            features = [self.features[place] for place in places]
            hashed = hashed_ngrams(records.get_column(column), buckets)[:, [feature.bucket for feature in features]]
            nulls = np.array([feature.null for feature in features], np.float32)
            matrix[:, places] = np.where(np.isnan(hashed), nulls, hashed)

    def _small(self, records: pl.DataFrame) -> Matrix:
        """The same without a query, where that is exact: a query costs more than a few hundred rows."""
        matrix = np.empty((records.height, len(self.features)), np.float32)
        left = []
        for place, feature in enumerate(self.features):
            column = records.get_column(feature.column)
            if feature.kind == "number":
                numbers = column.cast(pl.Float32).to_numpy()
                matrix[:, place] = (
                    numbers if math.isnan(feature.null) else np.where(np.isnan(numbers), feature.null, numbers)
                )
            elif feature.kind in ("rank", "rarity"):
                codes = self._codes[place]
                matrix[:, place] = [codes.get(name, feature.unseen) for name in column.cast(pl.String).to_list()]
            elif feature.kind != "text":
                left.append(place)
        if left:
            matrix[:, left] = records.select([self._expressions[place] for place in left]).to_numpy()
        return matrix

    def as_json(self) -> list[dict[str, Any]]:
        return [feature.as_json() for feature in self.features]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]]) -> Encoder:
        return cls(tuple(Feature.from_json(entry) for entry in data))


def fit_encoder(records: pl.DataFrame, features: Features, *, metric: bool) -> Encoder:
    """Learn vocabularies, frequencies and null values from training `records` (normalised columns).

    `metric` False is for boosted trees: numbers unscaled, categories by rank, null left missing. `metric` True is for
    methods that measure distance or density: log scale where the stream asks for it, categories by rarity, a null one
    step below the least number seen.
    """
    forbidden = sorted(NEVER.intersection(features.columns))
    if forbidden:
        raise DataError(
            f"columns that no model may look at: {', '.join(forbidden)}",
            where="features of the stream",
            next_step="take them out of the stream's features",
        )
    made = [_number(records[column], column, "number", metric) for column in features.numeric]
    made += [_number(records[column], column, "log" if metric else "number", metric) for column in features.log]
    made += [_category(records[column], column, metric) for column in features.categorical]
    made += [_category(records[column], column, metric, most) for column, most in features.limited.items()]
    made += [feature for column in features.text for feature in text_features(column, -1.0 if metric else math.nan)]
    return Encoder(tuple(made))


def _number(values: pl.Series, column: str, kind: Kind, metric: bool) -> Feature:
    if not metric:
        return Feature(column, kind, null=math.nan)
    encoded = pl.DataFrame({column: values}).select(Feature(column, kind, null=math.nan).expression()).to_series()
    least = encoded.fill_nan(None).drop_nulls().min()
    return Feature(column, kind, null=float(least if isinstance(least, float) else 0.0) - 1.0)


def text_features(column: str, null: float) -> list[Feature]:
    """One feature a bucket; nothing is learned."""
    return [Feature(column, "text", null, bucket=bucket, buckets=BUCKETS) for bucket in range(BUCKETS)]


def _category(values: pl.Series, column: str, metric: bool, most: int | None = None) -> Feature:
    """`most`: the size of a limited vocabulary. All beyond are one category, as frequent as they are together."""
    counts = (
        pl.DataFrame({"value": values.cast(pl.String)})
        .group_by("value")
        .len()
        .sort(["len", "value"], descending=[True, False], nulls_last=True)
    )
    total = max(values.len(), 1)
    nulls = counts.filter(pl.col("value").is_null())["len"].sum()
    known = counts.drop_nulls().head(most or VOCABULARY)
    names = known["value"].to_list()
    if not metric:
        return Feature(
            column, "rank", -1.0, float(len(names)), tuple(zip(names, map(float, range(len(names))), strict=True))
        )
    rarity = [-math.log10(count / total) for count in known["len"]]
    others = total - nulls - sum(known["len"].to_list()) if most else 0
    unseen = -math.log10((others or 0.5) / total)
    null = -math.log10(nulls / total) if nulls else unseen
    return Feature(column, "rarity", null, unseen, tuple(zip(names, rarity, strict=True)))
