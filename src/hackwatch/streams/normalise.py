"""Raw columns to normalised ones: printed values parsed, impossible ones rejected.

Two passes share one meaning. The quick one knows the common print of each kind and gives null for everything else;
the tolerant one knows all prints, and sees only the rows that the quick one could not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.streams import printed
from hackwatch.streams.fields import Field, Kind
from hackwatch.streams.found import Found, RawRecords
from hackwatch.streams.printed import COUNT_UNITS, SIZE_UNITS, SPACES

__all__ = ["normalise"]

_EXACT_FLOAT = 2.0**53
_MULTIPLIERS = np.full(256, np.nan)
for _letter, _factor in SIZE_UNITS.items():
    _MULTIPLIERS[ord(_letter)] = _factor


def normalise(rows: RawRecords, fields: Sequence[Field], found: Found) -> tuple[pl.DataFrame, RawRecords]:
    """Values of all fields of the rows that are possible, and these rows; the others are rejected in `found`."""
    plan = tuple(fields), tuple(rows.raw.dtypes)
    parsed = _with_units(_parsed(rows.raw, *plan), rows.raw, fields)
    failing = _failing(parsed, fields)
    if not failing:
        return parsed, rows
    bad = ~_possible(parsed, rows.raw, failing)
    if not bad.any():
        return parsed, rows
    again = rows.raw.filter(bad)
    reread = again.select(_tolerant(*plan))
    still_bad = ~_possible(reread, again, fields)
    positions = np.flatnonzero(bad.to_numpy())
    if still_bad.any():
        reasons = _reasons(reread.filter(still_bad), again.filter(still_bad), fields)
        for position, reason in zip(positions[still_bad.to_numpy()].tolist(), reasons, strict=True):
            number, index = int(rows.number[position]), int(rows.index[position])
            found.reject(number, index, reason, rows.text(position))
    order = np.concatenate([np.flatnonzero(~bad.to_numpy()), positions[~still_bad.to_numpy()]])
    whole = pl.concat([parsed.filter(~bad), reread.filter(~still_bad)])
    return whole, RawRecords(rows.raw.clear(), rows.number[order], rows.index[order], rows.text)


def _parsed(raw: pl.DataFrame, fields: tuple[Field, ...], types: tuple[pl.DataType, ...]) -> pl.DataFrame:
    """The quickly read value of each field, in order; what needs no expression is taken as it is."""
    names, expressions = _quick(fields, types)
    computed = raw.select(expressions)
    return pl.DataFrame([(computed if field.name in names else raw).get_column(field.name) for field in fields])


@lru_cache(maxsize=64)
def _quick(fields: tuple[Field, ...], raw: tuple[pl.DataType, ...]) -> tuple[frozenset[str], list[pl.Expr]]:
    """The fields whose values must be computed, and how."""
    values = {field.name: _quick_value(field, dtype) for field, dtype in zip(fields, raw, strict=True)}
    computed = {name: value for name, value in values.items() if not value.meta.eq(pl.col(name))}
    return frozenset(computed), list(computed.values())


@lru_cache(maxsize=64)
def _tolerant(fields: tuple[Field, ...], raw: tuple[pl.DataType, ...]) -> list[pl.Expr]:
    return [_tolerant_value(field, dtype) for field, dtype in zip(fields, raw, strict=True)]


def _with_units(parsed: pl.DataFrame, raw: pl.DataFrame, fields: Sequence[Field]) -> pl.DataFrame:
    """Sizes that came as text, multiplied by their units (in place: the frame is ours)."""
    for position, field in enumerate(fields):
        if field.kind is Kind.SIZE and raw.schema[field.name] == pl.String:
            factors = _size_multipliers(raw[field.name])
            if factors is None:
                size = raw.select(_tolerant_value(field, pl.String())).to_series()
            else:
                size = pl.Series(field.name, parsed[field.name].to_numpy() * factors, nan_to_null=True)
            parsed.replace_column(position, size)
    return parsed


@lru_cache(maxsize=64)
def _extremes(fields: tuple[Field, ...]) -> list[pl.Expr]:
    magnitudes = [_magnitude(item, pl.col(item.name)) if item.is_bounded else pl.lit(None) for item in fields]
    return [
        expression.alias(f"{what} {item.name}")
        for item, value in zip(fields, magnitudes, strict=True)
        for what, expression in (
            ("null", pl.col(item.name).null_count()),
            ("low", value.min()),
            ("high", value.max()),
        )
    ]


def _magnitude(field: Field, value: pl.Expr) -> pl.Expr:
    """What `low` and `high` of a bounded field bound."""
    return value.str.len_bytes() if field.is_text else value


def _failing(parsed: pl.DataFrame, fields: Sequence[Field]) -> list[Field]:
    """The fields with any null or value out of range, by their extremes alone."""
    row = parsed.select(_extremes(tuple(fields))).row(0)
    failing = []
    for position, field in enumerate(fields):
        nulls, low, high = row[3 * position : 3 * position + 3]
        if nulls or (low is not None and (low < field.low or high > field.high)):
            failing.append(field)
    return failing


def _possible(parsed: pl.DataFrame, raw: pl.DataFrame, fields: Sequence[Field]) -> pl.Series:
    """Whether each row has possible values in these fields."""
    both = parsed.select([pl.col(field.name).alias(f"value {field.name}") for field in fields]).hstack(
        raw.select([pl.col(field.name) for field in fields])
    )
    return both.select(pl.all_horizontal([_is_possible(field, raw.schema[field.name]) for field in fields])).to_series()


def _is_possible(field: Field, raw: pl.DataType) -> pl.Expr:
    value = pl.col(f"value {field.name}")
    if field.is_bounded:
        # Bounds of the column's own type: an integer beside a float would be compared as a rounded float.
        number = float if field.kind.dtype == pl.Float64() else int
        possible = _magnitude(field, value).is_between(number(field.low), number(field.high)).fill_null(False)
    else:
        possible = value.is_not_null()
    if field.nullable and raw == pl.String():
        possible |= pl.col(field.name).str.strip_chars(SPACES).is_in(["-", ""]).fill_null(False)
    if field.optional:
        possible |= pl.col(field.name).is_null()
    return possible


def _reasons(parsed: pl.DataFrame, raw: pl.DataFrame, fields: Sequence[Field]) -> list[str]:
    """Why each row is rejected: every impossible field with what it should have been."""
    both = parsed.rename({field.name: f"value {field.name}" for field in fields}).hstack(raw)
    complaints = [
        pl.when(~_is_possible(field, raw.schema[field.name])).then(
            pl.when(pl.col(field.name).is_null())
            .then(pl.lit(f"{field.name}: missing or null"))
            .otherwise(pl.lit(field.complaint))
        )
        for field in fields
    ]
    return both.select(pl.concat_str(complaints, separator="; ", ignore_nulls=True)).to_series().to_list()


# -- values


def _quick_value(field: Field, raw: pl.DataType) -> pl.Expr:
    """The value of `field` from its raw column (String, or what JSON numbers are parsed as); null if unreadable.

    A size with a unit letter comes without its unit: `_size_multipliers` has the factors.
    """
    column = pl.col(field.name)
    if field.kind is Kind.TEXT:
        return _text(field, column)
    if raw != pl.String():
        return column if field.kind is not Kind.SIZE or field.letterless == 1.0 else column * field.letterless
    if field.kind in _PRINTED:
        return _tolerant_value(field, raw)
    if field.kind is Kind.SIZE:
        column = column.str.head(-1)
    return _finite(column.cast(field.kind.dtype, strict=False), field)


def _tolerant_value(field: Field, raw: pl.DataType) -> pl.Expr:
    """The same for every print that is understood."""
    if field.kind is Kind.TEXT or raw != pl.String():
        return _quick_value(field, raw)
    text = pl.col(field.name).str.strip_chars(SPACES)
    if field.kind is Kind.SIZE:
        value = _unit_value(text, SIZE_UNITS, field.letterless)
    elif field.kind is Kind.COUNT:
        whole = _unit_value(text, COUNT_UNITS, None).round().cast(pl.Int64, strict=False)
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


def _size_multipliers(raw: pl.Series) -> npt.NDArray[np.float64] | None:
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


def _unit_value(text: pl.Expr, units: dict[str, float], letterless: float | None) -> pl.Expr:
    number = text.str.head(-1).cast(pl.Float64, strict=False)
    plain = None if letterless is None else text.cast(pl.Float64, strict=False) * letterless
    value = pl.lit(None, pl.Float64) if plain is None else plain
    for letter, factor in units.items():
        value = pl.when(text.str.ends_with(letter)).then(number * factor).otherwise(value)
    return value
