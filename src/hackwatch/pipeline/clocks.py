"""Event-time progress, source by source: which records are late, and how far each source has come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.pipeline.arrivals import Arrival, arrivals, arrivals_of_few, count_late, few
from hackwatch.pipeline.clockstate import HOLD_SECONDS, ClockState, PartitionState, Slots
from hackwatch.pipeline.clocktable import OTHERS, Place
from hackwatch.pipeline.marks import NEVER, Judged, Marks, Mask, Sweep, Times

__all__ = ["HOLD_SECONDS", "NEVER", "OTHERS", "Judged", "Marks", "SourceClocks"]

#: A source that has been idle for so long is forgotten, so that its place is free; looked for this often.
FORGET_SECONDS, LOOK_SECONDS = 86_400.0, 600.0
#: All sources are looked at so often (engine time), in between those that have sent something; of up to so many
#: sources also all when a partition has been read to its end, or has a backlog again.
SWEEP_SECONDS, FEW_SOURCES = 0.25, 2_000
#: So many sources are looked at one by one, without columns.
FEW_TOUCHED = 32

Numbers = npt.NDArray[np.int32]


class SourceClocks(ClockState):
    """The clocks of one stream's sources (machines, sensors, servers), in microseconds of event time.

    Per partition and source: the watermark is the greatest event time seen before a record, in offset order, minus
    `lateness`; a record behind it is late. So what is late does not depend on the cut into batches, and no clock harms
    another source. A source that is silent, or whose time stands still, for S > `idle_seconds` while nothing of the
    partition waits unread has the watermark newest - lateness + (S - idle_seconds): it moves on with engine time.

    A source's own watermark (`mark`) is the least over the partitions in which it has been seen, and never goes back;
    while another partition has a backlog it stays `hold` behind, for the source may be in there. A source that comes
    to a further partition is judged by what has been passed already.
    """

    # -- what a step tells ---------------------------------------------------------------------------------------

    def know(self, partition: int) -> None:
        """A partition exists; until it is known to be read to its end, it has a backlog."""
        if partition not in self._partitions:
            self._partitions[partition] = PartitionState()

    def observe(
        self,
        partition: Numbers,
        sources: pl.Series,
        event_time: Times,
        elapsed: float,
        wall: float,
        *,
        watermarks: bool = False,
    ) -> Judged:
        """Take records, those of each partition in offset order, and judge them."""
        self._pass(elapsed)
        if few(len(event_time)) and not watermarks:
            return self._observe_few(partition, sources, event_time, elapsed, wall)
        names = sources.fill_null("") if sources.null_count() else sources
        rows, seen = self._crowded_together(pl.DataFrame({"partition": partition, "source": names, "time": event_time}))
        slots = self._places(seen)
        self._tell_clocks(seen, slots)
        before = self._watermarks(np.array(slots, np.intp))
        late = self._judge(rows, seen, slots, before)
        marks = self._running(rows, self._clocks(seen, slots, before)) if watermarks else None
        self.skew.look(rows, seen, self._moving, elapsed, wall)
        if late.any():
            count_late(rows.filter(pl.Series(late)), seen)
        self._take(seen, slots, before.tolist())
        return Judged(late, None if marks is None else marks["watermark"].to_numpy(), seen)

    def take(self, seen: Sequence[Arrival], elapsed: float) -> None:
        """Move the clocks by records that a copy of them has judged: that of a task, for the partitions it read."""
        self._pass(elapsed)
        for one in seen:
            one.source = self.table.known_as(one.source)
        slots = self._places(seen)
        self.skew.take(seen, elapsed)
        self._take(seen, slots, self._watermarks(np.array(slots, np.intp)).tolist())

    def _observe_few(
        self, partition: Numbers, sources: pl.Series, event_time: Times, elapsed: float, wall: float
    ) -> Judged:
        """The same, record by record: queries would cost more."""
        names = self._known_as(sources.to_list())
        numbers, times = partition.tolist(), event_time.tolist()
        seen = arrivals_of_few(numbers, names, times)
        slots = self._places(seen)
        before = [self._watermark(slot) for slot in slots]
        late = np.zeros(len(times), dtype=np.bool_)
        if any(one.least < max(mark, one.greatest - self.lateness) for one, mark in zip(seen, before, strict=True)):
            places = {(one.partition, one.source): (one, mark) for one, mark in zip(seen, before, strict=True)}
            self._judge_few(zip(numbers, names, strict=True), times, places, late)
        if self.skew.due_to_look(elapsed):
            self._tell_clocks(seen, slots)
            rows = pl.DataFrame({"partition": partition, "source": names, "time": event_time})
            self.skew.look(rows, seen, self._moving, elapsed, wall)
        self._take(seen, slots, before)
        return Judged(late, seen=seen)

    def _judge_few(
        self, whose: Iterable[Place], times: Iterable[int], places: Mapping[Place, tuple[Arrival, int]], late: Mask
    ) -> None:
        """Mark the late records. `places`: what has arrived, and the watermarks before."""
        marks = {place: mark for place, (_, mark) in places.items()}
        for row, (place, time) in enumerate(zip(whose, times, strict=True)):
            if time < marks[place]:
                late[row] = True
                places[place][0].late += 1
            elif time - self.lateness > marks[place]:
                marks[place] = time - self.lateness

    def _known_as(self, sources: list[str | None]) -> list[str]:
        """What sources are called, made known in the order in which they come."""
        names = {source: self.table.known_as(source or "") for source in dict.fromkeys(sources)}
        return [names[source] for source in sources]

    def _places(self, seen: Sequence[Arrival]) -> list[int]:
        """The clocks of what has arrived, made where there are none."""
        for number in {one.partition for one in seen}:
            self.know(number)
        return self.table.places(seen, self._quiet())

    def _tell_clocks(self, seen: Sequence[Arrival], slots: Sequence[int]) -> None:
        for one, newest in zip(seen, self.table.newest[slots].tolist(), strict=True):
            one.clock = one.greatest if one.greatest > newest else newest

    def _crowded_together(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, Sequence[Arrival]]:
        """What has arrived, with the sources beyond the limit under one name."""
        seen = arrivals(rows)
        table = self.table
        beyond = [
            one.source for one in seen if one.source not in table.ids and table.known_as(one.source) != one.source
        ]
        if not beyond:
            return rows, seen
        source = pl.col("source")
        rows = rows.with_columns(pl.when(source.is_in(beyond)).then(pl.lit(OTHERS)).otherwise(source).alias("source"))
        return rows, arrivals(rows)

    def _judge(self, rows: pl.DataFrame, seen: Sequence[Arrival], slots: Sequence[int], before: Times) -> Mask:
        """Which records are late: only sources of which one may be are looked at record by record."""
        late = np.zeros(len(rows), dtype=np.bool_)
        doubtful = self._behind_their_partition(rows)
        chosen = []
        for place, (one, mark) in enumerate(zip(seen, before.tolist(), strict=True)):
            behind = (one.partition, one.source) in doubtful
            if one.least < mark or (behind and one.least < one.greatest - self.lateness):
                chosen.append(place)
        if chosen:
            clocks = self._clocks([seen[n] for n in chosen], [slots[n] for n in chosen], before[chosen])
            found = self._running(rows, clocks).filter(pl.col("time") < pl.col("watermark"))
            late[found["row"].to_numpy()] = True
        return late

    def _clocks(self, seen: Sequence[Arrival], slots: Sequence[int], before: Times) -> pl.DataFrame:
        """How far clocks are: partition, source, newest, mark."""
        columns = {"newest": self.table.newest[list(slots)], "mark": before}
        places = {"partition": [one.partition for one in seen], "source": [one.source for one in seen]}
        return pl.DataFrame(places | columns, schema_overrides={"partition": pl.Int32(), "source": pl.String()})

    def _running(self, rows: pl.DataFrame, clocks: pl.DataFrame) -> pl.DataFrame:
        """The records of these clocks, each with the `watermark` before it."""
        place = ["partition", "source"]
        earlier = pl.max_horizontal(pl.col("time").cum_max().shift(1).over(place), "newest")
        watermark = pl.max_horizontal(earlier - self.lateness, "mark").alias("watermark")
        joined = rows.with_row_index("row").join(clocks, on=place, how="inner", maintain_order="left")
        return joined.with_columns(watermark)

    def _behind_their_partition(self, rows: pl.DataFrame) -> set[tuple[int, str]]:
        """Sources with a record more than the lateness behind the newest of all sources of its partition.

        Who is not behind the fastest clock is not behind its own, and one pass over the times tells.
        """
        if rows.is_empty():
            return set()
        partition = rows["partition"].to_numpy()
        if (partition[1:] < partition[:-1]).any():
            rows = rows[np.argsort(partition, kind="stable")]
            partition = rows["partition"].to_numpy()
        time = rows["time"].to_numpy()
        cuts = [0, *(np.flatnonzero(np.diff(partition)) + 1).tolist(), len(time)]
        behind = np.zeros(len(time), np.bool_)
        for start, end in pairwise(cuts):
            mine, newest = time[start:end], self._partitions[int(partition[start])].newest
            behind[start:end] = mine < np.maximum(np.maximum.accumulate(mine), newest) - self.lateness
        if not behind.any():
            return set()
        return set(rows.filter(pl.Series(behind)).select("partition", "source").unique().iter_rows())

    def _take(self, seen: Sequence[Arrival], slots: Sequence[int], before: Sequence[int]) -> None:
        """Move the clocks. `before`: the watermark of each until now."""
        table = self.table
        sources = table.source[slots].tolist()
        self._touched.update(sources)
        for one, slot, source, mark in zip(seen, slots, sources, before, strict=True):
            state = self._partitions[one.partition]
            if one.late:
                table.late[source] += one.late
            if one.greatest > table.newest[slot]:
                table.floor[slot], table.newest[slot], table.moved[slot] = mark, one.greatest, state.quiet
                if one.greatest > state.newest:
                    state.newest = one.greatest

    def advance(self, elapsed: float, waiting: Iterable[int]) -> Marks:
        """Time has come to `elapsed`, and the partitions `waiting` have unread messages: move the watermarks."""
        self._pass(elapsed)
        turned = self._wait_for(set(waiting))
        self.sweep = None
        if elapsed - self._swept >= SWEEP_SECONDS or (turned and len(self.table) <= FEW_SOURCES):
            found = self._sweep(elapsed)
        elif len(self._touched) <= FEW_TOUCHED:
            found = self._merge_few()
        else:
            touched = [slot for source in self._touched for slot in self.table.slots_of[source]]
            found = self._merge(np.array(touched, np.intp))
        self._touched = set()
        return Marks(found, found.pop(OTHERS, None))

    def _sweep(self, elapsed: float) -> dict[str, int]:
        """Move the watermarks of all sources."""
        self._swept, clocks = elapsed, len(self.table)
        found = self._merge(np.arange(clocks))
        self._forget(elapsed)
        waiting = frozenset(number for number, state in self._partitions.items() if state.waiting)
        self.sweep = Sweep(waiting, self._quiet(), forgot=len(self.table) < clocks)
        return found

    def replay(self, sweeps: Iterable[tuple[int, Sweep]], known: Times) -> None:
        """Move the watermarks as earlier steps did, each with its number, oldest first. `known`: by source, up to which
        step its watermark has been moved; its clocks have not moved since."""
        now = self._partitions
        for number, sweep in sweeps:
            self._partitions = {
                partition: PartitionState(state.newest, sweep.quiet.get(partition, 0.0), partition in sweep.waiting)
                for partition, state in now.items()
            }
            self._merge(np.flatnonzero(known[self.table.source] < number))
        self._partitions = now

    def _wait_for(self, waiting: Set[int]) -> bool:
        """Tell the partitions whether they have unread messages; whether that is new of one."""
        turned = False
        for number, state in self._partitions.items():
            if state.waiting != (number in waiting):
                state.waiting, turned = not state.waiting, True
        return turned

    def _merge_few(self) -> dict[str, int]:
        """Move the watermarks of the sources that have sent something, one by one: columns would cost more."""
        table, found = self.table, {}
        waiting = {number for number, state in self._partitions.items() if state.waiting}
        for source in self._touched:
            slots = table.slots_of[source]
            least = min(self._watermark(slot) for slot in slots)
            if not waiting <= {int(table.partition[slot]) for slot in slots}:
                least -= self.hold
            if least > table.mark[source]:
                table.mark[source] = found[table.names[source]] = least
        return found

    def _merge(self, slots: Slots) -> dict[str, int]:
        """Move the watermarks of the sources with these clocks (all clocks of a source, or none)."""
        if not len(slots):
            return {}
        sources = self.table.source[slots]
        least = np.full(len(self.table.names), 2**62, np.int64)
        np.minimum.at(least, sources, self._watermarks(slots))
        waiting = [number for number, state in self._partitions.items() if state.waiting]
        if waiting:
            seen = sources[np.isin(self.table.partition[slots], waiting)]
            missed = np.bincount(seen, minlength=len(least)) < len(waiting)
            least[missed] -= self.hold
        touched = np.flatnonzero(np.bincount(sources, minlength=len(least)))
        ahead = touched[least[touched] > self.table.mark[touched]]
        self.table.mark[ahead] = least[ahead]
        return {self.table.names[source]: int(self.table.mark[source]) for source in ahead.tolist()}

    def _pass(self, elapsed: float) -> None:
        """Let engine time pass: for partitions of which nothing waits it is silence."""
        seconds = max(0.0, elapsed - self._elapsed)
        self._elapsed = max(self._elapsed, elapsed)
        if seconds:
            for state in self._partitions.values():
                if not state.waiting:
                    state.quiet += seconds

    def _forget(self, elapsed: float) -> None:
        """Give up the places of sources that have been idle for very long."""
        if elapsed - self._looked < LOOK_SECONDS:
            return
        self._looked = elapsed
        slots = np.arange(len(self.table))
        gone = self._silence(slots) > FORGET_SECONDS
        if gone.any():
            self.table.keep(~gone)
