"""The pipeline's core as these tests drive it: the one place that knows how it is made and what its rows look like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from hackwatch.alerts.policy import AlertPolicy
from hackwatch.config import AlertSettings, StreamSettings
from hackwatch.pipeline.core import Batch, Now, Output, Pipeline
from hackwatch.pipeline.options import StreamOptions
from hackwatch.streams.declarations import Correlation
from tests.third.days import START, Made
from tests.third.oracle import Position

__all__ = ["WINDOW", "Told", "core", "frames", "joined", "pair_rows", "run", "told"]

WINDOW = 120


def core(one: Made) -> Pipeline:
    """A pipeline over all that is declared for a made day."""

    def options(name: str) -> StreamOptions:
        declared = tuple(aggregate for aggregate in one.aggregates if aggregate.stream == name)
        # Clocks of sources that are still unread may differ from those already read by minutes.
        settings = StreamSettings(lateness_seconds=20.0, window_seconds=WINDOW)
        return StreamOptions(settings, hold_seconds=1e6, aggregates=declared)

    return Pipeline(
        {name: (stream, options(name)) for name, stream in one.streams.items()},
        one.correlations,
        AlertPolicy(AlertSettings()),
    )


def run(target: Pipeline, batches: Iterable[Batch]) -> list[Output]:
    """Step through batches, a millisecond of engine time apart: nothing becomes idle."""
    return [target.step(batch, Now(wall=START + 1e6, elapsed=number * 0.3)) for number, batch in enumerate(batches)]


def frames(outputs: Iterable[Output], table: str) -> pl.DataFrame:
    """All rows of a table."""
    found = [frame for output in outputs for frame in output.rows.get(table, [])]
    return pl.concat(found) if found else pl.DataFrame()


#: (stream, aggregate) -> (*keys, source, start in Unix seconds) -> the value of each measure.
Told = dict[tuple[str, str], dict[tuple[Any, ...], dict[str, Any]]]


def told(target: Pipeline) -> Told:
    """All intervals of all aggregates that have changed since they were asked for."""
    found: Told = {}
    for changed in target.take_aggregates():
        aggregate = changed.aggregate
        intervals = found.setdefault((aggregate.stream, aggregate.name), {})
        for row in changed.rows.iter_rows():
            width = len(aggregate.keys)
            values = zip((measure.name for measure in aggregate.measures), row[width + 3 : -1], strict=True)
            intervals[row[: width + 2]] = dict(values)
    return found


def joined(first: Told, second: Told) -> Told:
    """What was told first, and what was told later of the same intervals in its place."""
    return {name: first.get(name, {}) | second.get(name, {}) for name in first.keys() | second.keys()}


def pair_rows(outputs: Iterable[Output], correlation: Correlation) -> list[tuple[Position, Position]]:
    """The positions of both sides of each pair, sorted."""
    rows = frames(outputs, correlation.name)
    sides = [[f"{side}_{name}" for name in ("partition", "offset")] for side in (correlation.left, correlation.right)]
    if rows.is_empty():
        return []
    return sorted(zip(*(rows.select(side).rows() for side in sides), strict=True))
