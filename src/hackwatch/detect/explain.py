"""Why a record is suspect, in the words of its own columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.detect.detector import Driver
from hackwatch.detect.statistics import Statistics
from hackwatch.text import printable

__all__ = ["drivers", "printed"]

#: Columns with less than this share of the greatest contribution are left out.
LEAST_SHARE = 0.02
_PREFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi")


def drivers(
    records: pl.DataFrame,
    columns: Sequence[str],
    contributions: npt.NDArray[np.float64],
    statistics: Mapping[str, Statistics],
    units: Mapping[str, str],
    top: int,
) -> list[list[Driver]]:
    """The `top` columns of each row with the greatest contribution towards attack, among those with an unusual value.

    `contributions` is (rows, features), feature i made from columns[i]; features of one column are added up. A column
    without statistics has the usual value `unknown`.
    """
    names = list(dict.fromkeys(columns))
    place = {name: number for number, name in enumerate(names)}
    totals = np.zeros((len(contributions), len(names)))
    for feature, column in enumerate(columns):
        totals[:, place[column]] += contributions[:, feature]
    usual = {
        name: printed(statistics[name].usual, units.get(name, "")) if name in statistics else "unknown"
        for name in names
    }
    found = []
    for row, values in zip(totals, records.select(names).iter_rows(), strict=True):
        seen = [printed(value, units.get(name, "")) for name, value in zip(names, values, strict=True)]
        order = [int(place) for place in np.argsort(-row, kind="stable") if row[place] > LEAST_SHARE * row.max()]
        # "0, usual 0" explains nothing; it stays only if the columns are usual one by one and odd together.
        telling = [place for place in order if seen[place] != usual[names[place]]] or order
        found.append([Driver(names[p], seen[p], usual[names[p]], float(row[p])) for p in telling[:top] if row[p] > 0])
    return found


def printed(value: Any, unit: str) -> str:
    """A value as a person reads it: `1.2 GiB`, `93 %`, `1,438 events per interval`, `none` for null.

    Control characters of a text (written by whoever named the process) are printed escaped.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "none"
    if isinstance(value, str):
        return printable(value)
    number = float(value)
    if unit == "bytes":
        return _bytes(number)
    if unit == "fraction":
        return f"{_short(number * 100)} %"
    return f"{_short(number)} {unit}".rstrip()


def _bytes(number: float) -> str:
    size, prefix = abs(number), 0
    while size >= 1023.95 and prefix < len(_PREFIXES) - 1:
        size, prefix = size / 1024, prefix + 1
    sign = "-" if number < 0 else ""
    return f"{sign}{size:.1f} {_PREFIXES[prefix]}B" if prefix else f"{sign}{size:.0f} B"


def _short(number: float) -> str:
    if number == int(number) if math.isfinite(number) else False:
        return f"{int(number):,}" if abs(number) < 1e15 else f"{number:.3g}"
    return f"{number:,.1f}" if abs(number) >= 100 else f"{number:.3g}"
