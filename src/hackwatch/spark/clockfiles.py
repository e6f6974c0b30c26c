"""The clocks of a stream in files: of each partition one with all of its clocks, and some with what has changed since.

The driver holds the clocks of all sources in memory, and alone knows their watermarks, which depend on all partitions.
After a batch it writes only the clocks that the batch has moved; once these come to half of a partition's, all of them
into one file. Time moves the watermarks of silent sources without a file: sweeps, the moments when all clocks were
looked at, are kept with the commit, and whoever reads the files repeats them. Of two sweeps the earlier one moves
nobody any more if the later one found no other partition with unread messages; so there are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.pipeline.arrivals import Arrival
from hackwatch.pipeline.clocks import SourceClocks
from hackwatch.pipeline.clocktable import CLOCKS, ROWS, SOURCES
from hackwatch.pipeline.marks import Sweep
from hackwatch.spark.ipc import from_ipc, to_ipc
from hackwatch.spark.statefiles import StateFiles, StateFolder, clocks_name

__all__ = ["ClockFiles", "KnownClocks", "fill", "read_rows"]

#: A partition with so few clocks is always written as a whole.
FEW_CLOCKS = 1_000
#: Files of a partition, and sweeps, at the most; then all is written again.
MOST_FILES, MOST_SWEEPS = 32, 32
#: Clocks in files: ROWS, and the epoch of the file.
_STORED = pl.Schema({**ROWS, "epoch": pl.Int64()})

Sweeps = Sequence[tuple[int, Sweep]]
Slots = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class KnownClocks:
    """What tasks are told of clocks: it does not grow with their number.

    `small`: see SourceClocks.summary. `sources`: how many have a clock. `files`: by partition the epochs whose files
    hold its clocks, in `folder`. `sweeps`: (epoch, sweep), oldest first.
    """

    small: Mapping[str, Any]
    sources: int
    files: Mapping[int, Sequence[int]]
    sweeps: Sweeps
    folder: StateFolder


def read_rows(
    read: Callable[[str], bytes], partition: int, epochs: Iterable[int], names: pl.Series | None = None
) -> pl.DataFrame:
    """The clocks of a partition as _STORED, of all its sources or of these; `read` gives a file's content."""
    found = [_STORED.to_frame()]
    for epoch in epochs:
        rows = from_ipc(read(clocks_name(partition, epoch)))
        if names is not None:
            rows = rows.filter(pl.col("source").is_in(names.implode()))
        found.append(rows.with_columns(pl.lit(epoch, pl.Int64()).alias("epoch")))
    whole = pl.concat(found)
    return whole if len(found) == 2 else whole.unique("source", keep="last", maintain_order=True)


def fill(clocks: SourceClocks, small: Mapping[str, Any], rows: pl.DataFrame, sweeps: Sweeps) -> None:
    """Give clocks (made of nothing) what was kept: all clocks of each of their sources, as _STORED."""
    rows = rows.sort("number")
    columns = (pl.col("mark").max(), pl.col("late").max(), pl.col("epoch").max())
    sources = rows.group_by("source", maintain_order=True).agg(*columns)
    clocks.take_up(small, rows.select(CLOCKS.names()), sources.select(SOURCES.names()))
    clocks.table.supersede_before()
    clocks.replay(sweeps, sources["epoch"].to_numpy())


class ClockFiles:
    """The driver's side: which files hold the clocks, and what goes into new ones."""

    def __init__(self, files: StateFiles) -> None:
        self._files = files
        #: By partition the files that hold its clocks: epoch, and how many clocks are in it.
        self._written: dict[int, list[tuple[int, int]]] = {}
        self._sweeps: list[tuple[int, Sweep]] = []

    # -- what a commit names -----------------------------------------------------------------------------------------

    def names(self) -> set[str]:
        """The files that hold the clocks now."""
        return {clocks_name(partition, epoch) for partition, files in self._written.items() for epoch, _ in files}

    def snapshot(self) -> dict[str, Any]:
        """What the commit keeps."""
        sweeps = [[epoch, sorted(one.waiting), sorted(one.quiet.items()), one.forgot] for epoch, one in self._sweeps]
        return {"files": sorted(self._written.items()), "sweeps": sweeps}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Take up what a commit has kept."""
        self._written = {partition: [(epoch, rows) for epoch, rows in files] for partition, files in snapshot["files"]}
        self._sweeps = [
            (epoch, Sweep(frozenset(waiting), dict(quiet), forgot))
            for epoch, waiting, quiet, forgot in snapshot["sweeps"]
        ]

    def read(self, clocks: SourceClocks, small: Mapping[str, Any]) -> None:
        """Give clocks (made of nothing) what the files hold. Raises DataError (lost, damaged)."""
        rows = [read_rows(self._files.read, partition, epochs) for partition, epochs in self._epochs().items()]
        fill(clocks, small, pl.concat([_STORED.to_frame(), *rows]), self._sweeps)

    def known(self, clocks: SourceClocks) -> KnownClocks:
        """What tasks are told."""
        folder = self._files.for_tasks()
        return KnownClocks(clocks.summary(), len(clocks.table.names), self._epochs(), tuple(self._sweeps), folder)

    def _epochs(self) -> dict[int, tuple[int, ...]]:
        return {partition: tuple(epoch for epoch, _ in files) for partition, files in self._written.items()}

    # -- a batch -------------------------------------------------------------------------------------------------------

    def take(self, clocks: SourceClocks, arrivals: Sequence[Arrival], epoch: int) -> dict[str, bytes]:
        """Note what a batch has moved, whose records have been taken into the clocks; the files to be written."""
        sweep = clocks.sweep
        if sweep is not None:
            self._note(epoch, sweep)
        if len(self._sweeps) > MOST_SWEEPS or (sweep is not None and sweep.forgot):
            return self.take_all(clocks, epoch)
        slots = np.unique(np.array(clocks.table.find((one.partition, one.source) for one in arrivals), np.int64))
        partition, found = clocks.table.partition[slots], dict[str, bytes]()
        for number in np.unique(partition).tolist():
            found |= self._moved(clocks, number, slots[partition == number], epoch)
        return found

    def take_all(self, clocks: SourceClocks, epoch: int) -> dict[str, bytes]:
        """Note all clocks; the files to be written."""
        self._written, self._sweeps = {}, []
        found = dict[str, bytes]()
        for number in np.unique(clocks.table.partition).tolist():
            found |= self._whole(clocks, number, epoch)
        return found

    def _note(self, epoch: int, sweep: Sweep) -> None:
        oldest = min((files[0][0] for files in self._written.values()), default=epoch)
        kept = [(at, one) for at, one in self._sweeps if at > oldest and not sweep.waiting <= one.waiting]
        self._sweeps = [*kept, (epoch, sweep)]

    def _moved(self, clocks: SourceClocks, number: int, slots: Slots, epoch: int) -> dict[str, bytes]:
        written = self._written.get(number, [])
        whole, *changed = [rows for _, rows in written] or [0]
        if whole <= FEW_CLOCKS or len(written) >= MOST_FILES or sum(changed) + len(slots) >= whole / 2:
            return self._whole(clocks, number, epoch)
        self._written[number] = [*written, (epoch, len(slots))]
        return {clocks_name(number, epoch): to_ipc(clocks.table.rows(slots))}

    def _whole(self, clocks: SourceClocks, number: int, epoch: int) -> dict[str, bytes]:
        slots = np.flatnonzero(clocks.table.partition == number)
        self._written[number] = [(epoch, len(slots))]
        return {clocks_name(number, epoch): to_ipc(clocks.table.rows(slots))}
