"""What the engine counts, for Prometheus: one registry, filled with totals of a batch, never once a record."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, start_http_server
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from hackwatch.counts import OUTCOMES, Counts
from hackwatch.errors import ResourceError

__all__ = [
    "ENGINE_STATES",
    "REGISTRY",
    "MetricsServer",
    "add_alerts",
    "add_batch",
    "add_latencies",
    "add_records",
    "add_route",
    "add_unknown_fields",
    "serve",
    "set_engine_state",
    "set_epoch",
    "set_lake_write",
    "set_model",
    "set_position",
    "set_route_pending",
    "set_state_rows",
]

REGISTRY = CollectorRegistry()
ENGINE_STATES = ("running", "recovering", "paused", "stopped")

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_PLACE = ("stream", "partition")


class ManyHistogram(Collector):
    """A histogram that takes a whole batch of values at once."""

    def __init__(self, name: str, documentation: str, buckets: Sequence[float]) -> None:
        self._name, self._documentation = name, documentation
        self._edges = np.asarray([*buckets, np.inf])
        self._series: dict[str, tuple[npt.NDArray[np.int64], float]] = {}
        self._lock = threading.Lock()

    def observe_many(self, stream: str, values: npt.NDArray[np.floating]) -> None:
        places = np.searchsorted(self._edges, np.asarray(values, dtype=np.float64), side="left")
        added = np.bincount(places, minlength=len(self._edges)).astype(np.int64)
        with self._lock:
            counts, total = self._series.get(stream, (np.zeros_like(added), 0.0))
            self._series[stream] = (counts + added, total + float(np.sum(values)))

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=("stream",))
        with self._lock:
            series = dict(self._series)
        for stream, (counts, total) in series.items():
            edges = [*(str(edge) for edge in self._edges[:-1]), "+Inf"]
            cumulative = [float(count) for count in np.cumsum(counts)]
            family.add_metric([stream], list(zip(edges, cumulative, strict=True)), total)
        yield family


_messages = Counter("hackwatch_messages", "Messages read from topics.", _PLACE, registry=REGISTRY)
_records = Counter(
    "hackwatch_records",
    f"Records read, by what became of them: {', '.join(OUTCOMES[:-1])} or {OUTCOMES[-1]}.",
    (*_PLACE, "outcome"),
    registry=REGISTRY,
)
_suspects = Counter(
    "hackwatch_suspects", "Records that a model or rule holds for an attack.", _PLACE, registry=REGISTRY
)
_unknown = Counter(
    "hackwatch_unknown_fields", "Message fields that no schema knows (ignored).", ("stream",), registry=REGISTRY
)
_lag = Gauge("hackwatch_lag_bytes", "Bytes of a spool partition not yet read.", _PLACE, registry=REGISTRY)
_lag_messages = Gauge(
    "hackwatch_lag_messages", "Messages of a Kafka partition not yet read.", _PLACE, registry=REGISTRY
)
_watermark_age = Gauge(
    "hackwatch_watermark_age_seconds", "Wall clock minus watermark of a stream.", ("stream",), registry=REGISTRY
)
_batch_seconds = Histogram("hackwatch_batch_seconds", "Time of one micro-batch.", buckets=_SECONDS, registry=REGISTRY)
_latency = ManyHistogram(
    "hackwatch_latency_seconds",
    "Time from when a record happened until it was processed (sampled, live data).",
    _SECONDS,
)
REGISTRY.register(_latency)
_state_rows = Gauge("hackwatch_state_rows", "Rows held in a state of the pipeline.", ("state",), registry=REGISTRY)
_epoch = Gauge("hackwatch_epoch", "Number of the last committed epoch.", registry=REGISTRY)
_epoch_seconds = Histogram(
    "hackwatch_epoch_seconds", "Time to commit an epoch to lake and store.", buckets=_SECONDS, registry=REGISTRY
)
_lake_seconds = Histogram(
    "hackwatch_lake_write_seconds", "Time of one append to a table.", ("table",), buckets=_SECONDS, registry=REGISTRY
)
_model = Gauge("hackwatch_model_info", "1 for the model version in use.", ("stream", "version"), registry=REGISTRY)
_alerts = Counter("hackwatch_alerts", "Alerts raised.", ("kind", "severity"), registry=REGISTRY)
_route = Counter(
    "hackwatch_route_messages",
    "Messages to a route by what became of the attempt: sent, failed (to be tried again) or dead (given up).",
    ("route", "outcome"),
    registry=REGISTRY,
)
_route_pending = Gauge("hackwatch_route_pending", "Messages waiting for a route.", ("route",), registry=REGISTRY)
_engine_state = Enum("hackwatch_engine_state", "State of the engine.", states=list(ENGINE_STATES), registry=REGISTRY)
_engine_state.state("stopped")
_models_in_use: dict[str, str] = {}


def add_records(stream: str, partition: int, counts: Counts) -> None:
    """Count what one batch brought from one topic partition (but for unknown fields)."""
    place = (stream, str(partition))
    _messages.labels(*place).inc(counts.messages)
    for outcome in OUTCOMES:
        _records.labels(*place, outcome).inc(getattr(counts, outcome))
    _suspects.labels(*place).inc(counts.suspects)


def add_unknown_fields(stream: str, fields: Mapping[str, int]) -> None:
    """Count unknown fields, all names together: names come from outside and would grow without bound."""
    _unknown.labels(stream).inc(sum(fields.values()))


def set_position(
    stream: str, lags: Mapping[int, int], *, watermark: float | None, wall: float, in_messages: bool = False
) -> None:
    """Lag of each partition in bytes or messages, and the stream's watermark (Unix seconds; None: none yet)."""
    gauge = _lag_messages if in_messages else _lag
    for partition, lag in lags.items():
        gauge.labels(stream, str(partition)).set(lag)
    if watermark is not None:
        _watermark_age.labels(stream).set(wall - watermark)


