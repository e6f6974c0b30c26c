"""The live status of a run: what an engine of either kind says of itself, in the store and to Prometheus."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from hackwatch import metrics
from hackwatch.alerts.alert import Alert
from hackwatch.clock import Clock
from hackwatch.counts import COUNTERS, Counts
from hackwatch.detect.detector import Detector
from hackwatch.errors import HackwatchError
from hackwatch.pipeline.streamstate import StreamState
from hackwatch.runtime.recent import RecentCounts

__all__ = ["RunStatus", "StatusBoard", "StreamStatus"]

_LOG = logging.getLogger(__name__)

LATENCIES_KEPT = 2000
#: The rate is that of the time between so many publications.
RATES_KEPT = 6


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How one stream stands.

    `counts`: since the pipeline began. `rate`: records a second. `lag`: what is not read yet, in messages where the
    topic counts these (`in_messages`), else in bytes. `watermark`: Unix seconds. `model`, `threshold`: of the champion.
    `arrivals`, `suspect_arrivals`: entity -> counts, see RecentCounts. `late_sources`: those with the most late
    records, and how many; `skewed_sources`: those whose clocks are wrong, and by how many seconds (ahead: greater than
    0). `partitions`: those of its topic, 0 while there is none; None if the engine does not know.
    """

    counts: Counts = field(default_factory=Counts)
    rate: float = 0.0
    lag: int = 0
    in_messages: bool = False
    watermark: float | None = None
    model: str | None = None
    threshold: float | None = None
    arrivals: Mapping[str, list[int]] = field(default_factory=dict)
    suspect_arrivals: Mapping[str, list[int]] = field(default_factory=dict)
    late_sources: Mapping[str, int] = field(default_factory=dict)
    skewed_sources: Mapping[str, float] = field(default_factory=dict)
    partitions: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the store."""
        return {
            "partitions": self.partitions,
            **{name: getattr(self.counts, name) for name in COUNTERS},
            "rate": self.rate,
            "lag_bytes": 0 if self.in_messages else self.lag,
            "lag_messages": self.lag if self.in_messages else 0,
            "watermark": self.watermark,
            "model": self.model,
            "threshold": self.threshold,
            "arrivals": self.arrivals,
            "suspect_arrivals": self.suspect_arrivals,
            "late_sources": dict(self.late_sources),
            "skewed_sources": dict(self.skewed_sources),
        }


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands. Times in Unix seconds, ages in seconds.

    `state`: recovering, running, stopped, or paused with its reason. `epoch`: the last that is in lake and store.
    `latencies`: seconds of the last batches.
    """

    pipeline: str
    site: str
    started: float
    updated: float
    state: str
    epoch: int
    epoch_age: float
    latencies: Sequence[float] = ()
    streams: Mapping[str, StreamStatus] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the store; latencies in milliseconds, 0 where nothing was measured."""
        p50, p99 = np.percentile(self.latencies, (50, 99)) * 1000 if self.latencies else (0.0, 0.0)
        return {
            "pipeline": self.pipeline,
            "pid": os.getpid(),
            "site": self.site,
            "started": self.started,
            "updated": self.updated,
            "state": self.state,
            "epoch": self.epoch,
            "epoch_age": self.epoch_age,
            "rate": sum(stream.rate for stream in self.streams.values()),
            "latency_ms": {"p50": round(float(p50), 2), "p99": round(float(p99), 2)},
            "streams": {name: stream.to_json() for name, stream in self.streams.items()},
        }


class _Stream:
    """What was told of one stream."""

    def __init__(self, *, in_messages: bool) -> None:
        self.status = StreamStatus(in_messages=in_messages)
        self.recent = RecentCounts()
        self.totals: deque[tuple[float, int]] = deque(maxlen=RATES_KEPT)

    def rate(self, now: float) -> float:
        """Records a second since the publication that is the last but so many."""
        self.totals.append((now, self.status.counts.records))
        (began, before), (_, total) = self.totals[0], self.totals[-1]
        return (total - before) / (now - began) if now > began else 0.0


class StatusBoard:
    """Gathers what an engine tells, and publishes it through `publish`, which may fail: then it is left out.

    Any thread may call any method; none raises HackwatchError.
    """

    def __init__(
        self,
        pipeline: str,
        site: str,
        clock: Clock,
        publish: Callable[[Mapping[str, Any]], None],
        streams: Mapping[str, bool],
    ) -> None:
        """`streams`: whether their topics count messages (not bytes)."""
        self._pipeline, self._site, self._clock, self._publish = pipeline, site, clock, publish
        self._streams = {name: _Stream(in_messages=in_messages) for name, in_messages in streams.items()}
        self._latencies: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._started = clock.wall()
        self._epoch = (0, self._started)
        self._state = "recovering"
        self._last = self._about()
        self._lock = threading.Lock()

    # -- what engines tell ---------------------------------------------------------------------------------------

    def batch(self, began: float, alerts: Iterable[Alert]) -> None:
        """A batch that began then (monotonic) is done, and raised these."""
        seconds = self._clock.monotonic() - began
        self._latencies.append(seconds)
        metrics.add_batch(seconds)
        self.raised(alerts)

    def raised(self, alerts: Iterable[Alert]) -> None:
        """New alerts."""
        metrics.add_alerts((alert.kind, alert.severity) for alert in alerts)

    def took(self, stream: str, partition: int, counts: Counts) -> None:
        """Where the records that a batch took of a partition went."""
        metrics.add_records(stream, partition, counts)
        metrics.add_unknown_fields(stream, {"": counts.unknown_fields})

    def saw(self, stream: str, entities: pl.Series, suspects: pl.Series, wall: float) -> None:
        """Who the records of a batch are about, and 1 where one is a suspect."""
        with self._lock:
            self._streams[stream].recent.add(entities, suspects, wall)

    def saw_counted(self, stream: str, counts: Mapping[str, tuple[int, int]]) -> None:
        """The same for what is counted already: entity -> records, suspects."""
        with self._lock:
            self._streams[stream].recent.add_counts(counts, self._clock.wall())

    def stands(self, stream: str, counts: Counts, detector: Detector | None, state: StreamState) -> None:
        """How far a stream is: totals since the pipeline began, what scores it, and its clocks."""
        metrics.set_model(stream, detector.version if detector else None)
        with self._lock:
            self._set(
                stream,
                counts=counts,
                watermark=state.watermark(),
                model=detector.version if detector else None,
                threshold=detector.threshold if detector else None,
                late_sources=state.clocks.late_sources(),
                skewed_sources=state.clocks.skew.named(),
            )

    def lags(self, stream: str, lags: Mapping[int, int], *, partitions: int | None = None) -> None:
        """What is not read yet of each partition, in what the topic counts."""
        found = self._streams[stream].status
        metrics.set_position(
            stream, lags, watermark=found.watermark, wall=self._clock.wall(), in_messages=found.in_messages
        )
        with self._lock:
            self._set(stream, lag=sum(lags.values()), partitions=partitions)

    def committed(self, epoch: int, seconds: float) -> None:
        """An epoch is in lake and store, which took this long."""
        metrics.set_epoch(epoch, seconds)
        self._epoch = (epoch, self._clock.wall())

    def paused(self, why: str | None) -> None:
        """The engine waits, or no longer; said with every attempt: it must not look dead meanwhile."""
        state = f"paused: {why}" if why else "running"
        if state != self._state:
            _LOG.warning("engine %s", state)
        self.entered(state)
        self._write(replace(self._last, **self._changing()))

    def entered(self, state: str) -> None:
        """recovering, running or stopped."""
        self._state = state
        metrics.set_engine_state(state)

    @property
    def recovering(self) -> bool:
        return self._state == "recovering"

    def recovered(self, epoch: int) -> None:
        """It is done with what was logged after the last epoch, and is at work."""
        self._epoch = (max(self._epoch[0], epoch), self._epoch[1])
        self.entered("running")

    # -- what it publishes ---------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Say how it all stands."""
        metrics.set_engine_state(self._state)
        wall, now = self._clock.wall(), self._clock.monotonic()
        with self._lock:
            streams = {name: self._shown(stream, wall, now) for name, stream in self._streams.items()}
            latencies = tuple(self._latencies)
        self._last = replace(self._about(), latencies=latencies, streams=streams)
        self._write(self._last)

    def _shown(self, stream: _Stream, wall: float, now: float) -> StreamStatus:
        records, suspects = stream.recent.shown(wall)
        return replace(stream.status, rate=stream.rate(now), arrivals=records, suspect_arrivals=suspects)

    def _set(self, stream: str, **changes: Any) -> None:
        found = self._streams[stream]
        found.status = replace(found.status, **changes)

    def _about(self) -> RunStatus:
        return RunStatus(self._pipeline, self._site, self._started, **self._changing())

    def _changing(self) -> dict[str, Any]:
        wall = self._clock.wall()
        epoch, committed = self._epoch
        return {"updated": wall, "state": self._state, "epoch": epoch, "epoch_age": max(0.0, wall - committed)}

    def _write(self, status: RunStatus) -> None:
        with suppress(HackwatchError):  # a full disk stops the status too; the engine itself says so, and waits
            self._publish(status.to_json())
