"""When alerts are raised: frozen options, made from the settings by whoever runs the pipeline."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AlertOptions"]


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
