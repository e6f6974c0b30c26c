"""The clocks of all sources as columns: one for each partition and source, and what is known of each source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.pipeline.arrivals import Arrival
from hackwatch.pipeline.marks import NEVER

__all__ = ["BEFORE", "CLOCKS", "OTHERS", "ROWS", "SOURCES", "ClockTable", "Place"]

#: Later than any watermark.
_PASSED = 2**61
#: What the sources beyond the limit are called together: they share one clock.
OTHERS = "(others)"
#: In place of a partition: where a source was before there were source clocks.
BEFORE = -1

#: Clocks as a frame: times in microseconds, `moved` in seconds of the partition's quiet time.
CLOCKS = pl.Schema(
    {
        "partition": pl.Int64(),
        "source": pl.String(),
        "newest": pl.Int64(),
        "floor": pl.Int64(),
        "moved": pl.Float64(),
    }
)
#: Sources as a frame: their watermark, and how many of their records were late.
SOURCES = pl.Schema({"source": pl.String(), "mark": pl.Int64(), "late": pl.Int64()})
#: Both in one row a clock. `number`: the clock's, which gives their order.
ROWS = pl.Schema({**CLOCKS, "number": pl.Int64(), "mark": pl.Int64(), "late": pl.Int64()})

Place = tuple[int, str]


class ClockTable:
    """Columns of clocks (`newest`, `floor`, `moved`, `partition`, `source`) and of sources (`names`, `mark`, `late`).

    A clock is named by its row; `source` is the row of its source. `slots_of` has the clocks of each source.
    """

    def __init__(self, max_sources: int) -> None:
        self.max_sources = max_sources
        #: Where new watermarks begin: what a version without source clocks had passed.
        self.start = NEVER
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self.names: list[str] = []
        self.ids: dict[str, int] = {}
        self.mark = np.empty(0, np.int64)
        self.late = np.empty(0, np.int64)
        self.slots_of: list[list[int]] = []
        self._slots: dict[Place, int] = {}
        self.newest = np.empty(0, np.int64)
        self.floor = np.empty(0, np.int64)
        self.moved = np.empty(0, np.float64)
        self.source = np.empty(0, np.int64)
        self.partition = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._slots)

    def places(self, seen: Sequence[Arrival], quiet: Mapping[int, float]) -> list[int]:
        """The clocks of what has arrived, made where there are none. `quiet`: the time of each partition."""
        known = [self._slots.get((one.partition, one.source)) for one in seen]
        if None not in known:
            return cast("list[int]", known)
        places = [(one.partition, self.known_as(one.source)) for one in seen]
        new = [place for place in dict.fromkeys(places) if place not in self._slots]
        if new:
            self.add(new, quiet)
        return [self._slots[place] for place in places]

    def known_as(self, source: str) -> str:
        """The name of a source, made known; beyond the limit, that of the others."""
        if source not in self.ids:
            if len(self.names) >= self.max_sources:
                source = OTHERS
            if source not in self.ids:
                self.ids[source] = len(self.names)
                self.names.append(source)
                self.slots_of.append([])
        return source

    def add(self, places: Sequence[Place], quiet: Mapping[int, float]) -> None:
        """Make clocks, and room for what is known of their sources."""
        missing = len(self.names) - len(self.mark)
        self.mark = np.concatenate([self.mark, np.full(missing, self.start, np.int64)])
        self.late = np.concatenate([self.late, np.zeros(missing, np.int64)])
        numbers = [self.ids[source] for _, source in places]
        for slot, (place, number) in enumerate(zip(places, numbers, strict=True), len(self._slots)):
            if (earlier := self._slots.get((BEFORE, place[1]))) is not None:
                self.floor[earlier] = _PASSED  # it holds nothing back any more
            self._slots[place] = slot
            self.slots_of[number].append(slot)
        partitions = [partition for partition, _ in places]
        self.newest = np.concatenate([self.newest, np.full(len(places), NEVER, np.int64)])
        self.floor = np.concatenate([self.floor, self.mark[numbers]])
        self.moved = np.concatenate([self.moved, np.array([quiet[number] for number in partitions], np.float64)])
        self.source = np.concatenate([self.source, np.array(numbers, np.int64)])
        self.partition = np.concatenate([self.partition, np.array(partitions, np.int64)])

    def keep(self, chosen: npt.NDArray[np.bool_]) -> None:
        """Forget the clocks that are not chosen, and the sources that have none then."""
        clocks = self.clocks().filter(pl.Series(chosen))
        self.restore(clocks, self.sources().join(clocks.select("source"), on="source", how="semi"))

    def clocks(self) -> pl.DataFrame:
        """As CLOCKS. Copies: Polars would share the columns, which go on changing while a snapshot is written."""
        names = [self.names[source] for source in self.source.tolist()]
        columns = {name: getattr(self, name).copy() for name in ("partition", "newest", "floor", "moved")}
        return pl.DataFrame({**columns, "source": names}).select(pl.col(n).cast(kind) for n, kind in CLOCKS.items())

    def sources(self) -> pl.DataFrame:
        """As SOURCES, copies too."""
        columns = {"source": list(self.names), "mark": self.mark.copy(), "late": self.late.copy()}
        return pl.DataFrame(columns, schema=SOURCES)

    def restore(self, clocks: pl.DataFrame, sources: pl.DataFrame) -> None:
        """Take up what `clocks` and `sources` gave."""
        self.clear()
        self.extend(clocks, sources)

    def extend(self, clocks: pl.DataFrame, sources: pl.DataFrame) -> int:
        """Take up further clocks and their sources; those that are there stay. How many sources are new."""
        names = sources["source"].to_list()
        new = [place for place, name in enumerate(names) if name not in self.ids]
        for place in new:
            self.ids[names[place]] = len(self.names)
            self.names.append(names[place])
            self.slots_of.append([])
        self.mark, self.late = (
            np.concatenate([getattr(self, name), sources[name].to_numpy()[new]]) for name in ("mark", "late")
        )
        places = list(zip(clocks["partition"].to_list(), clocks["source"].to_list(), strict=True))
        rows = [row for row, place in enumerate(places) if place not in self._slots]
        for slot, row in enumerate(rows, len(self._slots)):
            self._slots[places[row]] = slot
            self.slots_of[self.ids[places[row][1]]].append(slot)
        self.newest, self.floor, self.moved, self.partition = (
            np.concatenate([getattr(self, name), clocks[name].to_numpy()[rows]])
            for name in ("newest", "floor", "moved", "partition")
        )
        known = np.array([self.ids[places[row][1]] for row in rows], np.int64)
        self.source = np.concatenate([self.source, known])
        return len(new)

    def find(self, places: Iterable[Place]) -> list[int]:
        """The clocks of these partitions and sources, as far as there are any."""
        return [self._slots[place] for place in places if place in self._slots]

    def rows(self, slots: npt.NDArray[np.int64]) -> pl.DataFrame:
        """Some clocks, each with what is known of its source, as ROWS."""
        source = self.source[slots]
        columns = {name: getattr(self, name)[slots] for name in ("partition", "newest", "floor", "moved")}
        columns |= {"number": slots, "mark": self.mark[source], "late": self.late[source]}
        names = [self.names[number] for number in source.tolist()]
        return pl.DataFrame({**columns, "source": names}).select(pl.col(n).cast(kind) for n, kind in ROWS.items())

    def supersede_before(self) -> None:
        """What was before there were source clocks holds nobody back who has a clock."""
        for slot in np.flatnonzero(self.partition == BEFORE).tolist():
            if len(self.slots_of[self.source[slot]]) > 1:
                self.floor[slot] = _PASSED

    def restore_sources(self, names: Iterable[str], newest: int) -> None:
        """Begin with sources of which only their names are known, and how far they may have been."""
        self.clear()
        places = [(BEFORE, self.known_as(source)) for source in names]
        self.add(list(dict.fromkeys(places)), {BEFORE: 0.0})
        self.newest[:] = newest
