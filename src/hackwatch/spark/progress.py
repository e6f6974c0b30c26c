"""What a run on Spark says of itself: the live status in the store and the metrics, as those of the embedded engine."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from hackwatch import metrics
from hackwatch.alerts.alert import Alert
from hackwatch.clock import Clock
from hackwatch.detect.base import Detector
from hackwatch.errors import HackwatchError
from hackwatch.pipeline.clocks import NEVER
from hackwatch.pipeline.judged import Counts
from hackwatch.pipeline.streamstate import StreamState
from hackwatch.runtime.status import Arrivals, latency_status, stream_status
from hackwatch.spark.plan import Report

__all__ = ["Board", "lag_of"]

_LOG = logging.getLogger(__name__)
_BATCHES_KEPT = 200


class _Stream:
    """One stream since the start; `totals` since the pipeline's birth."""

    def __init__(self) -> None:
        self.totals, self.arrivals = Counts(), Arrivals()
        self.detector: Detector | None = None
        self.watermark: float | None = None
        self.late: dict[str, int] = {}
        self.skewed: dict[str, float] = {}
        self.rates: deque[tuple[float, int]] = deque(maxlen=6)


class Board:
    """Gathers from all queries, and publishes about once a second. Its methods may be called by any thread."""

    def __init__(
        self,
        pipeline: str,
        site: str,
        clock: Clock,
        publish: Callable[[Mapping[str, Any]], None],
        names: Sequence[str],
        in_messages: Collection[str] = (),
    ) -> None:
        """`in_messages`: streams whose topic counts messages, not bytes."""
        self._pipeline, self._site, self._clock, self._publish = pipeline, site, clock, publish
        self._streams = {name: _Stream() for name in names}
        self._seconds: deque[float] = deque(maxlen=_BATCHES_KEPT)
        self._lock = threading.Lock()
        self._state, self._started = "recovering", clock.wall()
        self._batches, self._committed = 0, clock.wall()
        self._lags: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        self._in_messages = in_messages
        self.wake: Callable[[], None] = lambda: None

    def known(self, stream: str, totals: Counts) -> None:
        """What earlier runs have counted."""
        self._streams[stream].totals.add(totals)

    def ingested(
        self, stream: str, report: Report, alerts: Sequence[Alert], detector: Detector | None, state: StreamState,
        began: float,
    ) -> None:  # fmt: skip
        """A batch of a stream is done (`began`: monotonic)."""
        seconds, wall = self._clock.monotonic() - began, self._clock.wall()
        for partition, counts in report.counts.items():
            metrics.add_records(
                stream, partition, messages=counts.messages, on_time=counts.on_time, late=counts.late,
                duplicate=counts.duplicate, rejected=counts.rejected, suspects=counts.suspects,
            )  # fmt: skip
        metrics.add_unknown_fields(stream, {"": sum(counts.unknown_fields for counts in report.counts.values())})
        metrics.add_batch(seconds)
        metrics.set_model(stream, detector.version if detector else None)
        with self._lock:
            told = self._streams[stream]
            for counts in report.counts.values():
                told.totals.add(counts)
            told.arrivals.add_counts(report.entities, wall)
            told.detector = detector
            watermark = state.clocks.watermark()
            told.watermark = None if watermark <= NEVER else watermark / 1e6
            told.late, told.skewed = state.clocks.late_sources(), state.clocks.skew.named()
            self._rows |= {f"{one.aggregate.name}_{stream}": len(one) for one in state.aggregates}
            self._rows[f"sources_{stream}"] = len(state.clocks)
            self._seconds.append(seconds)
            self._batches, self._committed = self._batches + 1, wall
            metrics.set_epoch(self._batches, seconds)
        self.raised(alerts)

    def correlated(self, alerts: Sequence[Alert], query: str, held: int) -> None:
        """A batch of a correlation is done; it holds so many suspects."""
        with self._lock:
            self._rows[query] = held
        self.raised(alerts)

    def raised(self, alerts: Sequence[Alert]) -> None:
        """Alerts are in the store."""
        metrics.add_alerts((alert.kind, alert.severity) for alert in alerts)
        if alerts:
            self.wake()

    def state(self, state: str) -> None:
        """running, recovering, stopped, or paused with its reason."""
        if state != self._state:
            _LOG.info("engine %s", state)
        self._state = state
        metrics.set_engine_state(state)

    def paused(self, why: str | None) -> None:
        self.state(f"paused: {why}" if why else "running")
        self.publish({})

    def publish(self, progress: Mapping[str, Mapping[str, Any]]) -> None:
        """Say how it stands. `progress`: Spark's last progress of each query, by name."""
        metrics.set_state_rows(dict(self._rows))
        with self._lock:
            status = self._status(progress)
        with suppress(HackwatchError):
            self._publish(status)

    def _status(self, progress: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        wall = self._clock.wall()
        for name, told in progress.items():
            self._lags[name] = sum(lag_of(source) for source in told.get("sources", ()))
        shown = {name: self._stream(name, stream, wall) for name, stream in self._streams.items()}
        return {
            "pipeline": self._pipeline,
            "pid": os.getpid(),
            "site": self._site,
            "started": self._started,
            "updated": wall,
            "state": self._state,
            "epoch": self._batches,
            "epoch_age": max(0.0, wall - self._committed),
            "rate": sum(stream["rate"] for stream in shown.values()),
            "latency_ms": latency_status(self._seconds),
            "streams": shown,
        }

    def _stream(self, name: str, stream: _Stream, wall: float) -> dict[str, Any]:
        stream.rates.append((self._clock.monotonic(), stream.totals.records))
        (began, before), (now, total) = stream.rates[0], stream.rates[-1]
        lag = self._lags.get(name, 0)
        in_messages = name in self._in_messages
        metrics.set_position(name, {0: lag}, watermark=stream.watermark, wall=wall, in_messages=in_messages)
        rate = (total - before) / (now - began) if now > began else 0.0
        arrivals = stream.arrivals.shown(wall)
        return stream_status(
            stream.totals, rate, lag, in_messages, stream.watermark, stream.detector, arrivals, stream.late,
            stream.skewed,
        )  # fmt: skip


def lag_of(source: Mapping[str, Any]) -> int:
    """How far the end of a topic is ahead, in what its offsets count."""
    end, latest = _offsets(source.get("endOffset")), _offsets(source.get("latestOffset"))
    return sum(max(0, at - end.get(place, 0)) for place, at in latest.items() if place in end)


def _offsets(told: Any) -> dict[str, int]:
    """Offsets of a source, flat: Kafka's are by topic and partition, and come as text."""
    flat: dict[str, int] = {}
    if isinstance(told, str):
        with suppress(orjson.JSONDecodeError):
            return _offsets(orjson.loads(told))
    if isinstance(told, Mapping):
        for name, value in told.items():
            if isinstance(value, Mapping):
                flat |= {f"{name}/{inner}": at for inner, at in _offsets(value).items()}
            elif isinstance(value, int) and not isinstance(value, bool):
                flat[str(name)] = value
    return flat
