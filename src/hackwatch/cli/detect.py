"""`hackwatch detect`: score a file of records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.cli.detecting import own_options, progress, record_chunks, registry, stream_option

if TYPE_CHECKING:
    import polars as pl

    from hackwatch.detect.bundle import Bundle

__all__ = ["command"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@stream_option
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help=".parquet, .csv or .ndjson"
)
@click.option("--model", "version", help="Version to score with. Default: the current one.")
@click.option("--drivers", is_flag=True, help="Add a column that says what drove each suspect's score.")
@click.option("--suspects", "only_suspects", is_flag=True, help="Write suspects only.")
@own_options
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@pass_context_object
def command(
    context: CliContext,
    file: Path,
    stream_name: str,
    out: Path,
    version: str | None,
    drivers: bool,
    only_suspects: bool,
    own: tuple[str, ...],
    as_json: bool,
) -> None:
    """Score a FILE of records (CSV, NDJSON or normalised Parquet) with a trained detector.

    Adds score (0..1) and prediction (1: suspect) to the normalised columns.

    \b
    Examples:
      hackwatch detect Linux_process_1.csv --as process -o scored.parquet
      hackwatch detect memory.ndjson --as memory -o suspects.csv --suspects --drivers
    """
    import os

    from hackwatch import streams

    stream = streams.get(stream_name)
    bundle = registry(context).load(stream.name, version, threads=os.cpu_count() or 1)
    chunks = record_chunks(file, stream, labels=True, own=own)
    rows, rejected, suspects = _write(out, bundle, chunks, drivers, only_suspects)
    if as_json:
        import json

        summary = {"records": rows, "suspects": suspects, "rejected": rejected, "model": bundle.version}
        click.echo(json.dumps({**summary, "out": str(out)}))
        return
    share = f" ({suspects / rows:.2%})" if rows else ""
    click.echo(f"{rows:,} records -> {out}: {suspects:,} suspects{share} by {bundle.version}")
    if rejected:
        click.echo(f"{rejected:,} rejected; hackwatch normalise says why", err=True)


def _write(
    out: Path, bundle: Bundle, chunks: Iterator[tuple[pl.DataFrame, int]], drivers: bool, only_suspects: bool
) -> tuple[int, int, int]:
    """Score all chunks of records into the file; how many records, rejected ones and suspects there were."""
    from itertools import chain

    from hackwatch.tables import TableFile

    rows = rejected = suspects = 0
    with progress() as report:
        scored = ((_scored(bundle, records, drivers), refused) for records, refused in chunks)
        first = next(scored)
        with TableFile(out, first[0].schema) as table:
            for found, refused in chain([first], scored):
                rows += found.height
                rejected += refused
                suspects += int(found["prediction"].sum())
                table.append(found.filter(prediction=1) if only_suspects else found)
                report(f"scored {rows:,} records", 0, 1)
    return rows, rejected, suspects


def _scored(bundle: Bundle, records: pl.DataFrame, with_drivers: bool) -> pl.DataFrame:
    import numpy as np
    import polars as pl

    score = bundle.score(records)
    prediction = score >= np.float32(bundle.threshold)
    found = records.with_columns(
        pl.Series("score", score), pl.Series("prediction", prediction.astype(np.int8), dtype=pl.Int8)
    )
    if not with_drivers:
        return found
    texts = np.full(records.height, None, dtype=object)
    for place, why in zip(np.flatnonzero(prediction), bundle.explain(records.filter(prediction)), strict=True):
        texts[place] = "; ".join(f"{driver.column} {driver.seen} (usual {driver.usual})" for driver in why)
    return found.with_columns(pl.Series("drivers", texts.tolist(), dtype=pl.String))
