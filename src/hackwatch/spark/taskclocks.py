"""The clocks of a task: of its partitions' files it takes up only the sources that have sent something."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.pipeline.clocks import SourceClocks
from hackwatch.pipeline.clocktable import CLOCKS, OTHERS, ROWS, SOURCES
from hackwatch.pipeline.marks import NEVER, Judged, Times
from hackwatch.pipeline.options import StreamOptions
from hackwatch.pipeline.streamstate import new_clocks
from hackwatch.spark.clockfiles import KnownClocks, fill, read_rows
from hackwatch.spark.statefiles import read_state

__all__ = ["TaskClocks"]


class TaskClocks(SourceClocks):
    """What the clocks of all sources would judge of the records of some partitions.

    A partition's files are read when its first records come. A source that is new to a partition may be known in
    others, and is then judged by what has been passed there: for it, the files of all partitions are looked through.
    """

    def __init__(self, options: StreamOptions, known: KnownClocks) -> None:
        super().__init__(
            options.stream.lateness_seconds,
            options.engine.idle_seconds,
            max_sources=options.max_sources,
            hold_seconds=options.hold_seconds,
        )
        self._options, self._known = options, known
        self.take_up(known.small, CLOCKS.to_frame(), SOURCES.to_frame())
        self._read = partial(read_state, known.folder)
        self._rows: dict[int, pl.DataFrame] = {}
        self._asked: set[tuple[int, str]] = set()
        #: So many sources may be new, beside all that are known: those that are taken up count as known.
        self.table.max_sources -= known.sources

    def observe(
        self,
        partition: npt.NDArray[np.int32],
        sources: pl.Series,
        event_time: Times,
        elapsed: float,
        wall: float,
        *,
        watermarks: bool = False,
    ) -> Judged:
        """See SourceClocks. Raises DataError (a file is lost, or damaged)."""
        came = pl.DataFrame({"partition": partition, "source": sources.fill_null("")}).unique()
        for (number,), names in came.sort("partition", "source").partition_by("partition", as_dict=True).items():
            self._load(number, names["source"].to_list())
        return super().observe(partition, sources, event_time, elapsed, wall, watermarks=watermarks)

    def passed(self, partition: int, names: Sequence[str]) -> list[int]:
        """The watermarks of sources in a partition, that of the shared clock for those without one there."""
        self._load(partition, names)
        slots = np.array(self.table.find((partition, name) for name in (OTHERS, *names)), np.intp)
        marks: dict[str, int] = dict(
            zip(
                (self.table.names[source] for source in self.table.source[slots].tolist()),
                self._watermarks(slots).tolist(),
                strict=True,
            )
        )
        others = marks.get(OTHERS, NEVER)
        return [marks.get(name, others) for name in names]

    def _load(self, partition: int, names: Sequence[str]) -> None:
        """Take up the clocks of these sources."""
        wanted = [name for name in (OTHERS, *names) if (partition, name) not in self._asked]
        if not wanted:
            return
        self._asked |= {(partition, name) for name in wanted}
        rows = self._of(partition)
        found = rows.filter(pl.col("source").is_in(wanted))
        self._add(found)
        there = set(found["source"].to_list())
        if missing := [name for name in wanted if name not in there and name != OTHERS]:
            self._look_elsewhere(missing)

    def _look_elsewhere(self, names: Iterable[str]) -> None:
        """Find how far sources are that are new to a partition."""
        wanted = pl.Series([*names, OTHERS]).unique()
        files = self._known.files.items()
        rows = pl.concat(
            [ROWS.to_frame().with_columns(epoch=pl.lit(0, pl.Int64()))]
            + [read_rows(self._read, number, epochs, wanted) for number, epochs in files]
        )
        if rows.is_empty():
            return
        exact = new_clocks(self._options)
        fill(exact, self._known.small, rows, self._known.sweeps)
        self._add(exact.table.rows(np.arange(len(exact))))
        for name, mark in zip(exact.table.names, exact.table.mark.tolist(), strict=True):
            self.table.mark[self.table.ids[name]] = mark

    def _add(self, rows: pl.DataFrame) -> None:
        sources = rows.group_by("source", maintain_order=True).agg(pl.col("mark", "late").max())
        self.table.max_sources += self.table.extend(rows.select(CLOCKS.names()), sources)

    def _of(self, partition: int) -> pl.DataFrame:
        """All clocks of a partition before the batch."""
        if partition not in self._rows:
            epochs = self._known.files.get(partition, ())
            self._rows[partition] = read_rows(self._read, partition, epochs)
        return self._rows[partition]

    def _moving(self, partition: int) -> Times:
        """See SourceClocks: those that are not taken up stand where they were."""
        rows = self._of(partition)
        mine = self.table.rows(np.flatnonzero(self.table.partition == partition))
        rest = rows.join(mine, on="source", how="anti").filter(pl.col("newest") > NEVER)
        silence = self._partitions[partition].quiet - rest["moved"].to_numpy()
        return np.concatenate([super()._moving(partition), rest["newest"].to_numpy()[silence <= self.idle_seconds]])
