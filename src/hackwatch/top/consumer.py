"""The plain consumer: counts the records of a topic per entity by the time of their arrival here. No engine.

Reads any topic of JSON objects, or of arrays of objects; commits nothing, so it disturbs no other reader.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import orjson
import polars as pl

from hackwatch.errors import DataError, ResourceError
from hackwatch.runtime.recent import RecentCounts
from hackwatch.streams import ENTITIES
from hackwatch.streams.payload import Lines, Pieces
from hackwatch.streams.stream import Messages, Noun
from hackwatch.topics.topic import TopicReader

__all__ = ["Consumer", "Flow", "entities"]

READ_BYTES = 1 << 20
DISCOVER_SECONDS = 1.0
WINDOW_SECONDS = 120.0
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Flow:
    """What has arrived. Times in Unix seconds, `seconds` since the beginning; `trouble`: why nothing can be read now.

    `entities`: name -> records of the last 2 minutes in buckets of 2 s, oldest first. `others`: records of the last
    2 minutes of entities beyond those that are told apart. `unreadable`: messages and records that hold no entity.
    `noun`: what people call one.
    """

    now: float
    topic: str
    seconds: float
    partitions: int = 0
    messages: int = 0
    records: int = 0
    unreadable: int = 0
    lost: int = 0
    behind: bool = False
    entities: tuple[tuple[str, tuple[int, ...]], ...] = ()
    others: int = 0
    trouble: str | None = None
    noun: Noun = ENTITIES

    @property
    def recent(self) -> int:
        """Records of the last 2 minutes."""
        return sum(sum(buckets) for _, buckets in self.entities) + self.others

    @property
    def span(self) -> float:
        """The seconds that the last 2 minutes have had so far."""
        return max(1.0, min(WINDOW_SECONDS, self.seconds))


class Consumer:
    """Reads a topic from its end (`from_start`: from the oldest message) and counts by the field `by`, called `noun`.

    Partitions that appear later are read from their first message. `clock`: Unix seconds.
    """

    def __init__(
        self,
        reader: TopicReader,
        *,
        by: str,
        noun: Noun = ENTITIES,
        from_start: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reader, self._by, self._noun, self._clock = reader, by, noun, clock
        self._from_start = from_start
        self._positions: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._arrivals, self._all = RecentCounts(), RecentCounts()
        self._began = clock()
        self._looked = float("-inf")
        self._first_look, self._behind = True, False
        self._messages = self._records = self._unreadable = self._lost = 0
        self._trouble: str | None = None

    def look(self, seconds: float = 0.25) -> bool:
        """Count what is there now, for so long at most; False if there was nothing.

        A topic that cannot be read for a moment is told in `flow` and tried again at the next look.
        """
        try:
            self._discover()
            counted = self._read(time.monotonic() + seconds)
        except ResourceError as error:
            self._trouble, self._behind = error.what, False
            return False
        self._trouble = None
        return counted

    @property
    def read(self) -> bool:
        """Whether all is read that was there when a partition was first seen."""
        return all(self._positions[partition] >= end for partition, end in self._ends.items())

    def flow(self) -> Flow:
        """What has arrived until now."""
        now = self._clock()
        shown, _ = self._arrivals.shown(now)
        everything, _ = self._all.shown(now)
        told_apart = sum(map(sum, shown.values()))
        return Flow(
            now=now,
            topic=self._reader.topic,
            seconds=max(0.0, now - self._began),
            partitions=len(self._positions),
            messages=self._messages,
            records=self._records,
            unreadable=self._unreadable,
            lost=self._lost,
            behind=self._behind,
            entities=tuple((name, tuple(buckets)) for name, buckets in shown.items()),
            others=sum(everything.get(_ALL, ())) - told_apart,
            trouble=self._trouble,
            noun=self._noun,
        )

    def _discover(self) -> None:
        if time.monotonic() - self._looked < DISCOVER_SECONDS:
            return
        for partition in self._reader.partitions():
            if partition not in self._positions:
                at_end = self._first_look and not self._from_start
                self._ends[partition] = self._reader.end_offset(partition)
                start = self._ends[partition] if at_end else self._reader.start_offset(partition)
                self._positions[partition] = start
        self._looked, self._first_look = time.monotonic(), False

    def _read(self, until: float) -> bool:
        """All partitions in turn until nothing is there or time is over."""
        counted, more = False, True
        while more and (not counted or time.monotonic() < until):
            more = False
            for partition in self._positions:
                messages = self._next(partition)
                if messages is not None:
                    self._count(messages)
                    counted = more = True
        self._behind = more
        return counted

    def _next(self, partition: int) -> Messages | None:
        at = self._positions[partition]
        try:
            messages = self._reader.read(partition, at, max_bytes=READ_BYTES)
        except DataError:
            # Retention was faster than this reader: what is gone cannot be counted.
            self._positions[partition] = self._reader.start_offset(partition)
            self._lost += int(self._positions[partition] != at)
            return None
        if messages is not None:
            self._positions[partition] = messages.next_offset
        return messages

    def _count(self, messages: Messages) -> None:
        names, unreadable = entities(messages.payload, self._by)
        self._messages += len(messages)
        self._records += len(names)
        self._unreadable += unreadable
        if not len(names):
            return
        now = self._clock()
        nothing = pl.Series("prediction", np.zeros(len(names), dtype=np.int8))
        self._arrivals.add(names, nothing, now)
        same = pl.Series("entity", [_ALL]).new_from_index(0, len(names))
        self._all.add(same, nothing, now)


def entities(payload: bytes, by: str) -> tuple[pl.Series, int]:
    """The field `by` of every record of some messages as text, without spaces around it; and how many have none.

    A message that is no JSON object or array counts as one without.

    >>> entities(b'{"client": "4"}\\n[{"client": 5}, {"path": 1}]\\nbroken\\n', "client")[0].to_list()
    ['4', '5']
    """
    lines = Lines.of(payload)
    found = _quickly(lines, by)
    values = pl.Series(by, _one_by_one(lines, by), dtype=pl.String) if found is None else found
    names = values.str.strip_chars()
    present = names.is_not_null() & (names != "")
    return names.filter(present), len(names) - int(present.sum())


def _quickly(lines: Lines, by: str) -> pl.Series | None:
    """All records in one pass of the NDJSON parser; None if it does not understand every one of them."""
    if b"\\u" in lines.payload:  # the parser makes anything of half a surrogate pair
        return None
    arrays = lines.payload.lstrip()[:1] == b"["
    pieces = Pieces.arrays(lines) if arrays else Pieces.objects(lines)
    if pieces is None:
        return None
    try:
        frame = pl.read_ndjson(pieces.payload, schema={by: pl.String()})
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    return frame[by] if frame.height == len(pieces) else None


def _one_by_one(lines: Lines, by: str) -> list[str | None]:
    values: list[str | None] = []
    for position in range(len(lines)):
        try:
            message = orjson.loads(lines.text(position))
        except orjson.JSONDecodeError:
            values.append(None)
            continue
        records = message if isinstance(message, list) and message else [message]
        values += [_name(record, by) for record in records]
    return values


def _name(record: object, by: str) -> str | None:
    value = record.get(by) if isinstance(record, dict) else None
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
