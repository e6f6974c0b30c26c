"""Training rows on Spark: distinct ones, the encoder learned from them, what is usual. Only sums reach the driver."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from hackwatch.detect.features import VOCABULARY, Encoder, Feature, text_features
from hackwatch.detect.statistics import BINS, CATEGORIES, Statistics
from hackwatch.detect.training.rows import LEAST_ROWS, feature_columns
from hackwatch.errors import DataError
from hackwatch.streams.stream import Stream

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["SparkRows", "distinct_rows", "encoded", "fit_encoder_on_spark", "statistics_on_spark"]


@dataclass(frozen=True, slots=True, eq=False)
class SparkRows:
    """Distinct rows: the stream's feature columns, `_label` (boolean), `_count` (records), `_type` and `_fold`.

    `records`: the records they stand for, with nulls as they came. `types`: rows of each attack type.
    """

    frame: DataFrame
    records: DataFrame
    labelled: bool
    normal: int
    attacks: int
    types: dict[str, int]


def distinct_rows(records: DataFrame, stream: Stream, folds: int, seed: int) -> SparkRows:
    """Distinct rows of normalised records; truth in the columns `label` and `type`, without it all are normal.

    Raises DataError if columns are missing or the rows are too few.
    """
    from pyspark.sql import functions as F

    columns = feature_columns(records.columns, stream)
    labelled = "label" in records.columns and bool(records.where(F.col("label").isNotNull()).head(1))
    if labelled:
        records = records.where(F.col("label").isNotNull())
    label = F.col("label").cast("long") != 0 if labelled else F.lit(False)
    kind = F.coalesce(F.col("type").cast("string"), F.lit("?")) if "type" in records.columns else F.lit("?")
    records = records.select(*columns, label.alias("_label"), kind.alias("_type"))
    distinct = records.groupBy(*columns, "_label").agg(
        F.count(F.lit(1)).cast("double").alias("_count"), F.first("_type").alias("_type")
    )
    # By content, not by chance: a partition that is computed again must give the same folds.
    fold = F.pmod(F.xxhash64(F.lit(seed), *columns), F.lit(folds)).cast("int")
    frame = distinct.withColumn("_fold", fold).persist()
    found = frame.groupBy("_label", "_type").count().collect()
    types = {str(row["_type"]): int(row["count"]) for row in found if row["_label"]}
    normal = sum(int(row["count"]) for row in found if not row["_label"])
    if normal + sum(types.values()) < LEAST_ROWS:
        raise DataError(
            f"{normal + sum(types.values())} distinct rows, at least {LEAST_ROWS} are needed",
            where=f"training records of {stream.name}",
            next_step="collect longer, or give more files",
        )
    return SparkRows(frame, records, labelled, normal, sum(types.values()), types)


def fit_encoder_on_spark(frame: DataFrame, stream: Stream, *, finite: bool) -> Encoder:
    """The encoder that `fit_encoder(..., metric=False)` would learn from these distinct rows.

    `finite`: a null number is one less than the least, for trees that know no missing values.
    """
    numbers = stream.features.numeric + stream.features.log
    least = _least(frame, numbers) if finite else dict.fromkeys(numbers, float("nan"))
    made = [Feature(column, "number", null=least[column]) for column in numbers]
    vocabularies = {**dict.fromkeys(stream.features.categorical, VOCABULARY), **stream.features.limited}
    for column, most in vocabularies.items():
        names = [name for name, _ in _most_frequent(frame, column, most)]
        codes = tuple((name, float(code)) for code, name in enumerate(names))
        made.append(Feature(column, "rank", -1.0, float(len(names)), codes))
    for column in stream.features.text:
        made += text_features(column, -1.0 if finite else math.nan)
    return Encoder(tuple(made))


def _least(frame: DataFrame, columns: Sequence[str]) -> dict[str, float]:
    from pyspark.sql import functions as F

    row = frame.agg(*(F.min(_known(column)).alias(column) for column in columns)).collect()[0]
    return {column: float(np.float32(row[column] or 0.0)) - 1.0 for column in columns}


def _known(column: str) -> Column:
    """A number as double, NaN as null."""
    from pyspark.sql import functions as F

    number = F.col(column).cast("double")
    return F.when(~F.isnan(number), number)


def _most_frequent(frame: DataFrame, column: str, most: int) -> list[tuple[str, int]]:
    from pyspark.sql import functions as F

    counts = frame.select(F.col(column).cast("string").alias("value")).where(F.col("value").isNotNull())
    ranked = counts.groupBy("value").count().orderBy(F.desc("count"), F.asc("value")).limit(most)
    return [(str(row["value"]), int(row["count"])) for row in ranked.collect()]


def encoded(frame: DataFrame, encoder: Encoder) -> DataFrame:
    """The rows as the models read them: float columns x0, x1, ... and `_label`, `_count`, `_type`, `_fold`."""
    schema = ", ".join([*(f"x{place} float" for place in range(len(encoder))), _TRUTH])
    return frame.mapInArrow(partial(_encode, encoder.as_json()), schema)


_TRUTH = "_label boolean, _count double, _type string, _fold int"


def _encode(features: list[dict[str, object]], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    encoder = Encoder.from_json(features)
    for batch in batches:
        matrix = encoder.encode(pl.DataFrame(batch))
        columns = {f"x{place}": pa.array(matrix[:, place]) for place in range(len(encoder))}
        truth = {name: batch.column(name) for name in ("_label", "_count", "_type", "_fold")}
        yield pa.record_batch({**columns, **truth})


def statistics_on_spark(records: DataFrame, stream: Stream) -> tuple[Statistics, ...]:
    """What `describe` tells of normal records, quantiles to one part in 10,000."""
    names = stream.features.columns
    numbers = [name for name in names if stream.schema[name].is_numeric()]
    total = records.count()
    found = {entry.column: entry for entry in _numbers(records, numbers, total)}
    found |= {name: _category(records, name, total) for name in names if name not in found}
    return _with_shares(records, [found[name] for name in names], total)


def _numbers(records: DataFrame, columns: Sequence[str], total: int) -> Iterator[Statistics]:
    from pyspark.sql import functions as F

    inner = [float(share) for share in np.linspace(0, 1, BINS + 1)[1:-1]]
    asked = []
    for column in columns:
        known = _known(column)
        asked += [
            F.percentile_approx(known, inner, 10_000).alias(f"{column} edges"),
            F.percentile_approx(known, 0.5, 10_000).alias(f"{column} median"),
            F.min(known).alias(f"{column} least"),
            F.max(known).alias(f"{column} greatest"),
            F.count(known).alias(f"{column} known"),
        ]
    row: dict[str, Any] = records.agg(*asked).collect()[0].asDict() if asked else {}
    for column in columns:
        nulls = (total - row[f"{column} known"]) / max(total, 1)
        if row[f"{column} edges"] is None:
            yield Statistics(column, True, nulls, (1 - nulls,))
            continue
        edges = sorted({edge for edge in row[f"{column} edges"] if edge < row[f"{column} greatest"]})
        yield Statistics(
            column,
            True,
            nulls,
            (),
            edges=tuple(edges),
            median=row[f"{column} median"],
            least=row[f"{column} least"],
            greatest=row[f"{column} greatest"],
        )


def _category(records: DataFrame, column: str, total: int) -> Statistics:
    from pyspark.sql import functions as F

    names = tuple(name for name, _ in _most_frequent(records, column, CATEGORIES))
    nulls = records.where(F.col(column).isNull()).count() / max(total, 1)
    return Statistics(column, False, nulls, (), categories=names)


def _with_shares(records: DataFrame, entries: Sequence[Statistics], total: int) -> tuple[Statistics, ...]:
    """The share of records in each bin and category, counted on the workers as drift counts them."""
    count: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]] = partial(
        _count, [entry.as_json() for entry in entries]
    )
    columns = [entry.column for entry in entries]
    parts = records.select(*columns).mapInArrow(count, "place int, counts array<bigint>").toArrow()
    sums = [np.zeros(len(entry.edges) + 1 if entry.numeric else len(entry.categories) + 1) for entry in entries]
    for place, counts in zip(parts["place"].to_pylist(), parts["counts"].to_pylist(), strict=True):
        sums[place] += np.array(counts[:-1], np.float64)
    made = []
    for entry, found in zip(entries, sums, strict=True):
        values = {**entry.as_json(), "shares": tuple((found / max(total, 1)).tolist())}
        made.append(Statistics.from_json(values))
    return tuple(made)


def _count(told: list[dict[str, object]], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    entries = [Statistics.from_json(entry) for entry in told]
    for batch in batches:
        frame = pl.DataFrame(batch)
        counts = [entry.counts(frame[entry.column]).tolist() for entry in entries]
        yield pa.record_batch(
            {"place": pa.array(range(len(entries)), pa.int32()), "counts": pa.array(counts, pa.list_(pa.int64()))}
        )
