"""What the pipeline is told: frozen options, made from the settings by whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AlertOptions", "CorrelationOptions", "StreamOptions"]


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How one stream is read in event time. All in seconds; `duplicates_key`: message field, None for none."""

    lateness_seconds: float = 20.0
    idle_seconds: float = 30.0
    window_seconds: int = 120
    duplicates_key: str | None = None
    alert_on_suspect: bool = False


@dataclass(frozen=True, slots=True)
class CorrelationOptions:
    """Which two streams are correlated, on which columns, how close in event time."""

    left: str = "process"
    right: str = "memory"
    keys: tuple[str, ...] = ("machine", "CMD", "PID", "CMD_PID")
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """When alerts are raised.

    `suppress_seconds`: occurrences of one rule on one entity within the same interval of this length (aligned to
    the Unix epoch) are one alert with a count. A final window is anomalous when its count is at least
    `window_minimum` and more than `window_deviations` robust standard deviations above the entity's last
    `window_history` windows, of which at least `window_warmup` are needed.
    """

    site: str = "local"
    suppress_seconds: int = 600
    window_history: int = 30
    window_warmup: int = 5
    window_minimum: int = 5
    window_deviations: float = 6.0