def add_batch(seconds: float) -> None:
    """The time of one micro-batch."""
    _batch_seconds.observe(seconds)


def add_latencies(stream: str, seconds: npt.NDArray[np.floating]) -> None:
    """End-to-end latencies of many records or messages at once, seconds."""
    if len(seconds):
        _latency.observe_many(stream, seconds)


def set_state_rows(rows: Mapping[str, int]) -> None:
    """Rows in each state: windows, correlation, duplicates, suppression and so on."""
    for state, count in rows.items():
        _state_rows.labels(state).set(count)


def set_epoch(number: int, seconds: float) -> None:
    """An epoch was committed, which took this long."""
    _epoch.set(number)
    _epoch_seconds.observe(seconds)


def set_lake_write(table: str, seconds: float) -> None:
    """One append to a table of the lake took this long."""
    _lake_seconds.labels(table).observe(seconds)


def set_model(stream: str, version: str | None) -> None:
    """The model that scores a stream from now on; None: rules only."""
    before = _models_in_use.pop(stream, None)
    if before is not None and before != version:
        _model.remove(stream, before)
    if version is not None:
        _models_in_use[stream] = version
        _model.labels(stream, version).set(1)


def add_alerts(alerts: Iterable[tuple[str, str]]) -> None:
    """Count new alerts, each by (kind, severity)."""
    for kind, severity in alerts:
        _alerts.labels(kind, severity).inc()


def add_route(route: str, *, sent: int = 0, failed: int = 0, dead: int = 0) -> None:
    """Count attempts to hand messages to a route."""
    for outcome, count in (("sent", sent), ("failed", failed), ("dead", dead)):
        _route.labels(route, outcome).inc(count)


def set_route_pending(route: str, messages: int) -> None:
    """Messages that wait for a route."""
    _route_pending.labels(route).set(messages)


def set_engine_state(state: str) -> None:
    """One of ENGINE_STATES; what follows a colon (the reason of a pause) is left out."""
    _engine_state.state(state.partition(":")[0])


class MetricsServer:
    """The endpoint while it runs: `port` is the real one if 0 was asked; `close` frees it."""

    def __init__(self, port: int, host: str) -> None:
        self._server, self._thread = start_http_server(port, addr=host, registry=REGISTRY)
        self.port: int = self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(port: int, host: str = "127.0.0.1") -> MetricsServer:
    """Serve the metrics over HTTP from a background thread.

    `port` 0 takes any free one. Raises ResourceError if the address cannot be used.
    """
    try:
        return MetricsServer(port, host)
    except OSError as error:
        raise ResourceError(
            f"cannot serve metrics: {error.strerror or error}",
            where=f"{host}:{port}",
            next_step="choose another port or address in the table [metrics]",
        ) from error
