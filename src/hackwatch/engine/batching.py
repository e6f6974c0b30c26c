"""Cutting the topics into micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hackwatch.errors import ConfigurationError, DataError
from hackwatch.pipeline.clocks import NEVER
from hackwatch.store.commits import BatchEntry, OffsetRange
from hackwatch.streams.stream import Messages
from hackwatch.topics.topic import TopicReader

__all__ = ["MicroBatch", "MicroBatcher"]

Offsets = Mapping[tuple[str, str, int], int]
#: How far (microseconds of event time) one partition may run ahead of another of its time group that has more waiting.
#: Without a bound, catching up would fill windows and correlation with what waits for the slower partition.
ALIGNMENT = 120_000_000
LEAST_READ = 4 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """The messages of one micro-batch. `ranges` names every run, and with an empty range a newly seen partition.

    `waiting`: (stream, partition) that have further messages.
    """

    runs: tuple[tuple[str, Messages], ...]
    ranges: tuple[OffsetRange, ...]
    waiting: tuple[tuple[str, int], ...] = ()


class MicroBatcher:
    """Keeps the read position of every partition and takes the next messages from them."""

    def __init__(
        self, readers: Mapping[str, TopicReader], offsets: Offsets, batch_bytes: int, groups: Mapping[str, int]
    ) -> None:
        """`groups`: the time group of each stream: clocks are compared within one only."""
        self._readers, self._groups = readers, groups
        self._batch_bytes = batch_bytes
        self._positions: dict[tuple[str, int], int] = {
            (stream, partition): offset
            for (stream, topic, partition), offset in offsets.items()
            if stream in readers and readers[stream].topic == topic
        }
        self._known: list[tuple[str, int]] = sorted(self._positions)
        self._behind: set[tuple[str, int]] = set()
        #: What the pipeline was told last; after a start that may be anything.
        self._waiting = tuple(self._known)

    @property
    def known(self) -> list[tuple[str, int]]:
        return self._known

    @property
    def behind(self) -> bool:
        """Whether the last micro-batch left messages waiting, as far as its size tells."""
        return bool(self._behind)

    def positions(self) -> dict[tuple[str, str, int], int]:
        """(stream, topic, partition) -> next offset to read."""
        return {(s, self._readers[s].topic, p): offset for (s, p), offset in self._positions.items()}

    def lag(self) -> dict[tuple[str, int], int]:
        """Bytes or messages (whatever the topic counts in) not read yet."""
        return {(s, p): max(0, self._readers[s].end_offset(p) - at) for (s, p), at in self._positions.items()}

    def discover(self) -> list[OffsetRange]:
        """Partitions that have appeared: empty ranges at their oldest message. All of them, or it raises."""
        new = []
        for stream, reader in self._readers.items():
            for partition in reader.partitions():
                if (stream, partition) not in self._positions:
                    start = reader.start_offset(partition)
                    new.append(OffsetRange(stream, reader.topic, partition, start, start))
        if new:
            self._positions |= {(part.stream, part.partition): part.start for part in new}
            self._known = sorted(self._positions)
        return new

    def take(self, typical: Callable[[str, int], int], discovered: list[OffsetRange]) -> MicroBatch | None:
        """The next messages of all partitions, about `batch_bytes` in all; None if there is nothing new.

        `typical`: how far a partition has been read, in microseconds of event time (NEVER before its first record).
        A read that raises leaves every position as it was: what other partitions gave is read again.
        """
        share = max(LEAST_READ, self._batch_bytes // max(1, len(self._known)))
        runs = []
        chosen = self._aligned(typical)
        for stream, partition in chosen:
            start = self._positions[(stream, partition)]
            messages = self._readers[stream].read(partition, start, max_bytes=share)
            if messages is not None:
                runs.append((stream, messages))
        ranges = list(discovered)
        for stream, messages in runs:
            place = (stream, messages.partition)
            start = self._positions[place]
            ranges.append(OffsetRange(stream, messages.topic, messages.partition, start, messages.next_offset))
            self._positions[place] = messages.next_offset
        self._behind = {(s, m.partition) for s, m in runs if len(m.payload) >= share // 2}
        held = set(self._known) - set(chosen)
        # Once more without messages, to say that none wait any more.
        told = bool(ranges or self._waiting)
        self._waiting = tuple(sorted(self._behind | held)) if told else ()
        return MicroBatch(tuple(runs), tuple(ranges), self._waiting) if told else None

    def _aligned(self, typical: Callable[[str, int], int]) -> list[tuple[str, int]]:
        """Partitions to read: all, but those far ahead of one of their time group that is being caught up."""
        slowest: dict[int, int] = {}
        for place in self._behind:
            group = self._groups[place[0]]
            slowest[group] = min(typical(*place), slowest.get(group, 2**62))
        if not slowest:
            return self._known
        return [place for place in self._known if self._may_go_on(typical(*place), slowest.get(self._groups[place[0]]))]

    @staticmethod
    def _may_go_on(time: int, slowest: int | None) -> bool:
        return slowest is None or slowest == NEVER or time <= slowest + ALIGNMENT

    def again(self, entry: BatchEntry) -> MicroBatch:
        """Exactly the messages that a logged micro-batch took. Raises ConfigurationError if they are not read now."""
        runs = []
        self._waiting = entry.waiting
        for part in entry.ranges:
            self._check_still_read(part)
            self._positions[(part.stream, part.partition)] = part.end
            runs += [(part.stream, messages) for messages in self._range(part)]
        self._known = sorted(self._positions)
        return MicroBatch(tuple(runs), entry.ranges, entry.waiting)

    def _check_still_read(self, part: OffsetRange) -> None:
        reader = self._readers.get(part.stream)
        if reader is None or reader.topic != part.topic:
            raise ConfigurationError(
                f"the last run ended in the middle of topic {part.topic}, which is not read any more",
                where=f"streams.{part.stream}",
                next_step="start once with the old setting, so that it can be finished, and stop with Ctrl-C",
            )

    def _range(self, part: OffsetRange) -> Iterator[Messages]:
        start = part.start
        while start < part.end:
            messages = self._readers[part.stream].read(part.partition, start, max_bytes=self._batch_bytes, end=part.end)
            if messages is None:
                raise DataError(
                    f"the topic has lost messages that were read before: it ends before {part.end}",
                    where=f"{part.topic}/{part.partition}/{start}",
                    next_step="put the topic's files back: without them the last run cannot be finished",
                )
            yield messages
            start = messages.next_offset
