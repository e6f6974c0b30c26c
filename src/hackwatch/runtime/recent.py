"""What came of each entity lately: the bars that `hackwatch top` draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import polars as pl

from hackwatch.pipeline.arrivals import SMALL_ROWS

__all__ = ["RecentCounts"]

BUCKET_SECONDS, BUCKETS = 2, 60
ENTITIES_KEPT = 200
MOST_WAITING = 50_000


class RecentCounts:
    """Records and suspects per entity in buckets of 2 s of processing time, over the last 2 minutes."""

    def __init__(self) -> None:
        self._rings: dict[str, np.ndarray[tuple[int, int], np.dtype[np.int64]]] = {}
        self._newest = 0
        self._waiting: list[pl.DataFrame] = []
        self._rows_waiting = 0

    def add(self, entities: pl.Series, suspects: pl.Series, wall: float) -> None:
        """Who each record is about, and 1 where it is a suspect. Of large batches many are counted at a time."""
        if int(wall // BUCKET_SECONDS) != self._newest:
            self._count()
            self._roll(wall)
        if len(entities) <= SMALL_ROWS:
            self._put(_per_entity_of_few(entities, suspects))
            return
        self._waiting.append(pl.DataFrame([entities.alias("entity"), suspects.alias("prediction")]))
        self._rows_waiting += len(entities)
        if self._rows_waiting > MOST_WAITING:
            self._count()

    def _count(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting, self._rows_waiting = pl.concat(self._waiting), [], 0
        self._put(_per_entity(waiting))

    def add_counts(self, counts: Mapping[str, tuple[int, int]], wall: float) -> None:
        """The same for what is counted already: entity -> records, suspects."""
        self._count()
        self._roll(wall)
        self._put(counts)

    def _put(self, counts: Mapping[str, tuple[int, int]]) -> None:
        for entity, (records, suspects) in counts.items():
            ring = self._rings.get(entity)
            if ring is None:
                if len(self._rings) >= ENTITIES_KEPT:
                    continue
                ring = self._rings[entity] = np.zeros((2, BUCKETS), dtype=np.int64)
            ring[:, self._newest % BUCKETS] += (records, suspects)

    def _roll(self, wall: float) -> None:
        """Empty the buckets that time has passed; an entity silent for two minutes is forgotten."""
        bucket = int(wall // BUCKET_SECONDS)
        passed = min(bucket - self._newest, BUCKETS)
        if passed <= 0:
            return
        stale = [(bucket - back) % BUCKETS for back in range(passed)]
        for entity, ring in list(self._rings.items()):
            ring[:, stale] = 0
            if not ring.any():
                del self._rings[entity]
        self._newest = bucket

    def shown(self, wall: float) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """(records, suspects): entity -> 60 buckets, oldest first."""
        self._count()
        self._roll(wall)
        order = [(self._newest + 1 + i) % BUCKETS for i in range(BUCKETS)]
        rows = sorted(self._rings.items())
        return {e: r[0, order].tolist() for e, r in rows}, {e: r[1, order].tolist() for e, r in rows}


def _per_entity(records: pl.DataFrame) -> dict[str, tuple[int, int]]:
    counted = records.group_by("entity").agg(pl.len(), pl.col("prediction").cast(pl.Int64).sum())
    return {name: (number, suspects) for name, number, suspects in counted.iter_rows()}


def _per_entity_of_few(entities: pl.Series, suspects: pl.Series) -> dict[str, tuple[int, int]]:
    """The same without a query, which costs more than a few hundred rows."""
    names = entities.to_list()
    found = Counter(name for name, suspect in zip(names, suspects.to_list(), strict=True) if suspect)
    return {name: (number, found[name]) for name, number in Counter(names).items()}
