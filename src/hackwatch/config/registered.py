"""What is registered, by its names alone: settings do not load what the names stand for."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

__all__ = ["stream_names"]


@cache
def stream_names() -> tuple[str, ...]:
    """The names of all registered streams (entry points of group `hackwatch.streams`), sorted."""
    return tuple(sorted({point.name for point in entry_points(group="hackwatch.streams")}))
