"""The shipped test kit: topics in memory that end, abort or pause on command, a clock that tests move, simulations."""

from __future__ import annotations

import threading
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hackwatch import streams
from hackwatch.errors import DataError
from hackwatch.feeds.simulator import simulator_of
from hackwatch.streams.stream import Messages

__all__ = ["ABORT", "EOF", "PAUSE", "Aborted", "FakeClock", "Marker", "MemoryTopic", "simulated_topics"]


@dataclass(frozen=True, slots=True)
class Marker:
    """Something that happens to a reader when it reaches a place in a `MemoryTopic`."""

    name: str
    polls: int = 0


#: The topic ends here: reads give None, and `MemoryTopic.ended` is set once every partition is at its EOF.
EOF = Marker("EOF")
#: The next read here raises `Aborted`, once: a crash at exactly this position.
ABORT = Marker("ABORT")


def PAUSE(polls: int = 1) -> Marker:
    """Reads here give None `polls` times, then go on."""
    return Marker("PAUSE", polls)


class Aborted(BaseException):
    """The crash that an ABORT marker makes; not an Exception, so that no handler swallows it."""


@dataclass(slots=True)
class _Partition:
    first: int = 0
    messages: list[bytes] = field(default_factory=list)
    markers: list[tuple[int, Marker]] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.first + len(self.messages)


class MemoryTopic:
    """TopicReader and TopicWriter in one; offsets count messages (as in Kafka), not bytes.

    `inject` puts a marker behind what was appended so far. Safe between threads. `commits` keeps every commit,
    oldest first; `drop` plays retention.
    """

    def __init__(self, topic: str = "memory", partitions: int = 2) -> None:
        self._topic = topic
        self._partitions = [_Partition() for _ in range(partitions)]
        self._next = 0
        self._lock = threading.Lock()
        self._ended: defaultdict[int, bool] = defaultdict(bool)
        self.ended = threading.Event()
        self.commits: list[dict[int, int]] = []
        self.closed = False

    @property
    def topic(self) -> str:
        return self._topic

    # --- writing

    def append(self, messages: Sequence[bytes], *, key: str | None = None, partition: int | None = None) -> None:
        """Append messages; `partition` overrides key and round robin."""
        for message in messages:
            if b"\n" in message:
                raise DataError("a message must not contain a newline", where=self._topic)
        if not messages:
            return
        with self._lock:
            self._partitions[self._choose(key, partition)].messages.extend(bytes(m) for m in messages)

    def append_payload(self, payload: bytes, *, key: str | None = None, partition: int | None = None) -> None:
        """Append many messages, each already ended by a newline."""
        if payload and not payload.endswith(b"\n"):
            raise DataError("a payload must end with a newline", where=self._topic)
        self.append(payload.split(b"\n")[:-1], key=key, partition=partition)

    def _choose(self, key: str | None, partition: int | None) -> int:
        if partition is not None:
            return partition
        if key is not None:
            return zlib.crc32(key.encode()) % len(self._partitions)
        self._next += 1
        return (self._next - 1) % len(self._partitions)

    def inject(self, marker: Marker, partition: int | None = None) -> None:
        """Put `marker` at the current end of one partition (of all without `partition`)."""
        with self._lock:
            for number, one in enumerate(self._partitions):
                if partition in (None, number):
                    one.markers.append((one.end, marker))

    def drop(self, partition: int, before: int) -> None:
        """Forget messages before this offset, as retention does."""
        with self._lock:
            one = self._partitions[partition]
            del one.messages[: max(0, before - one.first)]
            one.first = max(one.first, before)

    def flush(self) -> None:
        """Nothing to do: memory has no disk."""

    def close(self) -> None:
        self.closed = True

    # --- reading

    def partitions(self) -> Sequence[int]:
        return range(len(self._partitions))

    def start_offset(self, partition: int) -> int:
        return self._partitions[partition].first

    def end_offset(self, partition: int) -> int:
        return self._partitions[partition].end

    def read(self, partition: int, start: int, *, max_bytes: int, end: int | None = None) -> Messages | None:
        """As TopicReader.read; stops before a marker and obeys it when `start` is there."""
        with self._lock:
            one = self._partitions[partition]
            if start < one.first or start > one.end:
                place = f"{self._topic}/{partition}/{start}"
                raise DataError("this range is gone", where=place, next_step=f"start at {one.first}")
            stop = min(one.end if end is None else min(end, one.end), self._obey(partition, one, start))
            messages: list[bytes] = []
            size = 0
            for message in one.messages[start - one.first : max(0, stop - one.first)]:
                size += len(message) + 1
                if messages and size > max_bytes:
                    break
                messages.append(message)
        if not messages:
            return None
        offsets = np.arange(start, start + len(messages), dtype=np.int64)
        payload = b"\n".join(messages) + b"\n"
        return Messages(self._topic, partition, payload, offsets, start + len(messages))

    def _obey(self, partition: int, one: _Partition, start: int) -> int:
        """Where the next marker stops this read; raises or pauses when it is right here."""
        while one.markers:
            at, marker = one.markers[0]
            if at > start:
                return at
            if marker == EOF:
                self._ended[partition] = True
                if all(self._ended[number] for number in range(len(self._partitions))):
                    self.ended.set()
                return start
            one.markers.pop(0)
            if marker == ABORT and at == start:
                raise Aborted(f"{self._topic}/{partition}/{start}")
            if marker.name == "PAUSE" and at == start:
                if marker.polls > 1:
                    one.markers.insert(0, (at, PAUSE(marker.polls - 1)))
                return start
        return one.end

    def commit(self, offsets: Mapping[int, int]) -> None:
        self.commits.append(dict(offsets))

    @property
    def committed(self) -> dict[int, int]:
        """The last committed position of each partition."""
        return {partition: offset for commit in self.commits for partition, offset in commit.items()}


def simulated_topics(
    records: int, seed: int = 0, *, family: str | None = None, partitions: int = 2, **options: Any
) -> dict[str, MemoryTopic]:
    """The topics of a family's simulated world, about `records` records in all; a seed makes the same.

    `family`: by default that of the demo. `options`: those of the family's simulator (`Simulator.batches`).
    """
    played = streams.family(family) if family is not None else streams.demo_family()
    topics = {name: MemoryTopic(f"{name}-topic", partitions) for name in played.streams}
    for batch in simulator_of(played).batches(records, seed, **options):
        for name, messages in batch.items():
            messages.write_to(topics[name])
    return topics


class FakeClock:
    """A clock that only moves when told to: `sleep` advances it at once, `step_wall` moves the wall clock alone."""

    def __init__(self, wall: float = 1_700_000_000.0) -> None:
        self._wall, self._monotonic = wall, 0.0
        self.sleeps: list[float] = []

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._wall += seconds
        self._monotonic += seconds

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock (back too); monotonic time does not notice."""
        self._wall += seconds
