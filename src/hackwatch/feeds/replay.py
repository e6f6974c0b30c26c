"""Replay of a recorded CSV with the classic pace: random counts per machine and cycle, late memory records.

The schedule is pure (`schedule`); `Replay` sends it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from hackwatch.clock import Clock, SystemClock
from hackwatch.errors import ConfigurationError, DataError, ResourceError
from hackwatch.feeds.pace import OnProgress, Progress, wait_until
from hackwatch.streams.base import DecodeOptions, Messages, Stream
from hackwatch.topics.base import TopicWriter

__all__ = [
    "PACES", "Cycle", "Pace", "Recording", "Replay", "Sending", "Shape", "check_recording", "pace_of",
    "read_recording", "schedule",
]  # fmt: skip

Shape = Literal["array", "record"]

#: Columns that are text even if every value looks like a number.
_TEXT = frozenset({"CMD", "Status", "State", "POLI", "type"})
#: Rows that must hold a record for a recording to be sent.
_TRIED = 1000


@dataclass(frozen=True, slots=True)
class Pace:
    """Each `seconds` a machine sends `least`..`most` new records, and up to `late` more one cycle later."""

    seconds: float
    least: int
    most: int
    late: int = 0


#: The pace of the producers that the course material calls for.
PACES = {"process": Pace(5.0, 10, 50), "memory": Pace(10.0, 20, 80, late=5)}


def pace_of(stream: str) -> Pace:
    """The pace of a stream's recording. Raises ConfigurationError for a stream that has none."""
    if stream not in PACES:
        raise ConfigurationError(
            f"recordings of {stream!r} have no pace",
            next_step=f"replay one of: {', '.join(PACES)}; or follow the file: hackwatch feed follow FILE --as STREAM",
        )
    return PACES[stream]


@dataclass(frozen=True, slots=True)
class Sending:
    """Rows `first`.. of a machine's data (counted on without end), stamped with the time of cycle `stamp`."""

    machine: str
    first: int
    count: int
    stamp: int


@dataclass(frozen=True, slots=True)
class Cycle:
    """What is sent at `number * pace.seconds` after the start; a machine's late records come before its new ones."""

    number: int
    sendings: tuple[Sending, ...]


def schedule(pace: Pace, machines: Sequence[str], seed: int, cycles: int | None = None) -> Iterator[Cycle]:
    """The cycles of a replay, endless without `cycles`; the same seed gives the same.

    With late records and `cycles`, one more cycle sends the last late ones: nothing that was drawn is left out.
    """
    draw = random.Random(seed)
    position = dict.fromkeys(machines, 0)
    late: dict[str, Sending] = {}
    number = 0
    while cycles is None or number < cycles:
        sendings = []
        for machine in machines:
            if machine in late:
                sendings.append(late.pop(machine))
            count, behind = draw.randint(pace.least, pace.most), draw.randint(0, pace.late)
            sendings.append(Sending(machine, position[machine], count, number))
            if behind:
                late[machine] = Sending(machine, position[machine] + count, behind, number)
            position[machine] += count + behind
        yield Cycle(number, tuple(sendings))
        number += 1
    if late:
        yield Cycle(number, tuple(late.values()))


class Recording:
    """Recorded rows of each machine, in sequence; `rows` starts again from the first when they are exhausted."""

    def __init__(self, frames: dict[str, pl.DataFrame]) -> None:
        self._frames = frames
        self.machines = tuple(frames)

    def rows(self, machine: str, first: int, count: int) -> pl.DataFrame:
        """Rows `first`..`first + count` of a machine, the data repeated without end."""
        frame = self._frames[machine]
        parts = []
        while count:
            start = first % frame.height
            part = frame.slice(start, count)
            parts.append(part)
            first, count = first + part.height, count - part.height
        return pl.concat(parts) if parts else frame.clear()


def read_recording(path: Path, machines: Sequence[str] = (), *, strings: bool = False) -> Recording:
    """Read a CSV (header, byte order mark, gzip or zstd are fine) and give each machine its rows.

    With a `machine` column each machine has its own rows (of those in `machines`, if given); without one every
    machine of `machines` (default 4..8) walks through all rows. Rows are ordered by `sequence`, which is made if it
    is missing. Numbers are sent as numbers, or with `strings` every value as text (an empty one as `""`). Raises
    DataError, ConfigurationError.
    """
    frame = _read_csv(path)
    if "sequence" in frame.columns:
        frame = frame.sort(pl.col("sequence").str.strip_chars().cast(pl.Int64, strict=False), maintain_order=True)
    frames = _by_machine(frame, path, tuple(machines))
    return Recording({machine: _sent(rows, strings=strings) for machine, rows in frames.items()})


def check_recording(recording: Recording, stream: Stream, path: Path) -> None:
    """Raise DataError if none of the first rows is a record of the stream: nothing else would become of the others."""
    rows = recording.rows(recording.machines[0], 0, _TRIED).with_columns(pl.lit(1).alias("ts"))
    payload = rows.write_ndjson().encode()
    decoded = stream.decode(Messages(str(path), 0, payload, np.arange(rows.height), rows.height), DecodeOptions())
    if decoded.records.is_empty():
        reason = decoded.rejected["reason"][0].partition(";")[0]
        raise DataError(
            f"this is no recording of {stream.name}: {reason}",
            where=str(path),
            next_step=f"give a CSV whose header names the columns of {stream.name} (docs/streams.md)",
        )


