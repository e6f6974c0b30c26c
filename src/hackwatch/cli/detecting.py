"""What the detection commands share: records from files, progress, numbers as text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hackwatch.cli.context import CliContext

if TYPE_CHECKING:
    import polars as pl

    from hackwatch.detect.registry import Registry
    from hackwatch.streams.stream import Stream

__all__ = [
    "enricher_of",
    "note_unread_role",
    "number",
    "own_options",
    "progress",
    "read_records",
    "record_chunks",
    "registry",
    "role_option",
    "stream_option",
    "used_as",
]

stream_option = click.option(
    "--as", "stream_name", required=True, metavar="STREAM", help="What the records are: process, memory, ..."
)


def own_options(function: Callable[..., None]) -> Callable[..., None]:
    """Options of a command that reads a file: those of the stream's own that are on, as `own`."""

    @click.option("--option", "own", multiple=True, metavar="NAME", help="An option of the stream's own; repeatable.")
    @click.option(
        "--letterless-kib", is_flag=True, help="Sizes without a unit letter are KiB: --option letterless_kib."
    )
    @wraps(function)
    def merged(*arguments: Any, own: tuple[str, ...], letterless_kib: bool, **more: Any) -> None:
        function(*arguments, own=(*own, *(("letterless_kib",) if letterless_kib else ())), **more)

    return merged


class _Role(click.ParamType[str]):
    """A role, as the settings write it."""

    name = "role"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch("[a-z_]{1,32}", value):
            self.fail(f"{value!r} is not small letters and _", param, ctx)
        return value


role_option = click.option(
    "--role",
    type=_Role(),
    default="champion",
    show_default=True,
    metavar="ROLE",
    help="In which role: the champion decides, others (streams.NAME.detectors) score beside it.",
)


def used_as(role: str, version: str = "it", when: str = "now") -> str:
    """What engines do with a version that is promoted."""
    return f"engines use {version} {when}" if role == "champion" else f"engines use {version} as {role} {when}"


def note_unread_role(context: CliContext, stream: str, role: str) -> None:
    """Say so if no engine looks at the role, since the settings do not name it."""
    settings = context.settings().streams.get(stream)
    if role != "champion" and (settings is None or role not in settings.detectors):
        click.echo(f'note: engines look at {role} once [streams.{stream}] says detectors = ["{role}"]', err=True)


def registry(context: CliContext) -> Registry:
    """The registry that the settings name; the data folder is made if need be."""
    from hackwatch.config import prepare_data_folder
    from hackwatch.detect.registry import open_registry

    settings = context.settings()
    prepare_data_folder(settings.data)
    return open_registry(settings)


def enricher_of(stream: Stream) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """What fills the columns of the stream's decoded records that messages do not hold, with the settings' tables."""
    from hackwatch.runtime.enrichments import offline

    current = click.get_current_context(silent=True)
    context = (current.find_object(CliContext) if current else None) or CliContext()
    return offline(stream, context.settings().enrichment.tables)


def record_chunks(
    file: Path, stream: Stream, *, labels: bool, own: tuple[str, ...] = ()
) -> Iterator[tuple[pl.DataFrame, int]]:
    """Normalised records of a file of any format of the stream, or of a normalised Parquet file; how many rejected."""
    import polars as pl

    from hackwatch.errors import DataError
    from hackwatch.feeds.files import read_file
    from hackwatch.streams.options import with_own
    from hackwatch.streams.stream import DecodeOptions

    if file.suffix != ".parquet":
        options = with_own(stream, DecodeOptions(labels=labels), own)
        enrich = enricher_of(stream)
        for decoded in read_file(file, stream, options):
            yield enrich(decoded.records), decoded.rejected.height
        return
    try:
        scan = pl.scan_parquet(file)
        missing = [name for name in stream.schema if name not in scan.collect_schema()]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"not a readable Parquet file: {error}", where=str(file)) from error
    if missing:
        raise DataError(
            f"not normalised {stream.name} records: {', '.join(missing)} missing",
            where=str(file),
            next_step="make it with hackwatch normalise, or give the CSV or NDJSON",
        )
    empty = True
    for frame in scan.collect_batches(chunk_size=200_000):
        empty = False
        yield frame, 0
    if empty:
        yield scan.collect(), 0


def read_records(
    files: tuple[Path, ...], stream: Stream, *, labels: bool = True, own: tuple[str, ...] = ()
) -> tuple[pl.DataFrame, int]:
    """All records of the files as one frame, and how many were rejected."""
    import polars as pl

    frames: list[pl.DataFrame] = []
    rejected = 0
    with progress() as report:
        for number, file in enumerate(files):
            report(f"reading {file.name}", number, len(files))
            for frame, refused in record_chunks(file, stream, labels=labels, own=own):
                frames.append(frame)
                rejected += refused
    return pl.concat(frames, how="diagonal_relaxed"), rejected


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A function (what, steps done, steps in all) that draws bars on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what, done, steps: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, int] = {}

        def report(what: str, done: int, steps: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=steps)
            bars.update(tasks[what], completed=done, total=steps)  # type: ignore[arg-type]  # TaskID is an int

        yield report


def number(value: float | None, form: str = ".4f") -> str:
    """A measure as text; `-` where it is not defined."""
    return "-" if value is None or math.isnan(value) else format(value, form)
