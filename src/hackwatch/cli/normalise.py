"""`hackwatch normalise`: decode and normalise a file, nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hackwatch.cli.detecting import enricher_of, own_options

if TYPE_CHECKING:
    from hackwatch.feeds.files import Progress

__all__ = ["command"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--as", "stream_name", required=True, metavar="STREAM", help="What the file holds: process, memory, ...")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help=".parquet, .csv or .ndjson"
)
@own_options
@click.option("--labels", is_flag=True, help="Keep the truth columns label and type.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(file: Path, stream_name: str, out: Path, own: tuple[str, ...], labels: bool, as_json: bool) -> None:
    """Decode and normalise a FILE of records: what a data scientist starts from.

    FILE is NDJSON, a JSON array, CSV with a header, or lines of a format that the stream has, gzipped or not; a file
    of anything else is refused. Sizes become bytes, percentages fractions. Rejected records go beside OUT, with the
    reason of each, to OUT's stem + .rejected.ndjson.

    \b
    Examples:
      hackwatch normalise Linux_process_1.csv --as process -o process.parquet --labels
      hackwatch normalise memory.ndjson.gz --as memory -o memory.csv --letterless-kib
    """
    from dataclasses import replace
    from itertools import chain

    from hackwatch import streams
    from hackwatch.feeds.files import read_file
    from hackwatch.streams.options import with_own
    from hackwatch.streams.stream import REJECTED_SCHEMA, DecodeOptions
    from hackwatch.tables import TableFile

    stream = streams.get(stream_name)
    options = with_own(stream, DecodeOptions(labels=labels), own)
    beside = out.with_name(f"{out.stem}.rejected.ndjson")
    records = rejected = 0
    unknown: Counter[str] = Counter()
    with _progress(file) as progress:
        chunks = read_file(file, stream, options, progress)
        enrich = enricher_of(stream)
        chunks = (replace(decoded, records=enrich(decoded.records)) for decoded in chunks)
        first = next(chunks)
        with TableFile(out, first.records.schema) as table, TableFile(beside, REJECTED_SCHEMA) as refused:
            for decoded in chain([first], chunks):
                table.append(decoded.records)
                refused.append(decoded.rejected)
                records += decoded.records.height
                rejected += decoded.rejected.height
                unknown.update(decoded.unknown_fields)
    if not rejected:
        beside.unlink()
    _say(out, records, beside if rejected else None, rejected, unknown, as_json)


def _say(out: Path, records: int, beside: Path | None, rejected: int, unknown: Counter[str], as_json: bool) -> None:
    """`beside`: where the rejected records are, if there are any."""
    import json

    from hackwatch.text import printable

    if as_json:
        summary = {"records": records, "rejected": rejected, "unknown_fields": dict(unknown), "out": str(out)}
        click.echo(json.dumps(summary | {"rejected_out": str(beside) if beside else None}))
        return
    click.echo(f"{records:,} records -> {out}" + (f"; {rejected:,} rejected -> {beside}" if beside else ""))
    if unknown:
        names = ", ".join(f"{printable(name)} ({times:,})" for name, times in unknown.most_common(8))
        click.echo(f"unknown fields, left out: {names}", err=True)


@contextmanager
def _progress(file: Path) -> Iterator[Progress | None]:
    """A bar on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task(file.name)
        yield lambda done, total: bar.update(task, completed=done, total=total)
