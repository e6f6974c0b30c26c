"""Whether an engine is alive, and how far it is: what it said last, and what follows from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hackwatch.errors import ResourceError
from hackwatch.store import Store
from hackwatch.views.live import StreamView, stream_view

__all__ = ["EngineStatus", "engine_status"]

#: Seconds of silence after which an engine is not healthy.
MAX_AGE = 30.0


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What the engine of a pipeline said last; times in Unix seconds UTC, ages in seconds before now.

    `healthy`: it spoke lately and did not say goodbye; one that waits (a full disk, a broker out of reach) is. `told`:
    all that it said, under the names of `hackwatch status --json`.
    """

    pipeline: str
    site: str
    state: str
    healthy: bool
    age: float
    pid: int
    started: float
    updated: float
    epoch: int
    epoch_age: float
    rate: float
    latency_p50: float
    latency_p99: float
    streams: tuple[StreamView, ...]
    told: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """As JSON values. Arrivals of single entities are left out: they are what the live view shows."""
        streams = {
            name: {key: value for key, value in one.items() if not key.endswith("arrivals")}
            for name, one in self.told["streams"].items()
        }
        mine = {"healthy": self.healthy, "age": self.age, "epoch_age": self.epoch_age}
        return {**self.told, **mine, "streams": streams}


def engine_status(store: Store, pipeline: str, where: str, now: float, max_age: float = MAX_AGE) -> EngineStatus:
    """The status of the engine of that pipeline. ResourceError, at `where`, if none has ever spoken."""
    told = store.statuses.read().get(pipeline)
    if told is None:
        raise ResourceError(
            f"no engine has run the pipeline {pipeline}", where=where, next_step="start one with: hackwatch run"
        )
    return status_of(told, now, max_age)


def status_of(told: Mapping[str, Any], now: float, max_age: float = MAX_AGE) -> EngineStatus:
    """The same of what an engine said."""
    age = max(0.0, now - told["updated"])
    return EngineStatus(
        **{name: told[name] for name in ("pipeline", "site", "state", "pid", "started", "updated", "epoch", "rate")},
        healthy=age <= max_age and told["state"] != "stopped",
        age=age,
        epoch_age=told["epoch_age"] + age,
        latency_p50=told["latency_ms"]["p50"],
        latency_p99=told["latency_ms"]["p99"],
        streams=tuple(stream_view(str(name), one, now) for name, one in told["streams"].items()),
        told=told,
    )
