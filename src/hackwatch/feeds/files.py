"""Files of records as decoded chunks: NDJSON, one JSON array, CSV with a header, or a stream's own lines; gzip allowed.

A CSV row becomes a message with the header's names, and a line a message as it is, so whatever the decoder knows holds
for files too. `offset` is the byte position of a line, and the number of a row (from 0, header not counted) or of an
array's element otherwise.
"""

from __future__ import annotations

import csv
import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, cast

import numpy as np
import orjson

from hackwatch.errors import DataError, ResourceError
from hackwatch.feeds.lines import check_header, form_of
from hackwatch.streams.formats import CSV, JSON
from hackwatch.streams.stream import Decoded, DecodeOptions, Messages, Stream

__all__ = ["Progress", "read_file"]

#: Called with (bytes of the file read, bytes in all).
Progress = Callable[[int, int], None]

_BOM = b"\xef\xbb\xbf"
_CHUNK = 4 << 20
_ROWS = 20_000
_MOST_ARRAY_BYTES = 512 << 20
_BEYOND = "(beyond the header)"


def read_file(
    path: Path, stream: Stream, options: DecodeOptions | None = None, on_progress: Progress | None = None
) -> Iterator[Decoded]:
    """Decode a file in chunks of some MiB; an empty one gives one empty chunk.

    Fields that a CSV's header lacks (as the ToN_IoT Train_Test files do) get the stream's `defaults`, if it has any.
    A line that is longer than `max_message_bytes` is rejected with its beginning.

    Raises DataError when the file's beginning is of no format of the stream, or the file is not what that says, and
    ResourceError when it cannot be read.
    """
    options = options or DecodeOptions()
    with _again(path) as place:
        with _reading(place) as (file, _, _):
            head = file.read(_CHUNK)
        with _reading(place) as (file, raw, size):
            if head.startswith(_BOM):
                file.read(len(_BOM))
            empty = True
            for messages in _chunks(file, path, stream, head.removeprefix(_BOM), options.max_message_bytes):
                empty = False
                yield stream.decode(messages, options)
                if on_progress is not None:
                    on_progress(raw.tell(), size)
            if empty:
                yield stream.decode(_messages(path, [], np.zeros(0, np.int64)), options)


def _chunks(file: IO[bytes], path: Path, stream: Stream, head: bytes, longest: int) -> Iterator[Messages]:
    """The messages of a file, as its beginning says."""
    found = form_of(stream, head, str(path)) if head.strip() else JSON
    if found is CSV:
        return _csv_chunks(file, path, stream, head)
    if found is JSON and _is_one_array(head, longest):
        return _array_chunks(file, path)
    return _line_chunks(file, path, longest)


@contextmanager
def _again(path: Path) -> Iterator[Path]:
    """The file, to be opened twice; a pipe, whose content can be read but once, as a copy for so long."""
    if not path.is_fifo():
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="hackwatch-") as copy:
        with path.open("rb") as pipe:
            shutil.copyfileobj(pipe, copy)
        copy.flush()
        yield Path(copy.name)


@contextmanager
def _reading(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes], int]]:
    """(decompressed content, the file itself, its size)."""
    try:
        with path.open("rb") as raw:
            size = path.stat().st_size
            if raw.peek(2)[:2] != b"\x1f\x8b":
                yield raw, raw, size
                return
            with gzip.open(raw) as content:
                yield cast(IO[bytes], content), raw, size
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"broken gzip file: {error}", where=str(path), next_step="fetch it again") from error
    except OSError as error:
        raise ResourceError(
            f"cannot be read: {error.strerror or error}", where=str(path), next_step="check its path and permissions"
        ) from error


def _is_one_array(head: bytes, longest: int) -> bool:
    """Whether a file is one JSON array over many lines, or in one line too long for a message, and not messages."""
    first = head.lstrip().partition(b"\n")[0].rstrip()
    return first.startswith(b"[") and (not first.endswith(b"]") or len(first) > longest)


