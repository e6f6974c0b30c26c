"""What an engine says of itself while it works: the live status in the store, and the metrics."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch import metrics
from hackwatch.clock import Clock
from hackwatch.detect.base import Detector
from hackwatch.errors import HackwatchError
from hackwatch.pipeline.arrivals import SMALL_ROWS
from hackwatch.pipeline.core import Output
from hackwatch.pipeline.detection import Scored
from hackwatch.pipeline.judged import Counts
from hackwatch.streams.base import microseconds

if TYPE_CHECKING:
    from hackwatch.engine.loop import Engine

__all__ = ["Arrivals", "StatusBoard", "latency_status", "stream_status"]

_LOG = logging.getLogger(__name__)

BUCKET_SECONDS, BUCKETS = 2, 60
ENTITIES_KEPT = 200
LATENCIES_KEPT = 2000
AGES_SAMPLED, AGES_SECONDS = 500, 0.2
MOST_WAITING = 50_000
OLDEST_SECONDS = 3600.0


class Arrivals:
    """Records and suspects per entity in buckets of 2 s of processing time, over the last 2 minutes."""

    def __init__(self) -> None:
        self._rings: dict[str, np.ndarray[tuple[int, int], np.dtype[np.int64]]] = {}
        self._newest = 0
        self._waiting: list[pl.DataFrame] = []
        self._rows_waiting = 0

    def add(self, entities: pl.Series, suspects: pl.Series, wall: float) -> None:
        """Who each record is about, and 1 where it is a suspect. Of large batches many are counted at a time."""
        if int(wall // BUCKET_SECONDS) != self._newest:
            self._count()
            self._roll(wall)
        if len(entities) <= SMALL_ROWS:
            self._put(_per_entity_of_few(entities, suspects))
            return
        self._waiting.append(pl.DataFrame([entities.alias("entity"), suspects.alias("prediction")]))
        self._rows_waiting += len(entities)
        if self._rows_waiting > MOST_WAITING:
            self._count()

    def _count(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting, self._rows_waiting = pl.concat(self._waiting), [], 0
        self._put(_per_entity(waiting))

    def add_counts(self, counts: Mapping[str, tuple[int, int]], wall: float) -> None:
        """The same for what is counted already: entity -> records, suspects."""
        self._count()
        self._roll(wall)
        self._put(counts)

    def _put(self, counts: Mapping[str, tuple[int, int]]) -> None:
        for entity, (records, suspects) in counts.items():
            ring = self._rings.get(entity)
            if ring is None:
                if len(self._rings) >= ENTITIES_KEPT:
                    continue
                ring = self._rings[entity] = np.zeros((2, BUCKETS), dtype=np.int64)
            ring[:, self._newest % BUCKETS] += (records, suspects)

    def _roll(self, wall: float) -> None:
        """Empty the buckets that time has passed; an entity silent for two minutes is forgotten."""
        bucket = int(wall // BUCKET_SECONDS)
        passed = min(bucket - self._newest, BUCKETS)
        if passed <= 0:
            return
        stale = [(bucket - back) % BUCKETS for back in range(passed)]
        for entity, ring in list(self._rings.items()):
            ring[:, stale] = 0
            if not ring.any():
                del self._rings[entity]
        self._newest = bucket

    def shown(self, wall: float) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """(records, suspects): entity -> 60 buckets, oldest first."""
        self._count()
        self._roll(wall)
        order = [(self._newest + 1 + i) % BUCKETS for i in range(BUCKETS)]
        rows = sorted(self._rings.items())
        return {e: r[0, order].tolist() for e, r in rows}, {e: r[1, order].tolist() for e, r in rows}


def stream_status(
    counts: Counts, rate: float, lag: int, in_messages: bool, watermark: float | None, detector: Detector | None,
    arrivals: tuple[dict[str, list[int]], dict[str, list[int]]], late: Mapping[str, int], skewed: Mapping[str, float],
    partitions: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What the live status says of one stream. `in_messages`: the lag counts messages, not bytes.

    `late`: the sources with the most late records, and how many; `skewed`: those whose clocks are wrong, and by how
    many seconds (ahead: greater than 0). `partitions`: those of its topic, 0 while there is none; None if the engine
    does not know.
    """
    return {
        "partitions": partitions,
        **{name: getattr(counts, name) for name in Counts.__slots__},
        "rate": rate,
        "lag_bytes": 0 if in_messages else lag,
        "lag_messages": lag if in_messages else 0,
        "watermark": watermark,
        "model": detector.version if detector else None,
        "threshold": detector.threshold if detector else None,
        "arrivals": arrivals[0],
        "suspect_arrivals": arrivals[1],
        "late_sources": dict(late),
        "skewed_sources": dict(skewed),
    }


