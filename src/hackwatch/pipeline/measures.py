"""What an aggregate keeps of each of its measures: numbers that add up, and collections that turn into sketches.

A measure is computed in two steps. A query over many records gives, per group, numbers and lists; these are then folded
into what is known of the group. The state of a measure has the same columns as what the query gives, so that states of
others (a Spark task, an epoch before) are folded in alike.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from hackwatch.streams.declarations import Count, Distinct, Measure, Quantile, Share, Sum, Top

__all__ = ["STANDARD_ERROR", "Collected", "Collection", "Number", "Part", "part_of"]

#: The standard error of estimated distinct counts, relative.
STANDARD_ERROR = 0.008
#: The least size (log2 of registers) of HyperLogLog with that error, also after sketches have been united.
_LG_K = 15
#: k of the KLL sketches: a rank error of 1.3 % (99 of 100 times). So many values it keeps as they are.
_KLL_K = 200

Condition = Callable[[str], pl.Expr]
"""The column that says where a condition (SQL) holds."""


@cache
def _sketches() -> ModuleType:
    """The library of sketches, loaded once something is too large to be counted exactly: mostly nothing is."""
    import datasketches

    return datasketches  # type: ignore[no-any-return]  # it ships no types


# -- collections: state of one measure in one group --------------------------------------------------------------------


class Collection(ABC):
    """Values of a group: exact while they are few, a sketch beyond; never back."""

    __slots__ = ()

    @abstractmethod
    def take(self, values: Sequence[Any]) -> None:
        """Take what a query has gathered."""

    @abstractmethod
    def merge(self, sketch: bytes) -> None:
        """Take the sketch of another collection."""

    @abstractmethod
    def values(self) -> list[Any] | None:
        """All values, as `take` takes them; None once they are a sketch."""

    @abstractmethod
    def sketch(self) -> bytes | None:
        """The sketch, as `merge` takes it; None while values are kept."""


class DistinctValues(Collection):
    """Distinct values; HyperLogLog beyond `exact`."""

    __slots__ = ("_exact", "_few", "_many")

    def __init__(self, exact: int) -> None:
        self._exact = exact
        self._few: set[Any] = set()
        self._many: Any = None

    def take(self, values: Sequence[Any]) -> None:
        if self._many is None:
            self._few.update(values)
            if len(self._few) > self._exact:
                self._estimate()
        else:
            self._update(values)

    def merge(self, sketch: bytes) -> None:
        self._estimate()
        self._many.update(_sketches().hll_sketch.deserialize(sketch))

    def _estimate(self) -> None:
        if self._many is None:
            self._many = _sketches().hll_union(_LG_K)
            self._update(self._few)
            self._few = set()

    def _update(self, values: Iterable[Any]) -> None:
        for value in sorted(values):  # the estimate depends on the order a little, and a set has none
            self._many.update(value)

    def values(self) -> list[Any] | None:
        return list(self._few) if self._many is None else None

    def sketch(self) -> bytes | None:
        if self._many is None:
            return None
        found: bytes = self._many.get_result(_sketches().HLL_8).serialize_compact()
        return found

    def count(self) -> int:
        return len(self._few) if self._many is None else round(self._many.get_estimate())


class FrequentValues(Collection):
    """How often each value occurs; beyond `exact` values a sketch of frequent items."""

    __slots__ = ("_exact", "_few", "_many")

    def __init__(self, exact: int) -> None:
        self._exact = exact
        self._few: dict[str, int] = {}
        self._many: Any = None

    def take(self, values: Sequence[Mapping[str, Any]]) -> None:
        if self._many is not None:
            self._update((each["value"], each["count"]) for each in values)
            return
        for each in values:
            value = each["value"]
            self._few[value] = self._few.get(value, 0) + each["count"]
        if len(self._few) > self._exact:
            self._estimate()

    def merge(self, sketch: bytes) -> None:
        self._estimate()
        self._many.merge(_sketches().frequent_strings_sketch.deserialize(sketch))

    def _estimate(self) -> None:
        if self._many is None:  # a sketch holds three quarters of its size
            self._many = _sketches().frequent_strings_sketch(max(3, math.ceil(math.log2(self._exact / 0.75))))
            self._update(self._few.items())
            self._few = {}

    def _update(self, counts: Iterable[tuple[str, int]]) -> None:
        for value, count in sorted(counts):  # what a sketch forgets depends on the order
            self._many.update(value, count)

    def values(self) -> list[dict[str, Any]] | None:
        if self._many is not None:
            return None
        return [{"value": value, "count": count} for value, count in self._few.items()]

    def sketch(self) -> bytes | None:
        if self._many is None:
            return None
        found: bytes = self._many.serialize()
        return found

    def top(self, most: int) -> list[tuple[str, int]]:
        """The most frequent values, with their numbers or, once estimated, lower bounds of these."""
        counts: Iterable[tuple[str, int]] = self._few.items()
        if self._many is not None:
            kind = _sketches().frequent_items_error_type.NO_FALSE_NEGATIVES
            counts = [(value, low) for value, _, low, _ in self._many.get_frequent_items(kind) if low > 0]
        return sorted(counts, key=lambda each: (-each[1], each[0]))[:most]


class Ranked(Collection):
    """Numbers by rank; a KLL sketch beyond the few that it would keep anyway.

    The sketch draws lots: once estimated, a repetition may give other values within the error.
    """

    __slots__ = ("_few", "_many")

    def __init__(self) -> None:
        self._few: list[float] = []
        self._many: Any = None

    def take(self, values: Sequence[float]) -> None:
        if self._many is None:
            self._few.extend(values)
            if len(self._few) > _KLL_K:
                self._estimate()
        else:
            self._many.update(np.asarray(values))

    def merge(self, sketch: bytes) -> None:
        self._estimate()
        self._many.merge(_sketches().kll_doubles_sketch.deserialize(sketch))

    def _estimate(self) -> None:
        if self._many is None:
            self._many = _sketches().kll_doubles_sketch(_KLL_K)
            if self._few:
                self._many.update(np.asarray(self._few))
            self._few = []

    def values(self) -> list[float] | None:
        return self._few if self._many is None else None

    def sketch(self) -> bytes | None:
        if self._many is None:
            return None
        found: bytes = self._many.serialize()
        return found

    def at(self, ranks: Sequence[float]) -> list[float] | None:
        """The least value that so great a share of all values does not exceed, for each rank; None without values."""
        if self._many is not None:
            return [float(value) for value in self._many.get_quantiles(list(ranks), True)]
        if not self._few:
            return None
        ordered = sorted(self._few)
        return [ordered[max(0, math.ceil(rank * len(ordered)) - 1)] for rank in ranks]


# -- parts: how a measure is queried, and what its value is ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a group that adds up. `name`: of its column. `query` gives it, never null."""

    name: str
    query: pl.Expr
    dtype: pl.DataType


