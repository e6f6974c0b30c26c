"""One message at a time, exactly: for messages that vectorised parsing cannot vouch for.

Slow (some 10 us a record) and complete: it knows duplicate and unknown fields, fields that are absent from ones that
are null, and why a message is no message. It yields field texts; their values are parsed like those of all others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import orjson
import polars as pl

from hackwatch.streams.fields import Field, Kind
from hackwatch.streams.found import Found, RawRecords
from hackwatch.streams.payload import Lines, Pieces

__all__ = ["ENVELOPE", "MAX_DEPTH", "PARTS", "ExactReader", "Wrapped"]

#: Records nested deeper than this are rejected with their message.
MAX_DEPTH = 64
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_OPENING, _CLOSING = np.frombuffer(b"[{", np.uint8), np.frombuffer(b"]}", np.uint8)
#: What a feed may wrap a line in that came from elsewhere: whose it is, where it was there, how it is to be read.
PARTS = ("source", "position", "format", "line")
ENVELOPE = tuple(Field(name, Kind.TEXT, 0, 2.0**31, strip=False) for name in PARTS)


@dataclass(frozen=True, slots=True)
class _Good:
    """A record whose structure is sound: the text of each field (None if absent), and its own JSON text."""

    number: int
    index: int
    texts: tuple[str | None, ...]
    raw: bytes


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its fields in order, duplicates included."""


_decoder = json.JSONDecoder(object_pairs_hook=_Pairs)


@dataclass(frozen=True, slots=True)
class Wrapped:
    """An envelope: the texts of its parts in the order of `PARTS`; `format` and `line` are not null."""

    number: int
    texts: tuple[str | None, ...]


class ExactReader:
    """Reads messages of these fields one by one, into `found`; fields that are `ignored` are not unknown.

    `envelopes`: whether a message may be one, that is an object with exactly the fields `PARTS`; these are `wrapped`.
    """

    def __init__(
        self, fields: Sequence[Field], ignored: Collection[str], found: Found, *, envelopes: bool = False
    ) -> None:
        self._fields, self._ignored, self._found, self._envelopes = fields, ignored, found, envelopes
        self._known = {field.name for field in fields}
        self._good: list[_Good] = []
        self.wrapped: list[Wrapped] = []

    def messages(self, lines: Lines, positions: Iterable[int]) -> None:
        """Read some of these messages."""
        for position in positions:
            self._message(lines.text(position), int(lines.number[position]))

    def records(self, pieces: Pieces, positions: Sequence[int]) -> set[int]:
        """Read some of these records, which are objects.

        Those of messages of which one is broken or nested too deeply are left; the numbers of these messages.
        """
        texts = {position: pieces.text(position) for position in positions}
        unsound = {int(pieces.number[position]) for position, text in texts.items() if not _is_sound(text)}
        for position, text in texts.items():
            if (number := int(pieces.number[position])) not in unsound:
                alone = pieces.element is None or not pieces.element[position]
                self._object(text, int(pieces.index[position]), number, alone=alone)
        return unsound

    def _message(self, line: bytes, number: int) -> None:
        """Read all records of a message."""
        reject = partial(self._found.reject, number, None)
        blank = not line.strip(b" \t\r")
        try:
            value = None if blank else orjson.loads(line)
        except orjson.JSONDecodeError as error:
            reject(f"message is not JSON: {error}", line, is_json=False)
            return
        if blank:
            reject("message is empty", line)
        elif not isinstance(value, dict | list):
            reject("message is neither an object nor an array of objects", line, is_json=False)
        elif not value and isinstance(value, list):
            reject("message is an empty array", line)
        elif _depth(line) > MAX_DEPTH + isinstance(value, list):
            reject(f"message is nested deeper than {MAX_DEPTH} levels", line)
        elif isinstance(value, dict):
            self._object(line, 0, number, alone=True)
        else:
            for index, (pairs, raw) in enumerate(_elements(line)):
                self._record(pairs, index, raw, number)

    def _object(self, text: bytes, index: int, number: int, *, alone: bool) -> None:
        """Read one record from its own JSON text, which is an object and not nested too deeply.

        `alone`: it is a message of its own, and not an element of an array.
        """
        text = text.strip(b" \t\r")
        pairs = _decoder.decode(text.decode())
        if alone and self._is_envelope(pairs):
            values = dict(pairs)
            self.wrapped.append(Wrapped(number, tuple(_text(field, values) for field in ENVELOPE)))
        else:
            self._record(pairs, index, text, number)

    def _is_envelope(self, pairs: _Pairs) -> bool:
        if not self._envelopes or len(pairs) != len(PARTS) or {name for name, _ in pairs} != set(PARTS):
            return False
        values = dict(pairs)
        given = values["format"] is not None and values["line"] is not None
        return given and not any(isinstance(part, list) for part in values.values())

    def _record(self, pairs: Any, index: int, raw: bytes, number: int) -> None:
        values, problems = dict[str, Any](), list[str]()
        for name, value in pairs if isinstance(pairs, _Pairs) else ():
            if name in values:
                problems.append(f"{name}: occurs more than once")
            elif name in self._known:
                values[name] = value
            elif name not in self._ignored:
                self._found.unknown.add(name, number)
        for field in self._fields:
            if field.is_text and isinstance(values.get(field.name), list):
                problems.append(f"{field.name}: not a text but an array or object")
        if not isinstance(pairs, _Pairs):
            problems.append("record is not an object")
        if problems:
            self._found.reject(number, index, "; ".join(dict.fromkeys(problems)), raw)
        else:
            self._good.append(_Good(number, index, tuple(_text(field, values) for field in self._fields), raw))

    def gather(self) -> None:
        """Give the sound records to `found`, as one frame."""
        good = self._good
        if not good:
            return
        schema = {field.name: pl.String() for field in self._fields}
        frame = pl.DataFrame([record.texts for record in good], schema=schema, orient="row")
        number, index = (np.array([getattr(one, name) for one in good], np.int64) for name in ("number", "index"))
        self._found.records.append(RawRecords(frame, number, index, lambda row: good[row].raw))


def _is_sound(text: bytes) -> bool:
    """Whether a record's own text is strict JSON, not nested too deeply."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return _depth(text) <= MAX_DEPTH


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
