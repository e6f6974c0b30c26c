"""What the pipeline is told: frozen options, made from the settings by whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass

from hackwatch.streams.declarations import Aggregate

__all__ = ["StreamOptions"]


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
    max_sources: int = 100_000
    hold_seconds: float = 600.0
    aggregates: tuple[Aggregate, ...] = ()
