"""Results of queries as CSV, JSON, NDJSON and Parquet, written as they are read. Values are not trusted."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import orjson
import pyarrow  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

from hackwatch.text import csv_cell, csv_line, printable, printable_json, spreadsheet_safe
from hackwatch.views.sql import BATCH_ROWS, Cursor

__all__ = ["FORMS", "batch_rows", "text_of", "write"]

FORMS = ("csv", "json", "ndjson", "parquet")
#: Rows of a group of a Parquet file.
_GROUP_ROWS = 65_536
_JSON = orjson.OPT_NON_STR_KEYS


def batch_rows(form: str) -> int:
    """How many rows a cursor should hand over at a time, to be written in that form."""
    return _GROUP_ROWS if form == "parquet" else BATCH_ROWS


def write(cursor: Cursor, form: str, file: IO[bytes], limit: int | None = None, *, terminal: bool = False) -> None:
    """Write a result, its first `limit` rows at most, in one of FORMS; for a terminal, with nothing that steers it."""
    parts = _first(cursor, limit)
    if form == "parquet":
        _write_parquet(parts, cursor.schema, file)
    elif form == "csv":
        _write_csv(parts, cursor.schema, file, printable if terminal else str)
    else:
        _write_json(parts, cursor.names, file, lines=form == "ndjson", terminal=terminal)


def text_of(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, list | dict):
        return orjson.dumps(value, default=str, option=_JSON).decode()
    return str(value)


def _first(cursor: Iterable[pyarrow.RecordBatch], limit: int | None) -> Iterator[pyarrow.RecordBatch]:
    left = limit
    for batch in cursor:
        yield batch if left is None else batch.slice(0, left)
        if left is not None and (left := left - batch.num_rows) <= 0:
            return


def _write_csv(
    parts: Iterator[pyarrow.RecordBatch], schema: pyarrow.Schema, file: IO[bytes], shown: Callable[[str], str]
) -> None:
    def cell(text: str) -> str:
        return csv_cell(shown(spreadsheet_safe(text)))

    file.write(_encoded(csv_line([cell(name) for name in schema.names])))
    for batch in parts:
        rows = zip(*(_cells(column, cell) for column in batch.columns), strict=True)
        file.write(_encoded("".join(map(csv_line, rows))))


def _cells(column: pyarrow.Array, cell: Callable[[str], str]) -> list[str]:
    """A column as cells: what is a number is no formula, whatever its sign."""
    kind, values = column.type, column.to_pylist()
    if any(is_one(kind) for is_one in _NUMBERS):
        return ["" if value is None else str(value) for value in values]
    return ["" if value is None else cell(text_of(value)) for value in values]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


_NUMBERS = (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_decimal)


def _write_json(
    parts: Iterator[pyarrow.RecordBatch], names: list[str], file: IO[bytes], *, lines: bool, terminal: bool
) -> None:
    before, between, after = (b"", b"\n", b"\n") if lines else (b"[\n", b",\n", b"\n]\n")
    file.write(before)
    first = True
    for batch in parts:
        columns = [column.to_pylist() for column in batch.columns]
        records = [
            orjson.dumps(dict(zip(names, row, strict=True)), default=str, option=_JSON)
            for row in zip(*columns, strict=True)
        ]
        if not records:
            continue
        text = between.join(records)
        file.write(b"" if first else between)
        file.write(printable_json(text.decode()).encode() if terminal else text)
        first = False
    file.write(b"" if first and lines else after)


def _write_parquet(parts: Iterator[pyarrow.RecordBatch], schema: pyarrow.Schema, file: IO[bytes]) -> None:
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in parts:
            writer.write_batch(batch)
