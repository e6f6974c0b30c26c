"""The pipeline's core as these tests drive it: the one place that knows how it is made and what its rows look like."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from hackwatch.pipeline.core import Batch, Now, Output, Pipeline
from hackwatch.pipeline.detection import Scored
from hackwatch.pipeline.options import AlertOptions, CorrelationOptions, StreamOptions
from hackwatch.streams.declarations import Correlation
from tests.third.days import START, Made
from tests.third.oracle import Position

__all__ = ["WINDOW", "core", "pair_rows", "run", "table_of", "window_rows"]

WINDOW = 120


def core(one: Made) -> Pipeline:
    """A pipeline over all that is declared for a made day."""
    options = StreamOptions(lateness_seconds=20.0, window_seconds=WINDOW)
    [correlation] = one.correlations
    return Pipeline(
        {name: (stream, options) for name, stream in one.streams.items()},
        CorrelationOptions(correlation.left, correlation.right, correlation.keys, correlation.seconds),
        AlertOptions(),
    )


def table_of(correlation: Correlation) -> str:
    """The lake's table of its pairs."""
    return "attacks"


def run(target: Pipeline, batches: Iterable[list[Scored]], one: Made) -> list[Output]:
    """Step through batches, a millisecond of engine time apart: nothing becomes idle."""
    return [
        target.step(Batch(batch, one.places), Now(wall=START + 1e6, elapsed=number * 1e-3))
        for number, batch in enumerate(batches)
    ]


def frames(outputs: Iterable[Output], table: str) -> pl.DataFrame:
    """All rows of a table."""
    found = [frame for output in outputs for frame in output.rows.get(table, [])]
    return pl.concat(found) if found else pl.DataFrame()


def window_rows(targets: Iterable[Pipeline]) -> dict[tuple[str, str, int], tuple[int, int, int]]:
    """(stream, entity, start) -> (records, suspects, distinct suspects), as last told."""
    found = {}
    for target in targets:
        for stream, entity, start, _, records, suspects, count, _ in target.take_windows():
            found[stream, entity, start] = records, suspects, count
    return found


def pair_rows(outputs: Iterable[Output], correlation: Correlation) -> list[tuple[Position, Position]]:
    """The positions of both sides of each pair, sorted."""
    rows = frames(outputs, table_of(correlation))
    sides = [[f"{side}_{name}" for name in ("partition", "offset")] for side in (correlation.left, correlation.right)]
    if rows.is_empty():
        return []
    return sorted(zip(*(rows.select(side).rows() for side in sides), strict=True))
