"""Who is told what the queries do: the live status and the routes; and how far Spark says that they are behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from hackwatch import metrics
from hackwatch.alerts.alert import Alert
from hackwatch.clock import Clock
from hackwatch.counts import Counts
from hackwatch.detect.detector import Detector
from hackwatch.pipeline.streamstate import StreamState
from hackwatch.runtime.status import StatusBoard
from hackwatch.spark.plan import Report

__all__ = ["QueryObserver", "lag_of"]


class QueryObserver:
    """Passes on what queries do. Any thread may call any method; none raises HackwatchError."""

    def __init__(self, board: StatusBoard, clock: Clock, wake: Callable[[], None]) -> None:
        """`wake`: called when there are alerts to send."""
        self.board, self._clock, self._wake = board, clock, wake
        self._lock = threading.Lock()
        self._batches = 0
        self._rows: dict[str, int] = {}

    def ingested(
        self, stream: str, report: Report, totals: Counts, alerts: Sequence[Alert], detector: Detector | None,
        state: StreamState, began: float,
    ) -> None:  # fmt: skip
        """A batch of a stream is committed. `began`: monotonic. `totals`: since the pipeline began."""
        self.board.batch(began, ())
        for partition, counts in report.counts.items():
            self.board.took(stream, partition, counts)
        self.board.saw_counted(stream, report.entities)
        self.board.stands(stream, totals, detector, state)
        with self._lock:
            self._rows |= state.rows()
            self._batches += 1
            self.board.committed(self._batches, self._clock.monotonic() - began)
        self._raised(alerts)

    def correlated(self, alerts: Sequence[Alert], query: str, held: int) -> None:
        """A batch of a correlation is committed; it holds so many suspects."""
        with self._lock:
            self._rows[query] = held
        self._raised(alerts)

    def _raised(self, alerts: Sequence[Alert]) -> None:
        """Alerts are in the store."""
        self.board.raised(alerts)
        if alerts:
            self._wake()

    def publish(self, progress: Mapping[str, Mapping[str, Any]]) -> None:
        """Say how it stands. `progress`: the last that Spark said of each query of a stream, by name."""
        with self._lock:
            metrics.set_state_rows(self._rows)
        for name, told in progress.items():
            self.board.lags(name, {0: sum(lag_of(source) for source in told.get("sources", ()))})
        self.board.publish()


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
