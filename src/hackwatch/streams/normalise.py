"""Raw columns to normalised ones: values parsed, impossible ones rejected, derived columns added."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import polars as pl

from hackwatch.streams import values
from hackwatch.streams.fields import Field, Kind
from hackwatch.streams.structure import Rejection, Rows

__all__ = ["normalise"]


def normalise(rows: Rows, fields: Sequence[Field], rejections: list[Rejection]) -> tuple[pl.DataFrame, Rows]:
    """Values of all fields of the rows that are possible, and these rows; the others go to `rejections`."""
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
            rejections.append(Rejection(number, index, reason, rows.text(position)))
    order = np.concatenate([np.flatnonzero(~bad.to_numpy()), positions[~still_bad.to_numpy()]])
    whole = pl.concat([parsed.filter(~bad), reread.filter(~still_bad)])
    return whole, Rows(rows.raw.clear(), rows.number[order], rows.index[order], rows.text)


def _parsed(raw: pl.DataFrame, fields: tuple[Field, ...], types: tuple[pl.DataType, ...]) -> pl.DataFrame:
    """The quickly read value of each field, in order; what needs no expression is taken as it is."""
    names, expressions = _quick(fields, types)
    computed = raw.select(expressions)
    return pl.DataFrame([(computed if field.name in names else raw).get_column(field.name) for field in fields])


@lru_cache(maxsize=64)
def _quick(fields: tuple[Field, ...], raw: tuple[pl.DataType, ...]) -> tuple[frozenset[str], list[pl.Expr]]:
    """The fields whose values must be computed, and how."""
    found = {field.name: values.quick(field, dtype) for field, dtype in zip(fields, raw, strict=True)}
    computed = {name: value for name, value in found.items() if not value.meta.eq(pl.col(name))}
    return frozenset(computed), list(computed.values())


@lru_cache(maxsize=64)
def _tolerant(fields: tuple[Field, ...], raw: tuple[pl.DataType, ...]) -> list[pl.Expr]:
    return [values.tolerant(field, dtype) for field, dtype in zip(fields, raw, strict=True)]


def _with_units(parsed: pl.DataFrame, raw: pl.DataFrame, fields: Sequence[Field]) -> pl.DataFrame:
    """Sizes that came as text, multiplied by their units (in place: the frame is ours)."""
    for position, field in enumerate(fields):
        if field.kind is Kind.SIZE and raw.schema[field.name] == pl.String:
            factors = values.size_multipliers(raw[field.name])
            if factors is None:
                size = raw.select(values.tolerant(field, pl.String())).to_series()
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
        possible |= pl.col(field.name).str.strip_chars(values.SPACES).is_in(["-", ""]).fill_null(False)
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
