"""Who is told what the embedded engine does: the live status, drift, the detectors and the routes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch import metrics
from hackwatch.clock import Clock
from hackwatch.counts import Counts
from hackwatch.engine.parts import EngineView
from hackwatch.errors import HackwatchError
from hackwatch.pipeline.core import Output
from hackwatch.pipeline.detection import Scored
from hackwatch.runtime.detectors import Models
from hackwatch.runtime.drift import DriftWatch
from hackwatch.runtime.status import StatusBoard
from hackwatch.streams.stream import microseconds

__all__ = ["Observers"]

_LOG = logging.getLogger(__name__)
AGES_SAMPLED, AGES_SECONDS = 500, 0.2
OLDEST_SECONDS = 3600.0


class Observers:
    """An Observer that passes on what it is told to everyone whom it concerns."""

    def __init__(
        self,
        board: StatusBoard,
        drift: DriftWatch,
        models: Models,
        wake: Callable[[], None],
        clock: Clock,
        entities: Mapping[str, str],
        every_seconds: float,
    ) -> None:
        """`wake`: called when there are alerts to send. `entities`: the entity column of each stream.

        `every_seconds`: how often the status is published.
        """
        self._board, self._drift, self._models, self._wake, self._clock = board, drift, models, wake, clock
        self._entities, self._every = entities, every_seconds
        self._published = self._aged = float("-inf")
        self._missing: set[str] = set()

    def batch(self, output: Output, began: float, wall: float) -> None:
        board, scored = self._board, output.scored
        board.batch(began, output.alerts)
        for (stream, _, partition), counts in output.counts.items():
            board.took(stream, partition, counts)
        for run in scored:
            entities, suspects = map(run.records.get_column, (self._entities[run.stream], "prediction"))
            board.saw(run.stream, entities, suspects, wall)
        now = self._clock.monotonic()
        self._age(scored, now)
        self._drift.look(scored, self._models.current().champions, now)

    def wrote(self, table: str, seconds: float) -> None:
        metrics.set_lake_write(table, seconds)

    def committed(self, epoch: int, seconds: float) -> None:
        self._board.committed(epoch, seconds)
        self._models.committed(epoch)

    def paused(self, why: str | None) -> None:
        self._board.paused(why)

    def stored(self) -> None:
        self._wake()

    def turn(self, engine: EngineView) -> None:
        """Publish the status every so often."""
        if self._clock.monotonic() - self._published < self._every:
            return
        self._published = self._clock.monotonic()
        if self._board.recovering:
            self._board.recovered(engine.epoch - 1)
        self._publish(engine)

    def stopped(self, engine: EngineView) -> None:
        """The engine has ended; by the thread that ran it."""
        self._board.entered("stopped")
        self._publish(engine)

    def _publish(self, engine: EngineView) -> None:
        metrics.set_state_rows(engine.parts.pipeline.state_rows())
        with suppress(HackwatchError):  # a broker that is away: the engine itself says so, and waits
            self._fill(engine, engine.lag())
            self._board.publish()

    def _fill(self, engine: EngineView, lags: Mapping[tuple[str, int], int]) -> None:
        pipeline = engine.parts.pipeline
        totals = _by_stream(pipeline.totals)
        champions = engine.parts.models.current().champions
        for stream in self._entities:
            self._board.stands(stream, totals.get(stream, Counts()), champions[stream], pipeline.state(stream))
            mine = {partition: lag for (name, partition), lag in lags.items() if name == stream}
            self._board.lags(stream, mine, partitions=len(mine))
            if not mine and stream not in self._missing:
                _LOG.info("no topic yet of %s: it is read when it appears", stream)
                self._missing.add(stream)

    def _age(self, scored: Sequence[Scored], now: float) -> None:
        """Measure every now and then how old records are when they are through."""
        if now - self._aged >= AGES_SECONDS:
            self._aged = now
            for run in scored:
                metrics.add_latencies(run.stream, _ages(run.records, self._clock.wall()))


def _ages(records: pl.DataFrame, wall: float) -> npt.NDArray[np.float64]:
    """How long ago a sample of the records happened, seconds; replays of old data are left out."""
    sample = microseconds(records.get_column("event_time"))[:: 1 + len(records) // AGES_SAMPLED]
    ages = wall - sample / 1e6
    return np.maximum(ages[ages < OLDEST_SECONDS], 0.0)


def _by_stream(totals: Mapping[tuple[str, str, int], Counts]) -> dict[str, Counts]:
    streams: dict[str, Counts] = {}
    for (stream, _, _), counts in totals.items():
        streams.setdefault(stream, Counts()).add(counts)
    return streams
