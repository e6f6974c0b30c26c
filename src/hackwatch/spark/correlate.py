"""The correlations: pairs of suspects that ingest has left, epoch by epoch of both streams, into lake and store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import polars as pl

from hackwatch import streams
from hackwatch.alerts.alert import Alert
from hackwatch.alerts.observed import Pairs
from hackwatch.pipeline.core import serialise
from hackwatch.pipeline.correlation import Correlator, pair_date
from hackwatch.pipeline.detection import SCORED
from hackwatch.pipeline.judged import lake_rows, processed_at
from hackwatch.spark.context import Context, Query
from hackwatch.spark.folder import open_folder
from hackwatch.spark.ipc import from_ipc, to_ipc
from hackwatch.spark.querycheckpoint import DRIVER, QueryCheckpoint
from hackwatch.spark.rounds import Rounds
from hackwatch.spark.spool import Waiting
from hackwatch.spark.suspects import EpochSuspects, SourceMarks, Suspects
from hackwatch.spark.upgrade import Before, earlier_pairs
from hackwatch.store.commits import BatchEntry, OffsetRange
from hackwatch.streams.declarations import Correlation
from hackwatch.streams.stream import POSITION

__all__ = ["Correlate", "Side", "next_epochs"]

#: In place of a topic in the log of a batch: which epochs of a stream it takes.
EPOCHS = "epochs"
#: How far (microseconds of event time) one stream may run ahead of the other that has more waiting.
ALIGNMENT = 120_000_000
#: Suspects that a batch takes, about.
MOST_ROWS = 200_000


class Side(Protocol):
    """What a correlation needs to know of the ingest of a stream."""

    @property
    def committed(self) -> int:
        """Its last epoch that is durable."""
        ...

    @property
    def since(self) -> Mapping[str, int]:
        """By correlation: the last epoch whose suspects were not kept for it."""
        ...

    @property
    def caught_up(self) -> bool:
        """Whether it has read all that was there."""
        ...

    @property
    def before(self) -> Before | None:
        """What version 0.1 has left of it, if it was the last one that ran."""
        ...

    @property
    def suspects(self) -> Suspects: ...

    @property
    def topic(self) -> str: ...


@dataclass(slots=True)
class _Reading:
    """How far a plan has come with one stream. `behind`: it has read less than is there."""

    side: Side
    at: int
    typical: int
    behind: bool
    end: int
    following: EpochSuspects | None = None

    def look(self) -> EpochSuspects | None:
        """The next epoch, None if there is none."""
        if self.following is None and self.at < self.end:
            self.following = self.side.suspects.read(self.at + 1)
        return self.following

    @property
    def coming(self) -> int:
        """How far in event time the stream is after its next epoch."""
        return self.typical if self.following is None else self.following.typical

    @property
    def waiting(self) -> bool:
        return self.behind or self.at < self.end

    def step(self) -> int:
        """Take the next epoch; how many suspects it has."""
        found = self.look()
        assert found is not None
        self.at, self.typical, self.following = self.at + 1, found.typical, None
        return len(found.rows)


def next_epochs(
    sides: Sequence[Side], done: Sequence[int], typical: Sequence[int], *, all_of_it: bool
) -> list[tuple[int, bool]]:
    """Up to which epoch of each of two streams the next batch goes, and whether more of it waits.

    It goes on with the stream that is behind in event time. While one has read less than is there, the other does not
    go far ahead of it: its suspects would wait for their partners. `all_of_it`: nothing more will come.
    """
    readings = []
    for side, at, time in zip(sides, done, typical, strict=True):
        behind = not (all_of_it or side.caught_up)  # asked first: it is said of what is committed by now
        readings.append(_Reading(side, at, time, behind, side.committed))
    rows = 0
    while rows < MOST_ROWS:
        ready = [one for one in readings if one.look() is not None]
        if not ready:
            break
        chosen = min(ready, key=lambda one: one.coming)
        if any(one.behind and one not in ready and chosen.coming > one.typical + ALIGNMENT for one in readings):
            break
        rows += chosen.step()
    return [(one.at, one.waiting) for one in readings]


class Correlate(Query):
    """One declared correlation. Its state is that of the embedded engine: suspects, and the clocks of both streams."""

    def __init__(self, context: Context, declared: Correlation, sides: Mapping[str, Side]) -> None:
        """`sides`: the ingest of each stream."""
        names = (declared.left, declared.right)
        super().__init__(context, f"correlation-{declared.name}", names)
        self.declared, self.names = declared, names
        self.left, self.right = (streams.get(name) for name in names)
        self._sides = {name: sides[name] for name in names}
        self.correlator = Correlator(declared, self.left, self.right, pl.Schema({**POSITION, **SCORED}))
        self._marks = {name: SourceMarks() for name in names}
        #: Pairs that version 0.1 has written already, and that will be found once more.
        self._ahead: pl.DataFrame | None = None
        self.all_of_it = False
        self._restore()

    def _restore(self) -> None:
        state, parts = self.checkpoint.state, self.checkpoint.parts
        #: By stream: the last epoch that is done.
        self.done = {
            name: max(state.get("done", {}).get(name, side.committed), side.since[self.declared.name])
            for name, side in self._sides.items()
        }
        if "marks" in state:
            self.correlator.restore({name: parts[f"suspects.{name}"] for name in self.names})
            for name, marks in self._marks.items():
                marks.restore(state["marks"][name], parts[f"marks.{name}"])
            if "ahead" in parts:
                self._ahead = from_ipc(parts["ahead"])
        elif self.checkpoint.epoch == 0:
            self._begin()

    def _begin(self) -> None:
        """Keep where it begins: what ingest did before the correlation was there is left out."""
        now = self.now()
        versions = self.versions()
        entry = self.patiently("store", lambda: self.checkpoint.begin(None, DRIVER, now, versions))
        assert entry is not None
        before = [self._sides[name].before for name in self.names]
        if before[0] is not None and before[1] is not None:
            self._take_up([before[0], before[1]], entry)
        self.patiently("store", partial(self._commit, entry, self.done))

    def _take_up(self, before: Sequence[Before], entry: BatchEntry) -> None:
        """Go on where a query of Spark, as version 0.1 had it, was."""
        settings = self.context.settings
        old = QueryCheckpoint(self.context.checkpoints, settings.pipeline, self.declared.name)
        if "policy" in old.state:
            self.policy.restore(old.state["policy"])
        checkpoint = f"{settings.spark_checkpoint}/{settings.pipeline}/{self.declared.name}/offsets"
        offsets = open_folder(self.context.spark, checkpoint)
        found = self.patiently(
            "lake", lambda: earlier_pairs(self.correlator, before, self.lake, old, offsets, entry.wall)
        )
        self._ahead = found.ahead
        self._tell(found.fresh, found.untold, entry)

    def start(self, *, available_now: bool) -> None:
        self.all_of_it = available_now
        self.running = Rounds(self.name, self.round, self.context.settings.spark.trigger_seconds)
        self.running.start(available_now=available_now)

    def round(self) -> bool:
        """A batch; False if there is nothing to take."""
        now = self.now()
        logged = self.checkpoint.logged(self.checkpoint.epoch + 1)
        if logged is not None:
            ranges, waiting = logged.ranges, logged.waiting
        else:
            ranges, waiting = self.patiently("checkpoint folder", self._plan)
        if not ranges:
            return False
        with self.open_gate():
            versions = self.versions()
            entry = self.patiently("store", lambda: self.checkpoint.begin(None, DRIVER, now, versions, ranges, waiting))
            assert entry is not None
            self._take(entry)
        return True

    def _plan(self) -> tuple[tuple[OffsetRange, ...], Waiting]:
        """Which epochs the next batch takes, and of which streams more waits."""
        found = next_epochs(
            [self._sides[name] for name in self.names],
            [self.done[name] for name in self.names],
            [self._marks[name].typical for name in self.names],
            all_of_it=self.all_of_it,
        )
        ranges = tuple(
            OffsetRange(name, EPOCHS, 0, self.done[name], end)
            for name, (end, _) in zip(self.names, found, strict=True)
            if end > self.done[name]
        )
        return ranges, tuple((name, 0) for name, (_, waiting) in zip(self.names, found, strict=True) if waiting)

    def _take(self, entry: BatchEntry) -> None:
        """Find the pairs of a batch, write them, and let go of what nothing can match any more."""
        found = {part.stream: self._read(part) for part in entry.ranges}
        suspects = [
            pl.concat([self.correlator.empty(stream), *(epoch.rows for epoch in found.get(stream.name, ()))])
            for stream in (self.left, self.right)
        ]
        pairs = self.correlator.step(*suspects)
        alerts = self._tell(*self._new(pairs), entry)
        for name, epochs in found.items():
            for epoch in epochs:
                self._marks[name].take(epoch)
        left, right = (self._marks[name] for name in self.names)
        waiting = [stream for stream, _ in entry.waiting]
        self.correlator.evict(left.mark, right.mark, (left.slowest, right.slowest), waiting)
        if not waiting:  # what waits is counted with what was before
            self.policy.evict(lambda _, entity: left.mark(entity) if self._entity_is_source else left.slowest)
        done = self.done | {part.stream: part.end for part in entry.ranges}
        self.patiently("store", partial(self._commit, entry, done))
        self.done = done
        self.context.observer.correlated(alerts, self.name, len(self.correlator))

    def _new(self, pairs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Those that are not in the lake yet, and those of which no alert has been told: all, but for an upgrade."""
        if self._ahead is None or pairs.is_empty():
            return pairs, pairs
        places = [name for name in self._ahead.columns if name != "told"]
        told = self._ahead.filter("told")
        return pairs.join(self._ahead, on=places, how="anti"), pairs.join(told, on=places, how="anti")

    def _tell(self, fresh: pl.DataFrame, untold: pl.DataFrame, entry: BatchEntry) -> list[Alert]:
        """Write pairs to the lake, and raise alerts of pairs."""
        if len(fresh):
            append = partial(
                self.lake.append, self.declared.name, self._rows(fresh, entry), entry.epoch, self.checkpoint.application
            )
            self.patiently(f"lake table {self.declared.name}", append)
        topics = {name: side.topic for name, side in self._sides.items()}
        champions = self.deciders(entry).champions
        alerts = self.policy.pairs(Pairs(self.declared, self.left, self.right, topics, untold), champions, entry.wall)
        updates = self.policy.take_updates()
        self.patiently("store", lambda: self.checkpoint.tell(alerts, updates))
        return alerts

    @property
    def _entity_is_source(self) -> bool:
        return self.left.source == self.left.entity

    def _read(self, part: OffsetRange) -> list[EpochSuspects]:
        suspects = self._sides[part.stream].suspects
        return [
            self.patiently("checkpoint folder", partial(suspects.read, epoch))
            for epoch in range(part.start + 1, part.end + 1)
        ]

    def _rows(self, pairs: pl.DataFrame, entry: BatchEntry) -> pl.DataFrame:
        """Pairs as the table has them."""
        dated = processed_at(pairs, entry.wall).with_columns(pair_date(self.left, self.right))
        return lake_rows(dated, self.context.settings.site)

    def _commit(self, entry: BatchEntry, done: Mapping[str, int]) -> None:
        parts = serialise({f"suspects.{name}": frame for name, frame in self.correlator.snapshot().items()})
        marks = {}
        for name, each in self._marks.items():
            marks[name], parts[f"marks.{name}"] = each.snapshot()
        if self._ahead is not None and len(self._ahead):
            parts["ahead"] = to_ipc(self._ahead)
        state = {"done": done, "marks": marks, "policy": self.policy.snapshot()}
        self.checkpoint.commit(entry, state, self.context.clock.wall(), parts=parts)
