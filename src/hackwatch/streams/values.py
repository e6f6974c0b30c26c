"""Printed values to numbers: vectorised parsing of what `atop` and its exporters print.

Two passes share one meaning. The quick one knows the common print of each kind and gives null for everything else;
the tolerant one knows all prints, and sees only the rows that the quick one could not read.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.streams import printed
from hackwatch.streams.fields import Field, Kind

__all__ = ["SPACES", "quick", "size_multipliers", "tolerant"]

#: Stray characters around a printed value: blank, tab, carriage return, no-break space.
SPACES = " \t\r\xa0"

#: Counters are counted in thousands, sizes in kibibytes (atop's val2valstr and val2memstr).
COUNT_UNITS = {"K": 1e3, "M": 1e6, "G": 1e9}
SIZE_UNITS = {"K": 2.0**10, "M": 2.0**20, "G": 2.0**30, "T": 2.0**40}

_EXACT_FLOAT = 2.0**53
_MULTIPLIERS = np.full(256, np.nan)
for _letter, _factor in SIZE_UNITS.items():
    _MULTIPLIERS[ord(_letter)] = _factor


def quick(field: Field, raw: pl.DataType) -> pl.Expr:
    """The value of `field` from its raw column (String, or what JSON numbers are parsed as); null if unreadable.

    A size with a unit letter comes without its unit: `size_multipliers` has the factors.
    """
    column = pl.col(field.name)
    if field.kind is Kind.TEXT:
        return _text(field, column)
    if raw != pl.String():
        return column if field.kind is not Kind.SIZE or field.letterless == 1.0 else column * field.letterless
    if field.kind in _PRINTED:
        return tolerant(field, raw)
    if field.kind is Kind.SIZE:
        column = column.str.head(-1)
    return _finite(column.cast(field.kind.dtype, strict=False), field)


def tolerant(field: Field, raw: pl.DataType) -> pl.Expr:
    """The same for every print that is understood."""
    if field.kind is Kind.TEXT or raw != pl.String():
        return quick(field, raw)
    text = pl.col(field.name).str.strip_chars(SPACES)
    if field.kind is Kind.SIZE:
        value = _with_units(text, SIZE_UNITS, field.letterless)
    elif field.kind is Kind.COUNT:
        whole = _with_units(text, COUNT_UNITS, None).round().cast(pl.Int64, strict=False)
        value = pl.coalesce(_integer(text), whole)
    elif field.kind is Kind.INTEGER:
        value = _integer(text)
    elif field.kind is Kind.FRACTION:
        percent = text.str.strip_suffix("%").str.strip_chars_end(SPACES).cast(pl.Float64, strict=False) / 100
        value = pl.when(text.str.ends_with("%")).then(percent).otherwise(text.cast(pl.Float64, strict=False))
    elif field.kind in _PRINTED:
        value = _PRINTED[field.kind](text)
    else:
        value = text.cast(pl.Float64, strict=False)
    return _finite(value, field).alias(field.name)


def size_multipliers(raw: pl.Series) -> npt.NDArray[np.float64] | None:
    """What each printed size is multiplied by, from its last character; NaN where that is no unit letter.

    Reads the last byte straight from Arrow's string views, where strings of up to 12 bytes are stored in place
    (https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout): six times cheaper than
    asking for each suffix. None if a string is longer than that.
    """
    array = raw.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return None
    views = np.frombuffer(buffer, np.uint8).reshape(-1, 16)[array.offset : array.offset + len(array)]
    lengths = views[:, :4].copy().view(np.uint32).ravel()
    if lengths.max() > 12:
        return None
    last = views[np.arange(len(array)), lengths + 3]
    return np.where(lengths > 0, _MULTIPLIERS[last], np.nan)


def _moment(text: pl.Expr) -> pl.Expr:
    """Unix seconds, or a printed date and time."""
    return pl.coalesce(text.cast(pl.Float64, strict=False), printed.moments(text))


#: Kinds of which all prints are read at once.
_PRINTED = {Kind.ADDRESS: printed.addresses, Kind.BOOLEAN: printed.booleans, Kind.MOMENT: _moment}


def _text(field: Field, column: pl.Expr) -> pl.Expr:
    text = column.str.strip_chars(SPACES) if field.strip else column
    if field.nullable:
        text = pl.when((text != "-") & (text != "")).then(text)
    return text.alias(field.name)


def _finite(value: pl.Expr, field: Field) -> pl.Expr:
    return value.fill_nan(None) if field.kind.dtype == pl.Float64() else value


def _integer(text: pl.Expr) -> pl.Expr:
    """Whole numbers, also printed as `17.0` or `1438e3` (exact up to 2^53 then)."""
    number = text.cast(pl.Float64, strict=False)
    whole = pl.when((number.abs() <= _EXACT_FLOAT) & (number == number.floor())).then(number)
    return pl.coalesce(text.cast(pl.Int64, strict=False), whole.cast(pl.Int64, strict=False))


def _with_units(text: pl.Expr, units: dict[str, float], letterless: float | None) -> pl.Expr:
    number = text.str.head(-1).cast(pl.Float64, strict=False)
    plain = None if letterless is None else text.cast(pl.Float64, strict=False) * letterless
    value = pl.lit(None, pl.Float64) if plain is None else plain
    for letter, factor in units.items():
        value = pl.when(text.str.ends_with(letter)).then(number * factor).otherwise(value)
    return value
