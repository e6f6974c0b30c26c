"""Results of queries as tables, CSV, JSON and Parquet. Values come from outside and are not trusted."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]  # it ships no types

__all__ = ["spreadsheet_safe", "write"]

# A spreadsheet takes text that begins like this for a formula and runs it (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def write(
    reader: pyarrow.RecordBatchReader,
    form: str,
    output: Path | None,
    limit: int | None,
    explained: AbstractContextManager[None],
) -> None:
    """Write a result to a file (whole or not at all) or to standard output."""
    with explained, _destination(output) as file:
        all_rows = _rows(reader)
        rows = islice(all_rows, limit)
        names: list[str] = reader.schema.names
        if form == "parquet":
            _write_parquet(reader, file, limit)
        elif form == "table":
            _write_table(rows, names, file)
            if next(all_rows, None) is not None:
                print(f"... first {limit} rows; --limit 0 for all", file=sys.stderr)
        elif form == "csv":
            _write_csv(rows, names, file)
        else:
            _write_json(rows, names, file, lines=form == "ndjson")


def spreadsheet_safe(text: str) -> str:
    """Text that no spreadsheet takes for a formula: an apostrophe before what looks like one."""
    return f"'{text}" if text.startswith(_FORMULA) else text


@contextmanager
def _destination(output: Path | None) -> Iterator[IO[bytes]]:
    """A binary file; one on disk appears under its name (or what that links to) only when it is whole."""
    from hackwatch.errors import ResourceError

    if output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        if output.exists() and not output.is_file():
            with output.open("wb") as file:
                yield file  # a device or a pipe, which a file must not take the place of
            return
        with _draft(output.resolve()) as file:
            yield file
    except OSError as error:
        raise ResourceError(
            f"the result cannot be written: {error.strerror}", where=str(output), next_step="choose another -o FILE"
        ) from error


@contextmanager
def _draft(output: Path) -> Iterator[IO[bytes]]:
    draft = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)


def _rows(reader: pyarrow.RecordBatchReader) -> Iterator[tuple[Any, ...]]:
    for batch in reader:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _write_table(rows: Iterator[tuple[Any, ...]], names: list[str], file: IO[bytes]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    first = list(islice(rows, 1))
    for index, name in enumerate(names):
        numeric = bool(first) and isinstance(first[0][index], int | float) and not isinstance(first[0][index], bool)
        table.add_column(Text(_visible(name)), justify="right" if numeric else "left", overflow="fold")
    for row in (*first, *rows):
        table.add_row(*(Text(_visible(value)) for value in row))
    terminal = _to_terminal(file)
    text = io.StringIO()
    # Lines cut to a width that nobody has would lose values for a program that reads them.
    Console(file=text, width=None if terminal else 10_000, force_terminal=terminal).print(table)
    file.write("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines() if line.strip()).encode())


def _write_csv(rows: Iterator[tuple[Any, ...]], names: list[str], file: IO[bytes]) -> None:
    from hackwatch.text import printable

    text = io.StringIO()
    shown = printable if _to_terminal(file) else str
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([spreadsheet_safe(name) for name in names])
    for number, row in enumerate(rows):
        writer.writerow([shown(_cell(value)) for value in row])
        if number % 1000 == 0:
            file.write(text.getvalue().encode("utf-8", "backslashreplace"))
            text.seek(0)
            text.truncate()
    file.write(text.getvalue().encode("utf-8", "backslashreplace"))


def _write_json(rows: Iterator[tuple[Any, ...]], names: list[str], file: IO[bytes], *, lines: bool) -> None:
    import orjson

    before, between, after = (b"", b"\n", b"\n") if lines else (b"[\n", b",\n", b"\n]\n")
    file.write(before)
    count = 0
    for count, row in enumerate(rows, 1):
        record = orjson.dumps(dict(zip(names, row, strict=True)), default=str, option=orjson.OPT_NON_STR_KEYS)
        file.write(record if count == 1 else between + record)
    file.write(after if count or not lines else b"")


def _write_parquet(reader: pyarrow.RecordBatchReader, file: IO[bytes], limit: int | None) -> None:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types

    with pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
        left = limit
        for batch in reader:
            part = batch if left is None else batch.slice(0, left)
            writer.write_batch(part)
            if left is not None:
                left -= part.num_rows
                if left <= 0:
                    break


def _to_terminal(file: IO[bytes]) -> bool:
    return file is sys.stdout.buffer and sys.stdout.isatty()


def _visible(value: Any) -> str:
    from hackwatch.text import printable

    return printable(_text(value))


def _cell(value: Any) -> str:
    # A negative number is no formula; text that looks like one may be.
    return _text(value) if isinstance(value, int | float) else spreadsheet_safe(_text(value))


def _text(value: Any) -> str:
    import datetime

    import orjson

    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, list | dict):
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return str(value)
