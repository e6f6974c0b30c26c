"""A few messages to columns without Polars: the quick way of small payloads.

A query costs some tenths of a millisecond however few its rows, and the ordinary decoder makes several: 2.5 ms for 50
records, which plain Python reads in a fifth of that. Only what is usual is read here: flat records that all have the
same fields, values printed the usual way, every one of them possible. At anything else it gives up, and the ordinary
decoder reads the payload from its start; both give the same (the tests hold it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson

from hackwatch.streams.fields import Field, Kind
from hackwatch.streams.printed import SIZE_UNITS, SPACES, address, boolean, moment

__all__ = ["SMALL_BYTES", "Columns", "Small", "read"]

#: Payloads up to this size are read here (some 500 records); above, the ordinary decoder costs less a record.
SMALL_BYTES = 96 << 10

Columns = dict[str, list[Any]]

_MOST_EXTRAS = 32
_NUMBER = frozenset("-.0123456789")
_SIZE = _NUMBER | set(SIZE_UNITS)
_SCALARS = {int, float, bool, type(None)}


class _Unusual(Exception):
    """Something that only the ordinary decoder reads."""


@dataclass(frozen=True, slots=True)
class Small:
    """Values of each field; of each record its message's number and its index there; fields that are not known."""

    columns: Columns
    number: list[int]
    index: list[int]
    extras: tuple[str, ...]


def read(payload: bytes, messages: int, longest: int, fields: Sequence[Field]) -> Small | None:
    """The records of a payload of `messages` lines, none longer than `longest`; None if anything is unusual."""
    if b"\\" in payload:  # an escape could hide a colon, which vouches for the fields
        return None
    lines = payload.split(b"\n")
    if not lines[-1]:
        del lines[-1]
    if not lines or len(lines) != messages or max(map(len, lines)) > longest:
        return None
    try:
        records, number, index = _records(lines)
        found, extras = _columns(records, fields, payload.count(b":"))
        absent = [None] * len(records)
        columns = {
            field.name: absent if field.optional and field.name not in found else _read(field, found[field.name])
            for field in fields
        }
    except (_Unusual, ValueError, LookupError, AttributeError, TypeError, OverflowError):
        return None
    return Small(columns, number, index, extras)


def _records(lines: Sequence[bytes]) -> tuple[list[dict[str, Any]], list[int], list[int]]:
    """All records, each with the number of its message and its index there."""
    values = list(map(orjson.loads, lines))
    if set(map(type, values)) == {dict}:
        return values, list(range(len(values))), [0] * len(values)
    records: list[dict[str, Any]] = []
    number: list[int] = []
    index: list[int] = []
    for place, value in enumerate(values):
        several = value if isinstance(value, list) else [value]
        if not several:
            raise _Unusual
        records += several
        number += [place] * len(several)
        index += range(len(several))
    return records, number, index


def _columns(
    records: list[dict[str, Any]], fields: Sequence[Field], colons: int
) -> tuple[dict[str, tuple[Any, ...]], tuple[str, ...]]:
    """The values of each field, and the names of further ones.

    Vouched for as in structure.py: with as many colons as names and those within names and texts, no record holds a
    field twice.
    """
    names = tuple(records[0])
    if len(names) < 2 or set(map(len, records)) != {len(names)}:
        raise _Unusual
    found = dict(zip(names, zip(*map(itemgetter(*names), records), strict=True), strict=True))
    expected = len(records) * (len(names) + sum(name.count(":") for name in names))
    for values in found.values():
        types = set(map(type, values))
        if str in types:
            texts = values if len(types) == 1 else [value for value in values if type(value) is str]
            expected += "".join(texts).count(":")
        if not types <= _SCALARS | {str}:
            raise _Unusual
    extras = tuple(found.keys() - {field.name for field in fields})
    if colons != expected or len(extras) > _MOST_EXTRAS:
        raise _Unusual
    return found, extras


def _read(field: Field, raw: tuple[Any, ...]) -> list[Any]:
    """The values of one field; _Unusual, or another error, if one of them is not printed the usual way or possible."""
    values = _READERS[field.kind](field, raw)
    if not field.is_bounded:
        return values
    magnitudes = [len(value.encode()) for value in set(values) - {None}] if field.is_text else values
    if field.nullable and not field.is_text:
        magnitudes = [value for value in values if value is not None]
    if magnitudes and not (field.low <= min(magnitudes) and max(magnitudes) <= field.high):
        raise _Unusual
    return values


def _texts(field: Field, raw: tuple[Any, ...]) -> list[Any]:
    if set(map(type, raw)) != {str}:
        raise _Unusual
    values = [text.strip(SPACES) for text in raw] if field.strip else list(raw)
    return [None if text in ("", "-") else text for text in values] if field.nullable else values


def _integers(field: Field, raw: tuple[Any, ...]) -> list[Any]:
    types = set(map(type, raw))
    if types == {int}:
        return list(raw)
    return _printed(field, raw, types, int, {int})


def _numbers(field: Field, raw: tuple[Any, ...]) -> list[Any]:
    types = set(map(type, raw))
    if types == {float}:
        return list(raw)
    if types == {int} or types == {int, float}:
        return [float(value) for value in raw]
    return _printed(field, raw, types, float, set())


def _printed(
    field: Field, raw: tuple[Any, ...], types: set[type], read_one: Callable[[Any], Any], also: set[type]
) -> list[Any]:
    """Numbers printed as text; where a field may be null, beside numbers of the types `also`."""
    if types != {str} and not (field.nullable and types <= also | {str}):
        raise _Unusual
    texts = [value.strip(SPACES) if type(value) is str else value for value in raw]
    if field.nullable:
        texts = [None if value in ("", "-") else value for value in texts]
    if not _NUMBER.issuperset(chain.from_iterable(value for value in texts if type(value) is str)):
        raise _Unusual
    return [read_one(value) if type(value) is str else value for value in texts]


def _sizes(field: Field, raw: tuple[Any, ...]) -> list[Any]:
    if set(map(type, raw)) != {str}:
        return [value * field.letterless for value in _numbers(field, raw)]
    texts = [text.strip(SPACES) for text in raw]
    if not _SIZE.issuperset("".join(texts)):
        raise _Unusual
    return [float(text[:-1]) * SIZE_UNITS[text[-1]] for text in texts]


def _addresses(field: Field, raw: tuple[Any, ...]) -> list[Any]:
    return _each(field, raw, address)


def _booleans(field: Field, raw: tuple[Any, ...]) -> list[Any]:
    return list(raw) if set(map(type, raw)) == {bool} else _each(field, raw, boolean)


def _moments(field: Field, raw: tuple[Any, ...]) -> list[Any]:
    types = set(map(type, raw))
    return _each(field, raw, moment) if types == {str} else _numbers(field, raw)


def _each(field: Field, raw: tuple[Any, ...], read_one: Callable[[str], Any]) -> list[Any]:
    """Values of texts of which each, but those that mean null, must be readable."""
    texts = _texts(field, raw)
    values = [None if text is None else read_one(text) for text in texts]
    if values.count(None) != texts.count(None):
        raise _Unusual
    return values


_READERS: dict[Kind, Callable[[Field, tuple[Any, ...]], list[Any]]] = {
    Kind.INTEGER: _integers,
    Kind.COUNT: _integers,
    Kind.SIZE: _sizes,
    Kind.FRACTION: _numbers,
    Kind.TIME: _numbers,
    Kind.MOMENT: _moments,
    Kind.TEXT: _texts,
    Kind.ADDRESS: _addresses,
    Kind.BOOLEAN: _booleans,
}
