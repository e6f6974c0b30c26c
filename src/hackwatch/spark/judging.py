"""What a task decides of the records of its partitions and counts of them, and how the driver merges that.

A task owns the partitions that it reads, so it judges their records as the embedded engine does, by the clocks and keys
in their files; what it found goes back, and the driver moves the clocks of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.pipeline.aggregates import Aggregates
from hackwatch.pipeline.arrivals import Arrival, joined, to_frame
from hackwatch.pipeline.clocks import Marks
from hackwatch.pipeline.duplicates import Duplicates
from hackwatch.pipeline.streamstate import StreamState, declared_aggregates, source_names
from hackwatch.spark.ipc import to_ipc
from hackwatch.spark.partitionfiles import PartitionFiles
from hackwatch.spark.plan import ARRIVED, COUNTED, KEYS, SUSPECTS, Known, Plan, Told, suspects_schema
from hackwatch.spark.statefiles import keys_name, read_state, write_state
from hackwatch.spark.taskclocks import TaskClocks
from hackwatch.streams.stream import Stream, microseconds

__all__ = ["Judge", "known", "merged"]

Mask = npt.NDArray[np.bool_]


class Judge:
    """The state of a stream as far as one task of one batch needs it."""

    def __init__(self, plan: Plan, stream: Stream) -> None:
        self._plan, self._stream, options = plan, stream, plan.options
        self._clocks = TaskClocks(options, plan.known.clocks)
        self._aggregates = [Aggregates(one, stream) for one in declared_aggregates(stream, options)]
        for aggregates, lengths in zip(self._aggregates, plan.known.lengths, strict=True):
            aggregates.lengths = lengths
        self._keys: dict[int, Duplicates] = {}
        self._seen: list[Arrival] = []
        self._suspects: list[pl.DataFrame] = []

    def judge(self, records: pl.DataFrame) -> tuple[Mask, Mask]:
        """Which records are late, and which repeat one of their partition; those of each partition in offset order."""
        plan, keyed = self._plan, self._plan.options.stream.duplicates_key is not None and "key" in records.columns
        partition, event_time = records["partition"].to_numpy(), microseconds(records["event_time"])
        sources = source_names(self._stream, records)
        judged = self._clocks.observe(partition, sources, event_time, plan.elapsed, plan.wall, watermarks=keyed)
        self._seen += judged.seen
        repeated = np.zeros(len(event_time), np.bool_)
        if judged.watermarks is not None:
            for number in np.unique(partition).tolist():
                mine = np.flatnonzero(partition == number)
                repeated[mine] = self._keys_of(number).step(
                    records["key"][mine], sources[mine], event_time[mine], judged.watermarks[mine], judged.late[mine]
                )
        return judged.late, repeated

    def _keys_of(self, partition: int) -> Duplicates:
        found = self._keys.get(partition)
        if found is None:
            found = self._keys[partition] = Duplicates()
            known = self._plan.known
            if (epoch := known.keys.get(partition)) is not None:
                found.restore(read_state(known.clocks.folder, keys_name(partition, epoch)))
        return found

    def count(self, on_time: pl.DataFrame) -> None:
        """Take the records that are neither late nor repeated, scored."""
        for aggregates in self._aggregates:
            aggregates.add(on_time)
        if self._plan.suspects:
            suspects = on_time[np.flatnonzero(on_time["prediction"].to_numpy())]
            if len(suspects):
                self._suspects.append(suspects.select(suspects_schema(self._stream).names()))

    def found(self) -> dict[str, bytes]:
        """The frames that go to the driver (see `plan`)."""
        frames = {ARRIVED: to_ipc(to_frame(joined(self._seen)))} if self._seen else {}
        if self._suspects:
            frames[SUSPECTS] = to_ipc(pl.concat(self._suspects))
        for aggregates in self._aggregates:
            if aggregates.has_open():
                counted = aggregates.snapshot().filter(pl.col("_rows") > 0)
                frames[f"{COUNTED}{aggregates.aggregate.name}"] = to_ipc(counted)
        for number, keys in self._keys.items():
            keys.evict(partial(self._clocks.passed, number))
            frames[f"{KEYS}{number}"] = self._kept(number, to_ipc(keys.snapshot()))
        return frames

    def _kept(self, partition: int, keys: bytes) -> bytes:
        """Write the keys of a partition where that is possible; what is left for the driver to write. A copy of the
        task writes the same."""
        if (folder := self._plan.known.keys_folder) is None:
            return keys
        write_state(folder, keys_name(partition, self._plan.epoch), keys)
        return b""


def known(state: StreamState, files: PartitionFiles) -> Known:
    """What tasks need of the state of a stream, before a batch."""
    lengths = tuple(one.lengths for one in state.aggregates)
    return Known(files.clocks.known(state.clocks), dict(files.keys), files.folder.local, lengths)


def merged(state: StreamState, told: Told, elapsed: float, waiting: Iterable[int]) -> Marks:
    """Take what all tasks of a batch have told into the state of the stream; the watermarks that it has moved.

    `waiting`: the partitions that have more messages.
    """
    state.clocks.take(told.arrivals, elapsed)
    for aggregates in state.aggregates:
        for counted in told.counted.get(aggregates.aggregate.name, ()):
            aggregates.merge(counted)
    return state.clocks.advance(elapsed, waiting)
