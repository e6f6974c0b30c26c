"""Messages to raw columns: structure only, no value is judged here.

Three ways, from fast to exact, with one result:

1. The whole payload through Polars' NDJSON parser with a type per column, guessed from the first message. The parser
   is strict: a number of another type, a text for a number or broken JSON makes it fail rather than guess.
2. If that fails, each message is looked at once (orjson) to part the broken from the sound and to learn every type
   that occurs; the sound ones go through the NDJSON parser again, halved until what fails is alone.
3. What remains, and every record whose structure the fast parser cannot vouch for, is read exactly, one by one.

How the fast parser's result is vouched for: it says nothing of unknown and duplicate fields and takes null for absent.
But each field has one colon in the JSON text. If a record has all its fields, and as many colons as fields plus those
within its texts, it has exactly these fields, once each. Escapes (`\\u003a`) could hide a colon, so records with
`\\u` are read exactly; so are those with a field missing or null, and texts that may be a printed array or object.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from hackwatch.streams import exact
from hackwatch.streams.fields import Field
from hackwatch.streams.found import Found, RawRecords
from hackwatch.streams.payload import Lines, Pieces, Positions

__all__ = ["Structure"]

#: The names of a record's fields, and the types of their values.
_Shape = tuple[tuple[str, ...], tuple[type, ...]]

_PEEKED = 4
_MOST_EXTRAS = 32
_ALONE = 64
_MOST_PARTS = 32
#: Brackets in one field that make its record suspect of being too deep (the record itself is one level).
_DEEP = exact.MAX_DEPTH - 1


@dataclass(frozen=True, slots=True)
class PayloadSchema:
    """What to parse a payload as: a type per field, names of further fields to expect, whether arrays occur."""

    schema: dict[str, pl.DataType]
    extras: tuple[str, ...]
    arrays: bool


class Structure:
    """Reads the structure of messages into `found`; envelopes, if there may be any, are `wrapped`."""

    def __init__(
        self, fields: Sequence[Field], ignored: frozenset[str], found: Found, *, envelopes: bool = False
    ) -> None:
        self._fields, self._ignored, self._found = fields, ignored, found
        self._exact = exact.ExactReader(fields, ignored, found, envelopes=envelopes)

    @property
    def wrapped(self) -> list[exact.Wrapped]:
        return self._exact.wrapped

    def read(self, lines: Lines) -> None:
        """Read all messages; never raises, whatever they hold."""
        if not len(lines):
            return
        plan = self._peek(lines)
        if plan is None or not (self._try(lines, plan) or self._try(lines, self._relaxed(plan))):
            self._sort_out(lines)
        self._exact.gather()

    def _peek(self, lines: Lines) -> PayloadSchema | None:
        """A plan from the first message that is one."""
        for position in range(min(_PEEKED, len(lines))):
            try:
                value = orjson.loads(lines.text(position))
            except orjson.JSONDecodeError:
                continue
            records = value if isinstance(value, list) else [value]
            if records and isinstance(records[0], dict):
                return self._plan([_shape(records[0])], arrays=isinstance(value, list))
        return None

    def _plan(self, shapes: Iterable[_Shape], arrays: bool) -> PayloadSchema:
        types: dict[str, set[type]] = {}
        for names, kinds in shapes:
            for name, kind in zip(names, kinds, strict=True):
                types.setdefault(name, set()).add(kind)
        schema = {item.name: _raw_type(item, types.pop(item.name, set())) for item in self._fields}
        return PayloadSchema(schema, tuple(types)[:_MOST_EXTRAS], arrays)

    def _relaxed(self, plan: PayloadSchema) -> PayloadSchema:
        """The same with nullable numbers as text: finished processes print `-` for them."""
        nullable = {item.name for item in self._fields if item.nullable}
        schema = {name: pl.String() if name in nullable else dtype for name, dtype in plan.schema.items()}
        return replace(plan, schema=schema)

    def _sort_out(self, lines: Lines) -> None:
        """Part the broken messages from the sound, learn all types, parse the sound ones."""
        sound, broken, shapes = list[int](), list[int](), set[_Shape]()
        for position in range(len(lines)):
            found = _shapes(lines.text(position))
            (broken if found is None else sound).append(position)
            shapes |= found or set()
        self._exact.messages(lines, broken)
        if sound:
            first = np.frombuffer(lines.payload, np.uint8)[lines.start[sound]]
            self._halve(lines.take(sound), self._plan(shapes, arrays=bool((first == ord("[")).any())))

    def _halve(self, lines: Lines, plan: PayloadSchema) -> None:
        """Parse by plan; what the parser refuses is halved, the larger parts first, and in the end read exactly."""
        waiting = deque([lines])
        for _ in range(_MOST_PARTS):
            if not waiting:
                return
            part = waiting.popleft()
            if self._try(part, plan):
                continue
            middle = len(part) // 2 if len(part) > _ALONE else 0
            if middle:
                waiting += [part.take(np.arange(middle)), part.take(np.arange(middle, len(part)))]
            else:
                self._exact.messages(part, range(len(part)))
        for part in waiting:
            self._exact.messages(part, range(len(part)))

    def _try(self, lines: Lines, plan: PayloadSchema) -> bool:
        """Parse by plan; False if the parser refuses any message."""
        pieces = Pieces.arrays(lines) if plan.arrays else Pieces.objects(lines)
        if pieces is None:
            return False
        extras: dict[str, pl.DataType] = {name: pl.String() for name in plan.extras}
        try:
            # Without looking for credentials: it looks through the payload for a path in a cloud.
            frame = pl.read_ndjson(pieces.payload, schema=plan.schema | extras, credential_provider=None)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return False
        if frame.height != len(pieces):  # blank lines, which are skipped
            return False
        self._vouch(lines, pieces, frame, plan)
        return True

    def _vouch(self, lines: Lines, pieces: Pieces, frame: pl.DataFrame, plan: PayloadSchema) -> None:
        doubtful = _Doubts(self._fields, pieces, frame, plan).rows()
        if doubtful is not None and doubtful.any():
            frame, pieces = self._resolve(lines, pieces, frame, np.flatnonzero(doubtful))
        for name in plan.extras:
            if name not in self._ignored:
                self._found.unknown.add_all(name, pieces.number[frame[name].is_not_null().to_numpy()])
        raw = frame.select(plan.schema.keys()) if plan.extras else frame
        self._found.records.append(RawRecords(raw, pieces.number, pieces.index, pieces.text))

    def _resolve(
        self, lines: Lines, pieces: Pieces, frame: pl.DataFrame, doubtful: Positions
    ) -> tuple[pl.DataFrame, Pieces]:
        """Read the doubtful rows exactly and take them out; a record too deep or broken takes its message along."""
        keep = np.ones(len(pieces), np.bool_)
        keep[doubtful] = False
        unsound = self._exact.records(pieces, doubtful.tolist())
        if unsound:
            keep &= ~np.isin(pieces.number, list(unsound))
            self._exact.messages(lines, np.flatnonzero(np.isin(lines.number, list(unsound))).tolist())
        kept = np.flatnonzero(keep)
        return frame.filter(pl.Series(keep)), pieces.take(kept)


class _Doubts:
    """Which rows of a parsed payload have a structure that must be read exactly."""

    def __init__(self, fields: Sequence[Field], pieces: Pieces, frame: pl.DataFrame, plan: PayloadSchema) -> None:
        self.pieces, self.frame, self.extras = pieces, frame, plan.extras
        self.required = tuple(item.name for item in fields if not item.optional)
        self.optional = tuple(item.name for item in fields if item.optional)
        self.texts = tuple(item.name for item in fields if item.is_text)

    def rows(self) -> npt.NDArray[np.bool_] | None:
        """A mask, or None if no row is in doubt (found out without looking at rows)."""
        # A single byte is found 20 times faster than a pair; most payloads hold no backslash at all.
        escaped = b"\\" in self.pieces.payload and b"\\u" in self.pieces.payload
        brackets = self.pieces.count("[") + self.pieces.count("{") - len(self.pieces)
        once = self._all_fields_once()
        if once and not escaped and not brackets:
            return None
        doubtful = np.zeros(len(self.pieces), np.bool_) if once and not escaped else self._fields_differ()
        if escaped:
            doubtful |= self._escaped()
        if brackets:
            doubtful |= self._nested()
        if brackets >= _DEEP:
            doubtful |= self._deep()
        return doubtful

    def _all_fields_once(self) -> bool:
        present = (*self.required, *self.optional, *self.extras)
        row = self.frame.select(_presence(present, (*self.texts, *self.extras))).row(0)
        missing = row[: len(present)]
        if any(missing[: len(self.required)]):
            return False
        expected = self.frame.height * len(present) - sum(missing) + sum(row[len(present) :])
        return bool(self.pieces.count(":") == expected)

    def _fields_differ(self) -> npt.NDArray[np.bool_]:
        optional = [pl.col(name).is_not_null().cast(pl.UInt32) for name in [*self.optional, *self.extras]]
        colons = [_colons(name) for name in self._strings()]
        expected, missing = self.frame.select(
            expected=pl.sum_horizontal(pl.lit(len(self.required), pl.UInt32), *optional, *colons),
            missing=pl.any_horizontal([pl.col(name).is_null() for name in self.required]),
        ).get_columns()
        differ: npt.NDArray[np.bool_] = (self.pieces.counts(":") != expected.to_numpy()) | missing.to_numpy()
        return differ

    def _escaped(self) -> npt.NDArray[np.bool_]:
        characters = np.frombuffer(self.pieces.payload, np.uint8)
        found = np.flatnonzero((characters[:-1] == ord("\\")) & (characters[1:] == ord("u")))
        return np.searchsorted(found, self.pieces.end) > np.searchsorted(found, self.pieces.start)

    def _nested(self) -> npt.NDArray[np.bool_]:
        """Texts that may be a printed array or object."""
        doubtful = np.zeros(len(self.pieces), np.bool_)
        opening = [pl.col(name).str.starts_with("[") | pl.col(name).str.starts_with("{") for name in self.texts]
        for column in self.frame.select(opening).iter_columns():
            quoted = orjson.dumps(column.name) + b":"
            for position in np.flatnonzero(column.fill_null(False).to_numpy()).tolist():
                text = self.pieces.text(position).replace(quoted + b" ", quoted)
                first = self.frame[column.name][position][0].encode()
                doubtful[position] |= quoted + b'"' + first not in text
        return doubtful

    def _deep(self) -> npt.NDArray[np.bool_]:
        """Fields that may be nested too deeply."""
        printed = [pl.col(name).str.count_matches(r"[\[{]").fill_null(0) for name in self._strings()]
        deep: npt.NDArray[np.bool_] = (self.frame.select(pl.max_horizontal(printed)).to_series() >= _DEEP).to_numpy()
        return deep

    def _strings(self) -> list[str]:
        return [name for name, dtype in self.frame.schema.items() if dtype == pl.String]


@lru_cache(maxsize=64)
def _presence(present: tuple[str, ...], texts: tuple[str, ...]) -> list[pl.Expr]:
    """How often each field is null, then how many colons its texts hold."""
    nulls = [pl.col(name).null_count().alias(f"null {name}") for name in present]
    return [*nulls, *(_colons(name).sum().alias(f"colons {name}") for name in texts)]


def _colons(name: str) -> pl.Expr:
    return pl.col(name).str.count_matches(":", literal=True).fill_null(0)


def _shape(record: dict[str, Any]) -> _Shape:
    return tuple(record), tuple(map(type, record.values()))


def _shapes(text: bytes) -> set[_Shape] | None:
    """The shapes of all records of a message; None if it must be read exactly."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if isinstance(value, dict):
        return {_shape(value)}
    if not isinstance(value, list) or not value or not all(isinstance(record, dict) for record in value):
        return None
    return {_shape(record) for record in value}


def _raw_type(item: Field, seen: set[type]) -> pl.DataType:
    """Numbers and booleans as such where that loses nothing, else text (they are printed into it)."""
    dtype, allowed = item.kind.raw
    return dtype if seen <= allowed else pl.String()
