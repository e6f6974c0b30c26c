"""One message at a time, exactly: for messages that vectorised parsing cannot vouch for.

Slow (some 10 us a record) and complete: it knows duplicate and unknown fields, fields that are absent from ones that
are null, and why a message is no message. It yields field texts; their values are parsed like those of all others.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import orjson

from hackwatch.streams.fields import Field

__all__ = ["MAX_DEPTH", "Bad", "Good", "read_message", "read_record"]

#: Records nested deeper than this are rejected with their message.
MAX_DEPTH = 64
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_OPENING, _CLOSING = np.frombuffer(b"[{", np.uint8), np.frombuffer(b"]}", np.uint8)
_UNKNOWN_NAMES = 256
_UNKNOWN_NAME_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Good:
    """A record whose structure is sound: the text of each field (None if absent), and its own JSON text."""

    index: int
    texts: tuple[str | None, ...]
    raw: bytes


@dataclass(frozen=True, slots=True)
class Bad:
    """A record (or, without `index`, a whole message) that is rejected, and why."""

    index: int | None
    reason: str
    raw: bytes


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its fields in order, duplicates included."""


_decoder = json.JSONDecoder(object_pairs_hook=_Pairs)


def read_message(
    line: bytes, fields: Sequence[Field], ignored: Collection[str], unknown: Counter[str]
) -> list[Good | Bad]:
    """All records of a message; unknown fields are added to `unknown`."""
    if not line.strip(b" \t\r"):
        return [Bad(None, "message is empty", line)]
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return [Bad(None, f"message is not JSON: {error}", line)]
    if not isinstance(value, dict | list):
        return [Bad(None, "message is neither an object nor an array of objects", line)]
    if not value and isinstance(value, list):
        return [Bad(None, "message is an empty array", line)]
    if _depth(line) > MAX_DEPTH + isinstance(value, list):
        return [Bad(None, f"message is nested deeper than {MAX_DEPTH} levels", line)]
    if isinstance(value, dict):
        return [read_record(line, 0, fields, ignored, unknown)]
    return [_record(pairs, index, raw, fields, ignored, unknown) for index, (pairs, raw) in enumerate(_elements(line))]


def read_record(
    text: bytes, index: int, fields: Sequence[Field], ignored: Collection[str], unknown: Counter[str]
) -> Good | Bad:
    """One record from its own JSON text, which is an object and not nested too deeply."""
    text = text.strip(b" \t\r")
    return _record(_decoder.decode(text.decode()), index, text, fields, ignored, unknown)


def is_sound(text: bytes) -> bool:
    """Whether a record's own text is strict JSON, not nested too deeply."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return _depth(text) <= MAX_DEPTH


def count(unknown: Counter[str], name: str, times: int = 1) -> None:
    """Count an unknown field; beyond 256 different names (cut to 64 characters) all others share one entry."""
    name = name[:_UNKNOWN_NAME_LENGTH]
    unknown[name if name in unknown or len(unknown) < _UNKNOWN_NAMES else "(other)"] += times


def _elements(line: bytes) -> Iterator[tuple[Any, bytes]]:
    """The elements of an array with their JSON texts as they came."""
    text = line.decode()
    position = _skip(text, text.index("[") + 1)
    while True:
        value, end = _decoder.raw_decode(text, position)
        yield value, text[position:end].encode()
        position = _skip(text, end)
        if text[position] == "]":
            return
        position = _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    while text[position] in " \t\r":
        position += 1
    return position


def _record(
    pairs: Any, index: int, raw: bytes, fields: Sequence[Field], ignored: Collection[str], unknown: Counter[str]
) -> Good | Bad:
    if not isinstance(pairs, _Pairs):
        return Bad(index, "record is not an object", raw)
    known = {field.name for field in fields}
    values: dict[str, Any] = {}
    problems = []
    for name, value in pairs:
        if name in values:
            problems.append(f"{name}: occurs more than once")
        elif name in known:
            values[name] = value
        elif name not in ignored:
            count(unknown, name)
    for field in fields:
        if field.is_text and isinstance(values.get(field.name), list):
            problems.append(f"{field.name}: not a text but an array or object")
    if problems:
        return Bad(index, "; ".join(dict.fromkeys(problems)), raw)
    return Good(index, tuple(_text(field, values) for field in fields), raw)


def _text(field: Field, values: dict[str, Any]) -> str | None:
    value = values.get(field.name)
    if isinstance(value, str):
        return value
    if value is None:
        return "-" if field.nullable and not field.optional and field.name in values else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _positional(value)
    return str(value) if isinstance(value, int) else "[...]"


def _positional(number: float) -> str:
    """A float as Polars prints it into text: shortest digits, no exponent, no trailing `.0`."""
    text = format(Decimal(repr(number)), "f")
    return text.removesuffix(".0")


def _depth(text: bytes) -> int:
    """Levels of nesting of a JSON text (1 for a flat object), or any allowed number if it cannot be too many.

    From the text: of a field that occurs twice a parser may show only the flat one, and hide the one that would
    exhaust the stack of the next parser.
    """
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return MAX_DEPTH
    characters = np.frombuffer(_STRING.sub(b"", text), np.uint8)
    steps = np.isin(characters, _OPENING).astype(np.int64) - np.isin(characters, _CLOSING)
    return int(np.cumsum(steps).max(initial=0))
