"""Tumbling event-time windows: records, suspects and distinct suspects per stream and entity."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from hackwatch.streams.base import Stream, microseconds

__all__ = ["FinalWindow", "Windows"]

#: Records that wait to be counted, at the most.
MOST_WAITING = 50_000
#: Batches up to this size are counted at once, without a query.
SMALL_ROWS = 512


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
        self._columns = [stream.entity, stream.identity, "event_time", "prediction"]
        self._open: dict[tuple[str, int], _Window] = {}
        self._changed: set[tuple[str, int]] = set()
        self._final: list[FinalWindow] = []
        self._waiting: list[pl.DataFrame] = []
        self._rows_waiting = 0
        self._ended: int | None = None

    def __len__(self) -> int:
        self._count()
        return len(self._open)

    def add(self, records: pl.DataFrame) -> None:
        """Take on-time records (normalised + SCORED columns); of large batches many are counted at a time."""
        if len(records) <= SMALL_ROWS:
            self._count_few(records)
        else:
            self._waiting.append(pl.DataFrame([records.get_column(name) for name in self._columns]))
            self._rows_waiting += len(records)
            if self._rows_waiting >= MOST_WAITING:
                self._count()

    def _count_few(self, records: pl.DataFrame) -> None:
        """The same as `_count`, without a query: for a small batch it would cost more."""
        entities = records.get_column(self.stream.entity).to_list()
        starts = microseconds(records.get_column("event_time")) // (self.seconds * 1_000_000) * self.seconds
        places = list(zip(entities, starts.tolist(), strict=True))
        for place, number in Counter(places).items():
            self._open.setdefault(place, _Window()).records += number
        self._changed.update(places)
        suspects = np.flatnonzero(records.get_column("prediction").to_numpy())
        identities = records.get_column(self.stream.identity)[suspects].to_list() if len(suspects) else []
        for row, identity in zip(suspects.tolist(), identities, strict=True):
            window = self._open[places[row]]
            window.suspects += 1
            window.identities.add(identity)

    def _count(self) -> None:
        """Count the records that wait."""
        if not self._waiting:
            return
        records = pl.concat(self._waiting)
        self._waiting, self._rows_waiting = [], 0
        length = self.seconds * 1_000_000
        start = (pl.col("event_time").to_physical() // length * self.seconds).alias("start")
        suspect = pl.col("prediction") == 1
        grouped = (
            records.lazy()
            .group_by(pl.col(self.stream.entity), start)
            .agg(
                pl.len().alias("records"),
                suspect.sum().cast(pl.Int64).alias("suspects"),
                pl.col(self.stream.identity).filter(suspect).unique().alias("identities"),
            )
            .collect(engine="in-memory")
        )
        for entity, begin, number, suspects, identities in grouped.iter_rows():
            window = self._open.setdefault((entity, begin), _Window())
            window.records += number
            window.suspects += suspects
            window.identities.update(identities)
            self._changed.add((entity, begin))

    def close(self, watermark: int) -> list[FinalWindow]:
        """The windows whose end the watermark (microseconds) has passed, in order of start and entity."""
        if not self._may_close(watermark):
            return []
        self._count()
        due = sorted((begin, entity) for entity, begin in self._open if (begin + self.seconds) * 1_000_000 <= watermark)
        closed = [self._finish(entity, begin) for begin, entity in due]
        self._final += closed
        return closed

    def _may_close(self, watermark: int) -> bool:
        """Whether the watermark has come past the end of some window since the last call."""
        ended = watermark // (self.seconds * 1_000_000)
        if ended == self._ended:
            return False
        self._ended = ended
        return True

    def _finish(self, entity: str, begin: int) -> FinalWindow:
        window = self._open.pop((entity, begin))
        self._changed.discard((entity, begin))
        return FinalWindow(entity, begin, begin + self.seconds, window.records, window.suspects, len(window.identities))

    def take_changes(self) -> list[tuple[str, str, int, int, int, int, int, bool]]:
        """Rows of WINDOWS_SCHEMA for all windows that changed since the last call, with their absolute values."""
        self._count()
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
        self._count()
        return [
            [entity, begin, window.records, window.suspects, list(window.identities)]
            for (entity, begin), window in self._open.items()
        ]

    def restore(self, snapshot: list[list[Any]]) -> None:
        self._open = {
            (entity, begin): _Window(records, suspects, set(identities))
            for entity, begin, records, suspects, identities in snapshot
        }