def latency_status(seconds: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile in milliseconds; 0 where nothing was measured."""
    p50, p99 = np.percentile(seconds, (50, 99)) * 1000 if seconds else (0.0, 0.0)
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}


class StatusBoard:
    """The engine's observer: gathers, and publishes about once a second through `publish`."""

    def __init__(
        self,
        pipeline: str,
        site: str,
        clock: Clock,
        publish: Callable[[Mapping[str, Any]], None],
        *,
        entities: Mapping[str, str],
        every_seconds: float = 1.0,
        in_messages: Collection[str] = (),
    ) -> None:
        """`entities`: stream -> its entity column; `in_messages`: streams whose topic counts messages, not bytes."""
        self._pipeline, self._site, self._clock, self._publish = pipeline, site, clock, publish
        self._entities, self._every, self._in_messages = entities, every_seconds, in_messages
        self._arrivals = {stream: Arrivals() for stream in entities}
        self._latencies: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._rates: deque[tuple[float, dict[str, int]]] = deque(maxlen=6)
        self._started = clock.wall()
        self._published = self._aged = float("-inf")
        self._state = "recovering"
        self._told: set[str] = set()
        self._committed = (0, clock.wall())
        self._last: dict[str, Any] = {
            **self._about(),
            "rate": 0.0,
            "latency_ms": latency_status(()),
            "streams": {},
        }

    # -- what the engine tells -----------------------------------------------------------------------------------

    def batch(self, scored: Sequence[Scored], output: Output, began: float, wall: float) -> None:
        seconds = self._clock.monotonic() - began
        self._latencies.append(seconds)
        metrics.add_batch(seconds)
        metrics.add_alerts((alert.kind, alert.severity) for alert in output.alerts)
        for (stream, _, partition), counts in output.counts.items():
            metrics.add_records(
                stream,
                partition,
                messages=counts.messages,
                on_time=counts.on_time,
                late=counts.late,
                duplicate=counts.duplicate,
                rejected=counts.rejected,
                suspects=counts.suspects,
            )
        for run in scored:
            metrics.add_unknown_fields(run.stream, run.unknown_fields)
            entities = run.records.get_column(self._entities[run.stream])
            self._arrivals[run.stream].add(entities, run.records.get_column("prediction"), wall)
        if self._clock.monotonic() - self._aged >= AGES_SECONDS:
            self._aged = self._clock.monotonic()
            for run in scored:
                metrics.add_latencies(run.stream, _ages(run.records, self._clock.wall()))

    def wrote(self, table: str, seconds: float) -> None:
        metrics.set_lake_write(table, seconds)

    def committed(self, epoch: int, seconds: float) -> None:
        metrics.set_epoch(epoch, seconds)
        self._committed = (epoch, self._clock.wall())

    def paused(self, why: str | None) -> None:
        """Said again with every attempt: the engine does not turn while it waits, and must not look dead."""
        state = f"paused: {why}" if why else "running"
        if state != self._state:
            _LOG.warning("engine %s", state)
        self._state = state
        metrics.set_engine_state(state)
        with suppress(HackwatchError):
            self._publish({**self._last, **self._about()})

    def stored(self) -> None:
        """New alerts are in the store."""

    def turn(self, engine: Engine) -> None:
        if self._clock.monotonic() - self._published < self._every:
            return
        self._published = self._clock.monotonic()
        if self._state == "recovering":
            self._state = "running"
            self._committed = (max(self._committed[0], engine.epoch - 1), self._committed[1])
        self._say(engine)

    def stopped(self, engine: Engine) -> None:
        self._state = "stopped"
        self._say(engine)

    # -- what it publishes ---------------------------------------------------------------------------------------

    def _say(self, engine: Engine) -> None:
        metrics.set_engine_state(self._state)
        metrics.set_state_rows(engine.parts.pipeline.state_rows())
        with suppress(HackwatchError):  # a disk that is full stops the status too; the engine itself says so and waits
            self._last = self._status(engine)
            self._publish(self._last)

    def _status(self, engine: Engine) -> dict[str, Any]:
        wall = self._clock.wall()
        totals = _by_stream(engine.parts.pipeline.totals)
        rates = self._rate({stream: counts.records for stream, counts in totals.items()})
        return {
            **self._about(),
            "rate": sum(rates.values()),
            "latency_ms": latency_status(self._latencies),
            "streams": {
                stream: self._stream(engine, stream, totals.get(stream, Counts()), rates.get(stream, 0.0), wall)
                for stream in self._entities
            },
        }

    def _about(self) -> dict[str, Any]:
        wall = self._clock.wall()
        return {
            "pipeline": self._pipeline,
            "pid": os.getpid(),
            "site": self._site,
            "started": self._started,
            "updated": wall,
            "state": self._state,
            "epoch": self._committed[0],
            "epoch_age": max(0.0, wall - self._committed[1]),
        }

    def _stream(self, engine: Engine, stream: str, counts: Counts, rate: float, wall: float) -> dict[str, Any]:
        watermark = engine.parts.pipeline.watermark(stream)
        lags = {partition: lag for (name, partition), lag in engine.lag().items() if name == stream}
        detector = engine.parts.models.current().champions[stream]
        in_messages = stream in self._in_messages
        metrics.set_position(stream, lags, watermark=watermark, wall=wall, in_messages=in_messages)
        metrics.set_model(stream, detector.version if detector else None)
        arrivals = self._arrivals[stream].shown(wall)
        if not lags and stream not in self._told:
            _LOG.info("no topic yet of %s: it is read when it appears", stream)
            self._told.add(stream)
        pipeline = engine.parts.pipeline
        return stream_status(
            counts, rate, sum(lags.values()), in_messages, watermark, detector, arrivals,
            pipeline.late_sources(stream), pipeline.skewed_sources(stream), len(lags),
        )  # fmt: skip

    def _rate(self, totals: dict[str, int]) -> dict[str, float]:
        """Records a second over the last few publications."""
        self._rates.append((self._clock.monotonic(), totals))
        began, before = self._rates[0]
        seconds = self._rates[-1][0] - began
        if seconds <= 0:
            return {}
        return {stream: (count - before.get(stream, 0)) / seconds for stream, count in totals.items()}


def _per_entity(records: pl.DataFrame) -> dict[str, tuple[int, int]]:
    counted = records.group_by("entity").agg(pl.len(), pl.col("prediction").cast(pl.Int64).sum())
    return {name: (number, suspects) for name, number, suspects in counted.iter_rows()}


def _per_entity_of_few(entities: pl.Series, suspects: pl.Series) -> dict[str, tuple[int, int]]:
    """The same without a query, which costs more than a few hundred rows."""
    names = entities.to_list()
    found = Counter(name for name, suspect in zip(names, suspects.to_list(), strict=True) if suspect)
    return {name: (number, found[name]) for name, number in Counter(names).items()}


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