def _read_csv(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_csv(path, infer_schema=False, encoding="utf8-lossy")
    except OSError as error:
        raise ResourceError(
            f"cannot read the recording: {error.strerror or error}",
            where=str(path),
            next_step="let the user that runs hackwatch read it",
        ) from error
    except pl.exceptions.PolarsError as error:
        raise DataError(f"this is not a CSV with a header: {str(error).splitlines()[0]}", where=str(path)) from error
    if frame.is_empty():
        raise DataError("the recording has no rows", where=str(path))
    return frame.rename({name: name.strip().removeprefix("\ufeff") for name in frame.columns})


def _by_machine(frame: pl.DataFrame, path: Path, machines: tuple[str, ...]) -> dict[str, pl.DataFrame]:
    if "machine" not in frame.columns:
        names = machines or ("4", "5", "6", "7", "8")
        return {name: frame.with_columns(pl.lit(name).alias("machine")) for name in names}
    parts = frame.with_columns(pl.col("machine").str.strip_chars()).partition_by("machine", maintain_order=True)
    found = {str(part["machine"][0]): part for part in parts}
    missing = [name for name in machines if name not in found]
    if missing:
        raise ConfigurationError(
            f"the recording has no machine {', '.join(missing)}",
            where=str(path),
            next_step=f"it has {', '.join(found)}",
        )
    return {name: found[name] for name in machines or found}


def _sent(rows: pl.DataFrame, *, strings: bool) -> pl.DataFrame:
    """The columns as sent, without `ts`: `sequence` and `machine` first, numbers as numbers unless `strings`."""
    if "sequence" not in rows.columns:
        rows = rows.with_columns(pl.int_range(1, pl.len() + 1).cast(pl.String).alias("sequence"))
    first = ["sequence", "machine"]
    rows = rows.select(*first, *(name for name in rows.columns if name not in {*first, "ts"}))
    return rows.fill_null("") if strings else rows.with_columns(_number(rows[name]) for name in rows.columns)


def _number(column: pl.Series) -> pl.Series:
    if column.name in _TEXT:
        return column
    trimmed = column.str.strip_chars()
    for kind in (pl.Int64(), pl.Float64()):
        cast = trimmed.cast(kind, strict=False)
        if cast.null_count() == column.null_count() and (kind == pl.Int64 or cast.is_finite().all()):
            return cast
    return column


class Replay:
    """Sends a recording to a topic.

    `shape` "array": one message a cycle and machine, an array of its records; "record": one message each. `keyed`:
    messages of a machine share a partition. `speed`: so many times faster than recorded; `ts` is always the time of
    sending (a late record: that of its cycle), whole Unix seconds.
    """

    def __init__(
        self,
        recording: Recording,
        pace: Pace,
        *,
        seed: int = 0,
        cycles: int | None = None,
        speed: float = 1.0,
        shape: Shape = "array",
        keyed: bool = True,
        strings: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._recording, self._pace = recording, pace
        self._seed, self._cycles, self._speed = seed, cycles, speed
        self._shape, self._keyed, self._strings = shape, keyed, strings
        self._clock = clock or SystemClock()

    def run(self, writer: TopicWriter, stop: threading.Event, on_progress: OnProgress | None = None) -> Progress:
        """Send until the cycles are done or `stop` is set; what was sent."""
        start = self._clock.monotonic()
        stamps: dict[int, int] = {}
        sent = Progress(0, 0, 0)
        for cycle in schedule(self._pace, self._recording.machines, self._seed, self._cycles):
            if not wait_until(self._clock, stop, start + cycle.number * self._pace.seconds / self._speed):
                break
            stamps = {
                cycle.number: int(self._clock.wall()),
                **{k: v for k, v in stamps.items() if k >= cycle.number - 1},
            }
            for machine, messages, records in self._messages(cycle, stamps):
                writer.append(messages, key=machine if self._keyed else None)
                size = sum(len(message) + 1 for message in messages)
                sent = Progress(sent.messages + len(messages), sent.records + records, sent.bytes + size)
            writer.flush()
            if on_progress:
                on_progress(sent)
        return sent

    def _messages(self, cycle: Cycle, stamps: dict[int, int]) -> Iterator[tuple[str, list[bytes], int]]:
        """(machine, messages, number of records) of one cycle."""
        by_machine: dict[str, list[pl.DataFrame]] = {}
        for sending in cycle.sendings:
            rows = self._recording.rows(sending.machine, sending.first, sending.count)
            stamp = pl.lit(str(stamps[sending.stamp]) if self._strings else stamps[sending.stamp])
            by_machine.setdefault(sending.machine, []).append(rows.with_columns(stamp.alias("ts")))
        for machine, frames in by_machine.items():
            lines = pl.concat(frames).write_ndjson().encode().split(b"\n")[:-1]
            yield machine, [b"[" + b",".join(lines) + b"]"] if self._shape == "array" else lines, len(lines)
