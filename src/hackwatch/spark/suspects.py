"""What ingest leaves for the correlations: the suspects of each of its epochs, and how far the clocks were after it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import orjson
import polars as pl

from hackwatch.errors import DataError
from hackwatch.pipeline.clocks import NEVER, Marks
from hackwatch.spark.folder import Folder
from hackwatch.spark.ipc import from_ipc, to_ipc

__all__ = ["MARKS", "EpochSuspects", "SourceMarks", "Suspects"]

#: The watermarks of sources, microseconds.
MARKS = pl.Schema({"source": pl.String(), "mark": pl.Int64()})
_LENGTHS = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True, eq=False)
class EpochSuspects:
    """One epoch of a stream: its on-time suspects, in order of their positions, and what the clocks were after it.

    `moved`: MARKS of the sources that the epoch has moved; `others`: of those beyond the limit, if it moved. `slowest`,
    `typical`: of all sources.
    """

    rows: pl.DataFrame
    moved: pl.DataFrame
    others: int | None
    slowest: int
    typical: int

    @classmethod
    def of(cls, rows: pl.DataFrame, marks: Marks, slowest: int, typical: int) -> EpochSuspects:
        moved = pl.DataFrame({"source": list(marks.moved), "mark": list(marks.moved.values())}, schema=MARKS)
        return cls(rows, moved, marks.others, slowest, typical)

    def to_bytes(self) -> bytes:
        head = orjson.dumps([self.others, self.slowest, self.typical])
        moved = to_ipc(self.moved)
        return _LENGTHS.pack(len(head), len(moved)) + head + moved + to_ipc(self.rows)

    @classmethod
    def from_bytes(cls, content: bytes) -> EpochSuspects:
        head, moved = _LENGTHS.unpack_from(content)
        begin = _LENGTHS.size
        others, slowest, typical = orjson.loads(content[begin : begin + head])
        frames = (content[begin + head : begin + head + moved], content[begin + head + moved :])
        first, second = map(from_ipc, frames)
        return cls(second, first, others, slowest, typical)


class Suspects:
    """The epochs of one stream that some correlation still needs, as files by the epoch's number."""

    def __init__(self, stream: str, folder: Folder) -> None:
        self.stream, self._folder = stream, folder

    def write(self, epoch: int, found: EpochSuspects) -> None:
        """Keep an epoch; the same again takes its place."""
        self._folder.write(str(epoch), found.to_bytes())

    def read(self, epoch: int) -> EpochSuspects:
        """An epoch that was kept. Raises DataError if it is not there."""
        content = self._folder.read(str(epoch))
        if content is None:
            raise DataError(
                f"the checkpoint folder has lost what epoch {epoch} of {self.stream} left for the correlations",
                where=f"suspects of {self.stream}",
                next_step="put the checkpoint folder back, or give the settings another `pipeline` name: topics are "
                "then read from their start",
            )
        return EpochSuspects.from_bytes(content)

    def forget(self, until: int) -> None:
        """Delete the epochs up to this one."""
        names = [name for name in self._folder.names() if name.isdigit() and int(name) <= until]
        self._folder.delete(names)


class SourceMarks:
    """The watermarks of a stream's sources as of an epoch, put together from what each epoch has moved."""

    def __init__(self) -> None:
        self._marks: dict[str, int] = {}
        self._others: int | None = None
        self.slowest = self.typical = NEVER

    def take(self, epoch: EpochSuspects) -> None:
        """Go on by an epoch."""
        self._marks |= dict(epoch.moved.iter_rows())
        self._others = self._others if epoch.others is None else epoch.others
        self.slowest, self.typical = epoch.slowest, epoch.typical

    def mark(self, source: str) -> int:
        """The watermark of a source, NEVER for one that has not been seen."""
        return self._marks.get(source, NEVER if self._others is None else self._others)

    def snapshot(self) -> tuple[list[int | None], bytes]:
        """(small values, MARKS as an Arrow stream)."""
        frame = pl.DataFrame({"source": list(self._marks), "mark": list(self._marks.values())}, schema=MARKS)
        return [self._others, self.slowest, self.typical], to_ipc(frame)

    def restore(self, small: list[int], marks: bytes) -> None:
        self._others, self.slowest, self.typical = small
        self._marks = dict(from_ipc(marks).iter_rows())
