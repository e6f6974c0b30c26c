"""What Spark ML's feature stages make of normalised columns, followed value by value.

Every number that reaches a tree is a function of one normalised column. So each of these columns is cut into finitely
many cells between which no stage and no tree can tell values apart: a text's labels, anything else and null; a number's
intervals between all thresholds, NaN and null. The stages are evaluated on one value of each cell, in float64.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.detect.features import Feature

__all__ = ["Cells", "Scalar", "Values", "alone", "assembled", "hot", "indexed", "number", "number_cells", "text_cells"]

#: How Spark prints numbers that it casts to text.
_INTEGER = re.compile(r"-?\d+")
_FLOAT = re.compile(r"-?\d+\.\d+(E-?\d+)?|-?Infinity")

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The cells of one normalised column: code i is cell i; the two last are anything else (or NaN), and null.

    `labels`: a text's known values. `ends`: greatest value of each of a number's intervals, then NaN, NaN.
    """

    column: str
    labels: tuple[str, ...] | None
    ends: Floats

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def null(self) -> Flags:
        """True at the cell of nulls."""
        return np.asarray(np.arange(len(self)) == len(self) - 1)

    def feature(self) -> Feature:
        """The encoder's feature that finds a value's cell."""
        other, null = float(len(self) - 2), float(len(self) - 1)
        if self.labels is not None:
            values = tuple((label, float(code)) for code, label in enumerate(self.labels))
            return Feature(self.column, "rank", null, other, values)
        return Feature(self.column, "place", null, other, edges=tuple(self.ends[:-3].tolist()))


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """A Spark column over the cells of its source: float64 values, nulls, and where Spark refuses the record."""

    values: Floats
    null: Flags
    refused: Flags


class Evaluate(Protocol):
    def __call__(self, cells: Cells) -> Values: ...


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A number that a Spark column holds: the normalised column behind it, and how it follows from that.

    `labels`: texts, and `breaks`: numbers (greatest value of an interval) that must be told apart.
    """

    source: str
    evaluate: Evaluate
    labels: tuple[str, ...] = ()
    breaks: tuple[float, ...] = ()
    #: The number itself: thresholds of trees are breaks of its column.
    plain: bool = False


def text_cells(column: str, scalars: Sequence[Scalar]) -> Cells:
    """Cells of a text column: one for each label that any stage knows."""
    labels = tuple(dict.fromkeys(label for scalar in scalars for label in scalar.labels))
    return Cells(column, labels, np.full(len(labels) + 2, np.nan))


def number_cells(column: str, scalars: Sequence[Scalar], thresholds: Sequence[float]) -> Cells:
    """Cells of a number: intervals `(end before, end]`, the last one up to infinity."""
    ends = np.unique([*thresholds, *(end for scalar in scalars for end in scalar.breaks)])
    return Cells(column, None, np.array([*ends[np.isfinite(ends)], np.inf, np.nan, np.nan]))


def number(column: str) -> Scalar:
    """A normalised number or boolean as it is."""
    return Scalar(column, lambda cells: Values(cells.ends, cells.null, np.zeros(len(cells), np.bool_)), plain=True)


def indexed(column: str, labels: Sequence[str], kind: pl.DataType, *, keep: bool) -> Scalar:
    """What a StringIndexerModel makes of a normalised column: the label's place; `keep`: one more for all others.

    Spark compares the text of a number, so a label as an integer is printed matches no float and the other way round.
    """
    form = _FLOAT if kind.is_float() else _INTEGER
    # A dict by value: the text of a float is unique but for -0.0, which is taken for 0.0 here.
    numbers = {float(label): place for place, label in enumerate(labels) if form.fullmatch(label)}
    places = {label: place for place, label in enumerate(labels)}

    @lru_cache(maxsize=1)
    def evaluate(cells: Cells) -> Values:
        if cells.labels is not None:
            found = [float(places.get(label, np.nan)) for label in cells.labels] + [np.nan, np.nan]
        else:
            found = [float(numbers.get(end, np.nan)) for end in cells.ends]
        values = np.array(found)
        unseen = np.isnan(values)
        values[unseen] = len(labels)
        never = np.zeros(len(cells), np.bool_)
        return Values(values, never, never if keep else unseen)

    if kind == pl.String():
        return Scalar(column, evaluate, labels=tuple(labels))
    return Scalar(column, evaluate, breaks=alone(list(numbers)))


def alone(values: Sequence[float]) -> tuple[float, ...]:
    """Breaks that put each of the values into an interval of its own."""
    return tuple(end for value in values for end in (float(np.nextafter(value, -np.inf)), float(value)))


def hot(scalar: Scalar, size: int, *, drop_last: bool, keep: bool) -> list[Scalar]:
    """What a OneHotEncoderModel makes of a category index: 1 at its place; `keep`: an extra place for invalid ones.

    `size`: categories that it knows. Null stays null.
    """
    width = size + keep - drop_last
    breaks = tuple(float(np.nextafter(place, -np.inf)) for place in range(size + 1))

    def element(place: int) -> Evaluate:
        def evaluate(cells: Cells) -> Values:
            index = scalar.evaluate(cells)
            with np.errstate(invalid="ignore"):
                valid = (index.values >= 0) & (index.values < size)
            chosen = np.where(valid, np.floor(index.values), size)
            refused = index.refused | ~(valid | index.null | keep)
            return Values((chosen == place).astype(np.float64), index.null, refused)

        return evaluate

    return [
        Scalar(scalar.source, element(place), scalar.labels, (*scalar.breaks, *breaks))
        for place in range(max(width, 0))
    ]


def assembled(scalar: Scalar, *, keep: bool) -> Scalar:
    """A part of what a VectorAssembler makes: null becomes NaN if it is to `keep` it; else the record is refused."""

    def evaluate(cells: Cells) -> Values:
        found = scalar.evaluate(cells)
        invalid = found.null | np.isnan(found.values)
        values = np.where(found.null, np.nan, found.values)
        return Values(values, np.zeros(len(cells), np.bool_), found.refused if keep else found.refused | invalid)

    return Scalar(scalar.source, evaluate, scalar.labels, scalar.breaks, scalar.plain)
