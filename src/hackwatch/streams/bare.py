"""Messages that are not records in JSON: bare lines, and lines that a feed put into envelopes.

A bare line is tried against the stream's line formats in order. An envelope, `{"source": ..., "position": ...,
"format": ..., "line": ...}`, names the format of its line (`json` for JSON); its `source` and `position` become the
values of the fields of these names, whatever the line itself says. Both yield raw texts, whose values are parsed like
those of all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from hackwatch.streams.exact import ENVELOPE, PARTS
from hackwatch.streams.fields import Field
from hackwatch.streams.formats import JSON, LineFormat
from hackwatch.streams.found import Found, RawRecords
from hackwatch.streams.payload import Lines, Positions
from hackwatch.streams.structure import Structure

__all__ = ["Mixed"]

_OUTER = ("source", "position")
_PEEKED = 4


class Mixed:
    """Reads messages that may be JSON, bare lines or envelopes into `found`; as `Structure`, with formats to try."""

    def __init__(
        self,
        fields: Sequence[Field],
        ignored: frozenset[str],
        found: Found,
        formats: Sequence[LineFormat],
        named: Sequence[LineFormat],
        lines: Lines,
    ) -> None:
        """`formats`: those of bare lines, in order. `named`: those that an envelope may name."""
        self._fields, self._ignored, self._found = fields, ignored, found
        self._formats, self._named, self._lines = formats, named, lines
        self._raw_columns: list[tuple[pl.DataFrame, Positions]] = []

    def read(self) -> None:
        """Read all messages; never raises, whatever they hold."""
        lines = self._lines
        bare = _surely_bare(lines)
        self._try(np.flatnonzero(bare), [])
        wrapped, rest = self._enveloped(lines.take(np.flatnonzero(~bare)))
        structure = Structure(self._fields, self._ignored, self._found, envelopes=True)
        structure.read(rest)
        self._try_rejected()
        one_by_one = [(one.number, *one.texts) for one in structure.wrapped]
        schema = {"number": pl.Int64(), **dict.fromkeys(PARTS, pl.String())}
        wrapped += [pl.DataFrame(one_by_one, schema=schema, orient="row")] if one_by_one else []
        if wrapped:
            self._unwrap(pl.concat(wrapped).sort("number"))
        self._gather()

    # --- bare lines

    def _try(self, positions: Positions, reasons: Sequence[str]) -> None:
        """Try messages against the formats; `reasons`: why each is not JSON, if that is worth saying."""
        left = np.arange(len(positions))
        texts = pl.Series([self._text(position) for position in positions.tolist()], dtype=pl.String)
        for one in self._formats:
            if not len(left):
                return
            matched = self._matching(one, texts.gather(left), self._lines.number[positions[left]])
            left = left[~matched]
        names = ", ".join(one.name for one in self._formats)
        for place in left.tolist():
            why = f"{reasons[place]}; " if reasons else ""
            self._reject(int(positions[place]), f"{why}line is of none of the formats {names}")

    def _try_rejected(self) -> None:
        """Try what turned out not to be JSON, although it began so."""
        rejections = self._found.rejections
        tried = [one for one in rejections if not one.is_json]
        if tried:
            rejections[:] = [one for one in rejections if one.is_json]
            self._try(self._positions([one.number for one in tried]), [one.reason for one in tried])

    def _matching(
        self, one: LineFormat, texts: pl.Series, numbers: Positions, outer: pl.DataFrame | None = None
    ) -> npt.NDArray[np.bool_]:
        """Keep the raw texts of the lines of a format; which lines these are."""
        assert one.columns is not None  # `formats` and `named` hold none but these
        columns, matched = one.columns(texts)
        names = [item.name for item in self._fields]
        columns = columns.select(name for name in columns.columns if name in names)
        if outer is not None:
            columns = columns.with_columns(outer[name] for name in _OUTER if name in names)
        absent = [pl.lit(None, pl.String).alias(name) for name in names if name not in columns.columns]
        raw = columns.with_columns(absent).select(names) if columns.width else texts.to_frame().select(absent)
        if matched.any():
            self._raw_columns.append((raw.filter(matched), numbers[matched.to_numpy()]))
        return matched.to_numpy()

    def _gather(self) -> None:
        """All lines of any format, as one frame."""
        if self._raw_columns:
            raw = pl.concat([frame for frame, _ in self._raw_columns])
            numbers = np.concatenate([numbers for _, numbers in self._raw_columns])
            whole = RawRecords(raw, numbers, np.zeros(len(numbers), np.int64), lambda row: self._raw(int(numbers[row])))
            self._found.records.append(whole)

    # --- envelopes

    def _enveloped(self, lines: Lines) -> tuple[list[pl.DataFrame], Lines]:
        """The envelopes among some messages, if it seems that there are many, and all other messages."""
        if not any(self._is_envelope(lines.text(position)) for position in range(min(_PEEKED, len(lines)))):
            return [], lines
        quick = Found()
        Structure(ENVELOPE, frozenset(), quick).read(lines)
        others = {one.number for one in quick.rejections} | set(quick.unknown.numbers.tolist())
        first = np.frombuffer(lines.payload, np.uint8)[lines.start]
        others.update(lines.number[first != ord("{")].tolist())
        found = []
        for rows in quick.records:
            frame = rows.raw.with_columns(pl.Series("number", rows.number))
            null = frame.filter(pl.any_horizontal(pl.col(*PARTS).is_null()))
            others.update(null["number"].to_list())
            found.append(frame.select("number", *PARTS))
        other = pl.Series(sorted(others), dtype=pl.Int64)
        left = np.flatnonzero(np.isin(lines.number, other.to_numpy()))
        return [frame.filter(~pl.col("number").is_in(other.implode())) for frame in found], lines.take(left)

    def _is_envelope(self, text: bytes) -> bool:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return False
        return isinstance(value, dict) and value.keys() == set(PARTS)

    def _unwrap(self, wrapped: pl.DataFrame) -> None:
        """Read the lines of envelopes (number and PARTS), each as its format says."""
        formats = {one.name: one for one in self._named}
        for (name,), part in wrapped.partition_by("format", as_dict=True, maintain_order=True).items():
            if name == JSON.name:
                self._unwrap_json(part)
            elif name in formats:
                numbers = part["number"].to_numpy()
                matched = self._matching(formats[name], part["line"], numbers, part)
                self._refuse(numbers[~matched], f"line: not of the format {name}")
            else:
                known = ", ".join([JSON.name, *formats])
                self._refuse(part["number"].to_numpy(), f"format: there is no format {str(name)[:64]!r}; use {known}")

    def _unwrap_json(self, part: pl.DataFrame) -> None:
        """JSON in envelopes: what it lacks of the outer fields is no fault of it."""
        # A newline within a JSON text stands between tokens, where a blank is as good.
        texts = [text.encode().replace(b"\n", b" ") for text in part["line"].to_list()]
        payload = b"".join(text + b"\n" for text in texts)
        inner = Lines.of(payload)
        numbers = part["number"].to_numpy()
        fields = [replace(item, optional=True) if item.name in _OUTER else item for item in self._fields]
        read = Found(unknown=self._found.unknown)
        Structure(fields, self._ignored, read).read(Lines(payload, numbers, inner.start, inner.end))
        self._found.rejections.extend(replace(one, raw=self._raw(one.number)) for one in read.rejections)
        self._found.records.extend(self._filled(rows, part) for rows in read.records)

    def _filled(self, rows: RawRecords, part: pl.DataFrame) -> RawRecords:
        """Rows of JSON lines with the fields that their envelopes have."""
        place = np.searchsorted(part["number"].to_numpy(), rows.number)
        outer = [part[name].gather(place) for name in _OUTER if name in rows.raw.columns]
        numbers = rows.number
        return RawRecords(rows.raw.with_columns(outer), numbers, rows.index, lambda row: self._raw(int(numbers[row])))

    # --- messages as they came

    def _positions(self, numbers: Sequence[int] | Positions) -> Positions:
        return np.searchsorted(self._lines.number, np.asarray(numbers, np.int64))

    def _raw(self, number: int) -> bytes:
        return self._lines.text(int(np.searchsorted(self._lines.number, number)))

    def _text(self, position: int) -> str:
        return self._lines.text(position).decode(errors="backslashreplace")

    def _refuse(self, numbers: Positions, reason: str) -> None:
        for position in self._positions(numbers).tolist():
            self._reject(position, reason)

    def _reject(self, position: int, reason: str) -> None:
        raw = self._lines.text(position)
        self._found.reject(int(self._lines.number[position]), None, reason, raw)


def _surely_bare(lines: Lines) -> npt.NDArray[np.bool_]:
    """Messages of which the first character says that they are neither objects nor arrays, nor blank."""
    if not len(lines):
        return np.zeros(0, np.bool_)
    first = np.frombuffer(lines.payload, np.uint8)[lines.start]
    bare: npt.NDArray[np.bool_] = ~np.isin(first, np.frombuffer(b"{[ \t\r\n", np.uint8))
    return bare
