"""How a line is read that is not one of JSON, and how a file's beginning tells what its lines are.

A message is JSON unless it cannot be: then it is a bare line, tried against the stream's line formats in order. Files
may also be CSV with a header, which their readers turn into JSON by that header.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

__all__ = ["CSV", "JSON", "LineFormat", "first_lines", "matching", "recognised"]

_BOM = b"\xef\xbb\xbf"
_NAME = re.compile(r"[A-Za-z_][\w .%/()#-]*")
#: A log may begin with lines of strangers, so one line of the first few is enough to know it.
_TRIED = 20
_HEAD = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class LineFormat:
    """One way in which lines hold records.

    `recognises(head)`: whether a file that begins so holds such lines. `columns(lines)`: of a column of lines (String,
    without their newlines) the raw texts of fields (String, null if absent; one row a line), and which lines are of
    this format (Boolean). None for JSON and CSV, which are no formats of single lines.
    """

    name: str
    recognises: Callable[[bytes], bool]
    columns: Callable[[pl.Series], tuple[pl.DataFrame, pl.Series]] | None = None


def first_lines(head: bytes, most: int = _TRIED) -> list[str]:
    """The first lines of a file that are not blank; a last one that may be cut counts only if there is no other."""
    lines = head[:_HEAD].removeprefix(_BOM).split(b"\n")
    whole = [line for line in (lines[:-1] or lines) if line.strip()]
    return [line.decode(errors="backslashreplace").rstrip("\r") for line in whole[:most]]


def matching(name: str, pattern: str) -> LineFormat:
    """The format of lines that match a pattern as a whole, without a carriage return at the end.

    Its named groups are the raw texts of fields.

    `pattern` is a regular expression of Rust's `regex`, which takes linear time whatever the line. Its groups are not
    called `line`.
    """
    whole = rf"^(?P<line>{pattern})$"

    def columns(lines: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
        groups = lines.str.strip_suffix("\r").str.extract_groups(whole).struct.unnest()
        return groups.drop("line"), groups["line"].is_not_null()

    def recognises(head: bytes) -> bool:
        return bool(columns(pl.Series(first_lines(head), dtype=pl.String))[1].any())

    return LineFormat(name, recognises, columns)


def recognised(formats: Sequence[LineFormat], head: bytes) -> LineFormat | None:
    """The first of these formats that recognises the beginning of a file."""
    return next((one for one in formats if one.recognises(head)), None)


def _is_json(head: bytes) -> bool:
    first = head.removeprefix(_BOM).lstrip()
    if first[:1] == b"[":  # of an array's elements; logs begin with a bracket, too
        return first[1:].lstrip()[:1] in (b"{", b"]", b"")
    return first[:1] == b"{"


def _is_csv(head: bytes) -> bool:
    """Whether the first line is a header: names between commas, semicolons or tabs."""
    first = next(iter(first_lines(head, 1)), "")
    for delimiter in ",;\t":
        try:
            cells = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
        except csv.Error:
            continue
        if len(cells) > 1 and all(_NAME.fullmatch(cell) for cell in cells[1:]) and _NAME.fullmatch(cells[0] or "_"):
            return True
    return False


#: Objects, or arrays of objects.
JSON = LineFormat("json", _is_json)
#: A header, then a row a record; in files only.
CSV = LineFormat("csv", _is_csv)
