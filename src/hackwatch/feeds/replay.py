"""Replay of a recorded CSV at the pace that its stream declares: random counts per entity and cycle, late records.

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

from hackwatch import streams
from hackwatch.clock import Clock, SystemClock
from hackwatch.errors import ConfigurationError, DataError, ResourceError
from hackwatch.feeds.pace import OnProgress, Progress, wait_until
from hackwatch.streams.fields import Kind
from hackwatch.streams.stream import DecodeOptions, Messages, Pace, Stream
from hackwatch.topics.topic import TopicWriter

__all__ = [
    "Cycle", "Recording", "Replay", "Sending", "Shape", "check_recording", "read_recording", "replayable", "schedule",
]  # fmt: skip

Shape = Literal["array", "record"]

#: Rows that must hold a record for a recording to be sent.
_TRIED = 1000


def replayable(name: str) -> tuple[Stream, Pace]:
    """The stream of that name, and the pace of its recordings. Raises ConfigurationError if it has none."""
    stream = streams.find(name)
    if stream is None or stream.pace is None:
        paced = [known for known in streams.in_order(streams.names()) if streams.get(known).pace is not None]
        raise ConfigurationError(
            f"recordings of {name!r} have no pace",
            next_step=f"replay one of: {', '.join(paced)}; or follow the file: hackwatch feed follow FILE --as STREAM",
        )
    return stream, stream.pace


@dataclass(frozen=True, slots=True)
class Sending:
    """Rows `first`.. of an entity's data (counted on without end), stamped with the time of cycle `stamp`."""

    entity: str
    first: int
    count: int
    stamp: int


@dataclass(frozen=True, slots=True)
class Cycle:
    """What is sent at `number * pace.seconds` after the start; an entity's late records come before its new ones."""

    number: int
    sendings: tuple[Sending, ...]


def schedule(pace: Pace, entities: Sequence[str], seed: int, cycles: int | None = None) -> Iterator[Cycle]:
    """The cycles of a replay, endless without `cycles`; the same seed gives the same.

    With late records and `cycles`, one more cycle sends the last late ones: nothing that was drawn is left out.
    """
    draw = random.Random(seed)
    position = dict.fromkeys(entities, 0)
    late: dict[str, Sending] = {}
    number = 0
    while cycles is None or number < cycles:
        sendings = []
        for entity in entities:
            if entity in late:
                sendings.append(late.pop(entity))
            count, behind = draw.randint(pace.least, pace.most), draw.randint(0, pace.late)
            sendings.append(Sending(entity, position[entity], count, number))
            if behind:
                late[entity] = Sending(entity, position[entity] + count, behind, number)
            position[entity] += count + behind
        yield Cycle(number, tuple(sendings))
        number += 1
    if late:
        yield Cycle(number, tuple(late.values()))


class Recording:
    """Recorded rows of each entity, in sequence; `rows` starts again from the first when they are exhausted.

    `time`: the field that says when, which the rows lack.
    """

    def __init__(self, frames: dict[str, pl.DataFrame], time: str) -> None:
        self._frames, self.time = frames, time
        self.entities = tuple(frames)

    def rows(self, entity: str, first: int, count: int) -> pl.DataFrame:
        """Rows `first`..`first + count` of an entity, the data repeated without end."""
        frame = self._frames[entity]
        parts = []
        while count:
            start = first % frame.height
            part = frame.slice(start, count)
            parts.append(part)
            first, count = first + part.height, count - part.height
        return pl.concat(parts) if parts else frame.clear()


def read_recording(path: Path, stream: Stream, entities: Sequence[str] = (), *, strings: bool = False) -> Recording:
    """Read a CSV (header, byte order mark, gzip or zstd are fine) and give each entity its rows.

    With the stream's column of entities each has its own rows (of those in `entities`, if given); without it every one
    of `entities` (by default those of the stream's pace) walks through all rows. Rows are in the pace's `order`.
    Numbers are sent as numbers, or with `strings` every value as text (an empty one as `""`). Raises DataError,
    ConfigurationError.
    """
    frame = _read_csv(path)
    order = stream.pace.order if stream.pace is not None else None
    if order in frame.columns:
        frame = frame.sort(pl.col(order).str.strip_chars().cast(pl.Int64, strict=False), maintain_order=True)
    frames = _by_entity(frame, path, stream, tuple(entities))
    sent = {entity: _sent(rows, stream, order, strings=strings) for entity, rows in frames.items()}
    return Recording(sent, _time(stream))


