"""Tumbling event-time windows: records, suspects and distinct suspects per stream and entity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from hackwatch.streams.base import Stream

__all__ = ["FinalWindow", "Windows"]


@dataclass(slots=True)
class _Window:
    records: int = 0
    suspects: int = 0
    identities: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class FinalWindow:
    """A window that the watermark has passed. start/end: Unix seconds UTC; count: distinct suspects."""

    entity: str
    start: int
    end: int
    records: int
    suspects: int
    count: int


class Windows:
    """The windows of one stream: `[start, end)`, aligned to the Unix epoch, of `seconds` length."""

    def __init__(self, stream: Stream, seconds: int) -> None:
        self.stream, self.seconds = stream, seconds
        self._open: dict[tuple[str, int], _Window] = {}
        self._changed: set[tuple[str, int]] = set()
        self._final: list[FinalWindow] = []

    def __len__(self) -> int:
        return len(self._open)

    def add(self, records: pl.DataFrame) -> None:
        """Count on-time records (normalised + SCORED columns)."""
        if records.is_empty():
            return
        length = self.seconds * 1_000_000
        start = (pl.col("event_time").to_physical() // length * self.seconds).alias("start")
        keys = [pl.col(self.stream.entity), start]
        suspect = pl.col("prediction") == 1
        grouped = (
            records.lazy()
            .group_by(keys)
            .agg(
                pl.len().alias("records"),
                suspect.sum().cast(pl.Int64).alias("suspects"),
                pl.col(self.stream.identity).filter(suspect).unique().alias("identities"),
            )
            .collect()
        )
        for entity, begin, number, suspects, identities in grouped.iter_rows():
            window = self._open.setdefault((entity, begin), _Window())
            window.records += number
            window.suspects += suspects
            window.identities.update(identities)
            self._changed.add((entity, begin))

    def close(self, watermark: int) -> list[FinalWindow]:
        """The windows whose end the watermark (microseconds) has passed, in order of start and entity."""
        due = sorted((begin, entity) for entity, begin in self._open if (begin + self.seconds) * 1_000_000 <= watermark)
        closed = [self._finish(entity, begin) for begin, entity in due]
        self._final += closed
        return closed

    def _finish(self, entity: str, begin: int) -> FinalWindow:
        window = self._open.pop((entity, begin))
        self._changed.discard((entity, begin))
        return FinalWindow(entity, begin, begin + self.seconds, window.records, window.suspects, len(window.identities))

    def take_changes(self) -> list[tuple[str, str, int, int, int, int, int, bool]]:
        """Rows of WINDOWS_SCHEMA for all windows that changed since the last call, with their absolute values."""
        name = self.stream.name
        rows = [(name, w.entity, w.start, w.end, w.records, w.suspects, w.count, True) for w in self._final]
        for entity, begin in self._changed:
            window = self._open[(entity, begin)]
            count = len(window.identities)
            end = begin + self.seconds
            rows.append((name, entity, begin, end, window.records, window.suspects, count, False))
        self._final, self._changed = [], set()
        return rows

    def snapshot(self) -> list[list[Any]]:
        """Taken at the end of an epoch, after `take_changes`."""
        return [
            [entity, begin, window.records, window.suspects, list(window.identities)]
            for (entity, begin), window in self._open.items()
        ]

    def restore(self, snapshot: list[list[Any]]) -> None:
        self._open = {
            (entity, begin): _Window(records, suspects, set(identities))
            for entity, begin, records, suspects, identities in snapshot
        }
