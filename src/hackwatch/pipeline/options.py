"""What the pipeline is told of a stream: its settings, and what is declared about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from hackwatch.config import EngineSettings, StreamSettings
from hackwatch.pipeline.clocks import HOLD_SECONDS
from hackwatch.streams.declarations import Aggregate

__all__ = ["MAX_SOURCES", "StreamOptions"]

#: Sources of a stream with a clock of their own, unless the settings say how many.
MAX_SOURCES = 100_000


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How one stream is read in event time.

    `stream`: its table of the settings. `engine`: says when its sources are idle, and how many are told apart.
    `hold_seconds`: see SourceClocks. `aggregates`: beside the stream's windows.
    """

    stream: StreamSettings = field(default_factory=StreamSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    hold_seconds: float = HOLD_SECONDS
    aggregates: tuple[Aggregate, ...] = ()

    @property
    def max_sources(self) -> int:
        """How many sources have a clock of their own; those beyond share one."""
        return self.engine.max_sources or MAX_SOURCES