@dataclass(frozen=True, slots=True)
class Collected:
    """What a measure, `name`, collects. `query` gives a list (`dtype`) per group; more than `exact` become a sketch."""

    name: str
    query: pl.Expr
    dtype: pl.DataType
    exact: int
    begin: Callable[[], Collection]


@dataclass(frozen=True, slots=True)
class Part:
    """One measure of an aggregate. `dtype`: of its value.

    `value(numbers, collection)` gives the value; the collection is None for a measure without, or before the first.
    """

    name: str
    numbers: tuple[Number, ...]
    dtype: pl.DataType
    value: Callable[[Sequence[Any], Any], Any]
    collected: Collected | None = None


def part_of(measure: Measure, schema: Mapping[str, pl.DataType], condition: Condition) -> Part:
    """A measure made ready. `schema`: of the records. `condition`: gives the column that says where SQL holds."""
    name = measure.name
    where = None if measure.where is None else condition(measure.where)
    rows = _count(f"{name}__rows", where)
    if isinstance(measure, Count):
        return Part(name, (rows,), pl.Int64(), lambda numbers, _: numbers[0])
    if isinstance(measure, Share):
        holds = condition(measure.of)
        hits = _count(f"{name}__hits", holds if where is None else holds & where)
        return Part(name, (hits, rows), pl.Float64(), lambda numbers, _: _ratio(*numbers))
    values = pl.col(measure.column) if where is None else pl.col(measure.column).filter(where)
    if isinstance(measure, Distinct):
        return _distinct(measure, values, schema[measure.column])
    if isinstance(measure, Top):
        return _top(measure, values, where)
    values = values.cast(pl.Float64).drop_nulls().drop_nans()
    if isinstance(measure, Quantile):
        return _quantile(measure, values)
    total = Number(f"{name}__sum", values.sum(), pl.Float64())
    if isinstance(measure, Sum):
        return Part(name, (total,), pl.Float64(), lambda numbers, _: numbers[0])
    known = Number(f"{name}__rows", values.len().cast(pl.Int64), pl.Int64())
    return Part(name, (total, known), pl.Float64(), lambda numbers, _: _ratio(*numbers))


def _count(name: str, where: pl.Expr | None) -> Number:
    return Number(name, (pl.len() if where is None else where.sum()).cast(pl.Int64), pl.Int64())


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _distinct(measure: Distinct, values: pl.Expr, dtype: pl.DataType) -> Part:
    """Whole numbers are told apart as they are, all else as text."""
    exact = measure.exact
    if not dtype.is_integer() or dtype == pl.UInt64():
        values, dtype = values.cast(pl.String), pl.String()
    collected = Collected(
        measure.name, values.drop_nulls().unique(), pl.List(dtype), exact, lambda: DistinctValues(exact)
    )
    return Part(measure.name, (), pl.Int64(), lambda _, found: found.count() if found else 0, collected)


def _top(measure: Top, values: pl.Expr, where: pl.Expr | None) -> Part:
    """Values are texts; a record without one is among the others."""
    exact, most = measure.exact, measure.most
    entry = pl.Struct({"value": pl.String(), "count": pl.Int64()})
    dtype = pl.List(entry)
    query = values.cast(pl.String).drop_nulls().alias("value").value_counts(name="count").cast(entry)
    collected = Collected(measure.name, query, dtype, exact, lambda: FrequentValues(exact))
    total = _count(f"{measure.name}__total", where)
    return Part(measure.name, (total,), dtype, lambda numbers, found: _shown(numbers[0], found, most), collected)


def _shown(total: int, found: FrequentValues | None, most: int) -> list[dict[str, Any]]:
    shown: list[tuple[str | None, int]] = [*found.top(most)] if found else []
    if others := total - sum(count for _, count in shown):
        shown.append((None, others))
    return [{"value": value, "count": count} for value, count in shown]


def _quantile(measure: Quantile, values: pl.Expr) -> Part:
    at, dtype = measure.at, pl.List(pl.Float64())
    collected = Collected(measure.name, values, dtype, _KLL_K, Ranked)
    return Part(measure.name, (), dtype, lambda _, found: found.at(at) if found else None, collected)