def _messages(path: Path, lines: list[bytes], offsets: np.typing.NDArray[np.int64]) -> Messages:
    payload = b"".join(line + b"\n" for line in lines)
    return Messages(path.name, 0, payload, offsets, int(offsets[-1]) + 1 if len(offsets) else 0)


def _line_chunks(file: IO[bytes], path: Path, longest: int) -> Iterator[Messages]:
    position, rest = 0, b""
    while block := file.read(_CHUNK):
        whole, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            lines = whole.split(b"\n")
            yield _located(path, lines, position)
            position += len(whole) + 1
        if len(rest) > longest:
            beginning, skipped, rest = _skip_line(file, rest, longest)
            yield _located(path, [beginning], position)
            position += skipped
    if rest:
        yield _located(path, rest.removesuffix(b"\n").split(b"\n"), position)


def _located(path: Path, lines: list[bytes], position: int) -> Messages:
    lengths = np.array([0, *(len(line) + 1 for line in lines[:-1])], np.int64)
    return _messages(path, lines, position + np.cumsum(lengths))


def _skip_line(file: IO[bytes], rest: bytes, longest: int) -> tuple[bytes, int, bytes]:
    """(beginning of a line that is too long, bytes up to its end with the newline, what follows it)."""
    beginning, skipped = rest[: longest + 1], len(rest)
    while block := file.read(_CHUNK):
        before, newline, after = block.partition(b"\n")
        skipped += len(before) + len(newline)
        if newline:
            return beginning, skipped, after
    return beginning, skipped, b""


def _array_chunks(file: IO[bytes], path: Path) -> Iterator[Messages]:
    text = file.read(_MOST_ARRAY_BYTES + 1)
    if len(text) > _MOST_ARRAY_BYTES:
        raise DataError(
            "one JSON array of more than 512 MiB", where=str(path), next_step="write one record a line (NDJSON)"
        )
    try:
        records = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataError(
            f"begins as a JSON array but is none: {error}", where=str(path), next_step="repair it, or write NDJSON"
        ) from error
    del text
    for start in range(0, len(records), _ROWS):
        lines = [orjson.dumps(record) for record in records[start : start + _ROWS]]
        yield _messages(path, lines, np.arange(start, start + len(lines)))


def _csv_chunks(file: IO[bytes], path: Path, stream: Stream, head: bytes) -> Iterator[Messages]:
    text = io.TextIOWrapper(cast(io.BufferedReader, file), encoding="utf-8", errors="backslashreplace", newline="")
    rows = csv.reader(text, delimiter=_delimiter(head))
    try:
        header = _header(next(rows), path, stream)
        name, number = path.name.partition(".")[0], 0
        defaults = [(field, of) for field, of in stream.defaults.items() if field not in header]
        while block := list(islice((row for row in rows if row), _ROWS)):
            lines = [
                _line(header, row, {field: of(name, number + place) for field, of in defaults})
                for place, row in enumerate(block)
            ]
            yield _messages(path, lines, np.arange(number, number + len(block)))
            number += len(block)
    except csv.Error as error:
        raise DataError(
            f"not readable as CSV: {error}", where=f"{path}:{rows.line_num}", next_step="look for a quote left open"
        ) from error
    finally:
        text.detach()


def _delimiter(head: bytes) -> str:
    first = head.partition(b"\n")[0]
    return max(",;\t", key=lambda character: first.count(character.encode()))


def _header(cells: list[str], path: Path, stream: Stream) -> list[str]:
    names = [cell.strip() for cell in cells]
    check_header(stream, names, f"{path}:1", stream.defaults)
    return names


def _line(header: list[str], row: list[str], defaults: dict[str, object]) -> bytes:
    """A row as a JSON object; empty cells are absent, spaces around a value are layout."""
    values = defaults
    values |= {name: cell.strip() for name, cell in zip(header, row, strict=False) if cell.strip()}
    if len(row) > len(header):
        values[_BEYOND] = len(row) - len(header)
    return orjson.dumps(values)
