"""What the lines of a file are, and how they become messages: as they are, but CSV lines as JSON objects."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from hackwatch import streams
from hackwatch.errors import DataError
from hackwatch.streams.formats import LineFormat, first_lines, recognised
from hackwatch.streams.stream import Stream

__all__ = ["CsvLines", "check_header", "check_names", "form_of"]


def form_of(stream: Stream, head: bytes, where: str) -> LineFormat:
    """The format of the stream that a file which begins so holds.

    Raises DataError, which says what the file seems to be, and what the stream reads.
    """
    found = recognised(stream.formats, head)
    if found is not None:
        return found
    read = ", ".join(one.name for one in stream.formats)
    first = next(iter(first_lines(head, 1)), "")[:80]
    raise DataError(
        f"this is no file of {stream.name}: it seems to hold {_elsewhere(head)}, and begins {first!r}; "
        f"{stream.name} reads {read}",
        where=where,
        next_step="give a file in one of these formats, or another stream",
    )


def _elsewhere(head: bytes) -> str:
    """What another stream would read in it."""
    known = [(name, recognised(streams.get(name).formats, head)) for name in streams.names()]
    found: dict[str, list[str]] = {}
    for name, one in known:
        if one is not None:
            found.setdefault(one.name, []).append(name)
    return " or ".join(f"{form} (of {', '.join(names)})" for form, names in found.items()) or "nothing known"


def check_header(stream: Stream, names: Sequence[str], where: str, filled: Collection[str] = ()) -> None:
    """Raise DataError if a CSV's header has a name twice, or lacks a field without which no row is a record.

    `filled`: fields that every row is given if it lacks them.
    """
    needed = [item.name for item in stream.fields if not item.optional and item.name not in filled]
    _complain(stream, names, where, [name for name in needed if name not in names])


def check_names(stream: Stream, names: Sequence[str], where: str) -> None:
    """Raise DataError if a CSV's header has a name twice, or none that the stream knows."""
    known = [item.name for item in stream.fields]
    _complain(stream, names, where, [] if set(known) & set(names) else known)


def _complain(stream: Stream, names: Sequence[str], where: str, missing: Sequence[str]) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled or missing:
        problem = f"columns occur twice: {', '.join(doubled)}" if doubled else f"no column {', '.join(missing)}"
        raise DataError(
            f"{problem} in the header", where=where, next_step=f"give a file of stream {stream.name}, with a header"
        )


@dataclass(frozen=True, slots=True)
class CsvLines:
    """Turns CSV lines into JSON objects by the header of their file; all values stay text, empty ones are null."""

    header: bytes

    @classmethod
    def of(cls, first_line: bytes) -> CsvLines:
        return cls(first_line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n"))

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        text = self.header.decode(errors="backslashreplace")
        return [cell.strip() for cell in next(csv.reader([text]), [])]

    def to_ndjson(self, payload: bytes) -> tuple[bytes, int]:
        """(JSON lines, number of lines that are no CSV of this header: they go as they are, to be rejected)."""
        converted = self._convert(payload)
        if converted is not None:
            return converted, 0
        bad, out = 0, []
        for line in payload.splitlines(keepends=True):
            one = self._convert(line)
            bad += one is None
            out.append(line if one is None else one)
        return b"".join(out), bad

    def _convert(self, payload: bytes) -> bytes | None:
        """All lines at once; None unless each line is one row (a stray quote would swallow those after it)."""
        lines = sum(1 for line in payload.split(b"\n") if line.strip())
        if not lines:
            return b""
        try:
            rows = pl.read_csv(self.header + b"\n" + payload, infer_schema=False, encoding="utf8-lossy")
        except pl.exceptions.PolarsError:
            return None
        rows = rows.filter(~pl.all_horizontal(pl.all().is_null())) if rows.height != lines else rows
        if rows.height != lines:
            return None
        return rows.rename({name: name.strip() for name in rows.columns}).write_ndjson().encode()
