"""Lines of a followed file as messages: JSON lines as they are, CSV lines as JSON objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

__all__ = ["CsvLines", "LineForm", "detect_form"]

LineForm = Literal["ndjson", "csv"]


def detect_form(head: bytes) -> LineForm:
    """What a file that starts so holds: JSON lines, or CSV with a header."""
    return "ndjson" if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[") else "csv"


@dataclass(frozen=True, slots=True)
class CsvLines:
    """Turns CSV lines into JSON objects by the header of their file; all values stay text, empty ones are null."""

    header: bytes

    @classmethod
    def of(cls, first_line: bytes) -> CsvLines:
        return cls(first_line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n"))

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
