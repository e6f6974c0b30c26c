"""Results of queries on a terminal, as tables, and in files. Values come from outside and are not trusted."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hackwatch.views.sql import Cursor

__all__ = ["write"]


def write(cursor: Cursor, form: str, output: Path | None, limit: int | None) -> None:
    """Write a result to a file (whole or not at all) or to standard output: as a table, or in one of the forms."""
    from hackwatch.views import forms

    with _destination(output) as file:
        if form != "table":
            forms.write(cursor, form, file, limit, terminal=_to_terminal(file))
            return
        rows = cursor.rows()
        _write_table(islice(rows, limit), cursor.names, file)
        if next(rows, None) is not None:
            print(f"... first {limit} rows; --limit 0 for all", file=sys.stderr)


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


def _to_terminal(file: IO[bytes]) -> bool:
    return file is sys.stdout.buffer and sys.stdout.isatty()


def _visible(value: Any) -> str:
    from hackwatch.text import printable
    from hackwatch.views.forms import text_of

    return printable(text_of(value))
