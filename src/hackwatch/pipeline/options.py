"""What the pipeline is told: frozen options, made from the settings by whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass

from hackwatch.streams.declarations import Aggregate

__all__ = ["MAX_SOURCES", "AlertOptions", "StreamOptions"]

#: Sources of a stream with a clock of their own, unless somebody says how many.
MAX_SOURCES = 100_000


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How one stream is read in event time. All in seconds; `duplicates_key`: message field, None for none.

    `max_sources`: sources with a clock of their own, the others share one. `hold_seconds`: see SourceClocks.
    `aggregates`: beside the stream's windows of `window_seconds`.
    """

    lateness_seconds: float = 20.0
    idle_seconds: float = 30.0
    window_seconds: int = 120
    duplicates_key: str | None = None
    alert_on_suspect: bool = False
    max_sources: int = MAX_SOURCES
    hold_seconds: float = 600.0
    aggregates: tuple[Aggregate, ...] = ()


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """When alerts are raised.

    `suppress_seconds`: occurrences of one rule on one entity within the same interval of this length (aligned to
    the Unix epoch) are one alert with a count. A final interval of an aggregate is anomalous when its value is at least
    `window_minimum` and more than `window_deviations` robust standard deviations above the key's last
    `window_history` intervals, of which at least `window_warmup` are needed.
    """

    site: str = "local"
    suppress_seconds: int = 600
    window_history: int = 30
    window_warmup: int = 5
    window_minimum: int = 5
    window_deviations: float = 6.0