def check_recording(recording: Recording, stream: Stream, path: Path) -> None:
    """Raise DataError if none of the first rows is a record of the stream: nothing else would become of the others."""
    rows = recording.rows(recording.entities[0], 0, _TRIED).with_columns(pl.lit(1).alias(recording.time))
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


def _by_entity(frame: pl.DataFrame, path: Path, stream: Stream, entities: tuple[str, ...]) -> dict[str, pl.DataFrame]:
    column = stream.entity
    if column not in frame.columns:
        names = entities or (stream.pace.entities if stream.pace is not None else ())
        if not names:
            raise DataError(
                f"the recording has no column {column}", where=str(path), next_step="say whom to play: --entities a,b"
            )
        return {name: frame.with_columns(pl.lit(name).alias(column)) for name in names}
    parts = frame.with_columns(pl.col(column).str.strip_chars()).partition_by(column, maintain_order=True)
    found = {str(part[column][0]): part for part in parts}
    missing = [name for name in entities if name not in found]
    if missing:
        raise ConfigurationError(
            f"the recording has no {stream.noun.singular} {', '.join(missing)}",
            where=str(path),
            next_step=f"it has {', '.join(found)}",
        )
    return {name: found[name] for name in entities or found}


def _time(stream: Stream) -> str:
    """The field that says when; `hackwatch.streams.checks` sees to it that streams with a pace have one."""
    return next(item.name for item in stream.fields if item.kind in (Kind.TIME, Kind.MOMENT))


def _texts(stream: Stream) -> frozenset[str]:
    """Fields that are text even if every value looks like a number; the names of entities may be numbers."""
    fields = (*stream.fields, *(stream.truth.fields if stream.truth is not None else ()))
    return frozenset(item.name for item in fields if item.is_text) - {stream.entity}


def _sent(rows: pl.DataFrame, stream: Stream, order: str | None, *, strings: bool) -> pl.DataFrame:
    """The columns as sent, without the time: order and entity first, numbers as numbers unless `strings`."""
    if order is not None and order not in rows.columns:
        rows = rows.with_columns(pl.int_range(1, pl.len() + 1).cast(pl.String).alias(order))
    first, texts = [*([order] if order is not None else []), stream.entity], _texts(stream)
    rows = rows.select(*first, *(name for name in rows.columns if name not in {*first, _time(stream)}))
    if strings:
        return rows.fill_null("")
    return rows.with_columns(_number(rows[name]) for name in rows.columns if name not in texts)


def _number(column: pl.Series) -> pl.Series:
    trimmed = column.str.strip_chars()
    for kind in (pl.Int64(), pl.Float64()):
        cast = trimmed.cast(kind, strict=False)
        if cast.null_count() == column.null_count() and (kind == pl.Int64 or cast.is_finite().all()):
            return cast
    return column


class Replay:
    """Sends a recording to a topic.

    `shape` "array": one message a cycle and entity, an array of its records; "record": one message each. `keyed`:
    messages of an entity share a partition. `speed`: so many times faster than recorded; the time of a record is always
    that of sending (a late one's: that of its cycle), whole Unix seconds.
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
        for cycle in schedule(self._pace, self._recording.entities, self._seed, self._cycles):
            if not wait_until(self._clock, stop, start + cycle.number * self._pace.seconds / self._speed):
                break
            stamps = {
                cycle.number: int(self._clock.wall()),
                **{k: v for k, v in stamps.items() if k >= cycle.number - 1},
            }
            for entity, messages, records in self._messages(cycle, stamps):
                writer.append(messages, key=entity if self._keyed else None)
                size = sum(len(message) + 1 for message in messages)
                sent = Progress(sent.messages + len(messages), sent.records + records, sent.bytes + size)
            writer.flush()
            if on_progress:
                on_progress(sent)
        return sent

    def _messages(self, cycle: Cycle, stamps: dict[int, int]) -> Iterator[tuple[str, list[bytes], int]]:
        """(entity, messages, number of records) of one cycle."""
        by_entity: dict[str, list[pl.DataFrame]] = {}
        for sending in cycle.sendings:
            rows = self._recording.rows(sending.entity, sending.first, sending.count)
            stamp = pl.lit(str(stamps[sending.stamp]) if self._strings else stamps[sending.stamp])
            by_entity.setdefault(sending.entity, []).append(rows.with_columns(stamp.alias(self._recording.time)))
        for entity, frames in by_entity.items():
            lines = pl.concat(frames).write_ndjson().encode().split(b"\n")[:-1]
            yield entity, [b"[" + b",".join(lines) + b"]"] if self._shape == "array" else lines, len(lines)
