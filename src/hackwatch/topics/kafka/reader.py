"""The reader of a Kafka topic: at positions that the caller keeps, any range of them again and exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from hackwatch.clock import Clock, SystemClock
from hackwatch.config import KafkaSettings
from hackwatch.errors import DataError, ResourceError
from hackwatch.streams.stream import Messages
from hackwatch.topics.kafka.address import Address
from hackwatch.topics.kafka.buffers import Buffer, piece_of, runs_of
from hackwatch.topics.kafka.client import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    Trouble,
    consumer,
)
from hackwatch.topics.kafka.watch import Watch

__all__ = ["KafkaReader"]

#: Messages taken from the client at a time: few enough to stay in the processor's cache.
BATCH = 1000
#: A partition is not fetched further while so many times what was asked for waits to be read.
AHEAD = 4
LEAST_AHEAD = 1 << 20
#: How long a range that was read before may take to come again.
AGAIN_SECONDS = 15.0
#: After a change of leader a partition may end, for a moment, before what it had already given.
END_SECONDS = 3.0
INTRODUCE_SECONDS = 1.0
_ERROR = Message.error
_END, _OUTSIDE = KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET


class KafkaReader:
    """Reads a topic without joining a group: nothing is ever taken away, and no other reader is in the way.

    The topic need not exist yet. `group` is told what was committed, for lag tools alone. A message longer than
    `longest_message` bytes comes cut to that length, one without a value comes empty: no decoder accepts either.
    Offsets count messages. One thread reads; any thread may commit. Raises ResourceError while no broker answers.
    """

    def __init__(
        self,
        address: Address,
        settings: KafkaSettings | None = None,
        *,
        group: str = "hackwatch-main",
        longest_message: int = 16 << 20,
        topic: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._address, self._settings, self._group = address, settings or KafkaSettings(), group
        self._longest = longest_message
        self._topic = topic or address.topic
        self._clock = clock or SystemClock()
        self._trouble = Trouble(str(address), self._settings)
        self._watch = Watch(address, group, self._settings, self._trouble)
        self._consumer = self._open()
        self._buffers: dict[int, Buffer] = {}
        self._gone: set[int] = set()
        self._ended: set[int] = set()
        self._ahead = LEAST_AHEAD

    def _open(self) -> Consumer:
        return consumer(self._address.servers, self._group, self._settings, self._trouble)

    @property
    def topic(self) -> str:
        return self._topic

    def partitions(self) -> Sequence[int]:
        return self._watch.partitions()

    def start_offset(self, partition: int) -> int:
        return self._watch.oldest(partition) if partition in self.partitions() else 0

    def end_offset(self, partition: int) -> int:
        """The position after the last message, as known since the last second."""
        return self._watch.ends().get(partition, 0)

    def waiting_bytes(self, partition: int) -> int:
        """What has been fetched and not been read."""
        buffer = self._buffers.get(partition)
        return buffer.size if buffer else 0

    def look(self) -> None:
        """Know partitions and ends as they are now."""
        self._watch.look()

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the consumer group; the engine's own checkpoint is what counts."""
        self._watch.commit(offsets)

    def close(self) -> None:
        self._buffers.clear()
        self._consumer.close()
        self._watch.close()

    # -- reading -------------------------------------------------------------------------------------------------

    def read(self, partition: int, start: int, *, max_bytes: int, end: int | None = None) -> Messages | None:
        """As TopicReader.read. Without `end` it never waits; with it, until the range has come, for it is known to be.

        A stretch of offsets that no message has (markers of transactions, compacted ones) comes as no messages.
        """
        try:
            return self._read(partition, start, max_bytes, end)
        except KafkaException as error:
            raise self._trouble.explain(error) from error

    def _read(self, partition: int, start: int, max_bytes: int, end: int | None) -> Messages | None:
        if end is not None and start >= end:
            return None
        buffer = self._buffer_at(partition, start)
        if buffer is None:
            return None
        self._ahead = max(AHEAD * max_bytes, LEAST_AHEAD)
        if buffer.paused and buffer.size <= self._ahead // 2:
            self._resume(partition, buffer)
        while buffer.size < max_bytes and (end is None or buffer.next < end) and self._fetch():
            pass
        if end is not None:
            self._await(partition, buffer, start, end, max_bytes)
        found = buffer.take(start, end, max_bytes)
        if found is not None:
            payload, offsets = found
            return Messages(self._topic, partition, payload, offsets, int(offsets[-1]) + 1)
        if partition in self._gone:
            self._explain_gone(partition, start)
        if buffer.next > start:
            reached = buffer.next if end is None else min(buffer.next, end)
            return Messages(self._topic, partition, b"", np.empty(0, np.int64), reached)
        self._watch.check()
        return None

    def _buffer_at(self, partition: int, start: int) -> Buffer | None:
        """The partition's buffer with what begins at `start`; None if there is no such partition (yet)."""
        buffer = self._buffers.get(partition)
        if buffer is not None and buffer.base <= start <= buffer.next:
            buffer.forget_before(start)
            return buffer
        if buffer is None and partition not in self.partitions():
            return None
        if not self._buffers:
            self._introduce()
        self._buffers[partition] = Buffer(start)
        if buffer is None:
            self._consumer.incremental_assign([self._place(partition, start)])
        else:
            self._jump(partition)
        return self._buffers[partition]

    def _introduce(self) -> None:
        """Let a new client know the brokers first: told where to read before, it asks for them after a second only."""
        with suppress(KafkaException):
            self._consumer.list_topics(self._address.topic, timeout=INTRODUCE_SECONDS)

    def _place(self, partition: int, offset: int) -> TopicPartition:
        return TopicPartition(self._address.topic, partition, offset)

    def _jump(self, partition: int) -> None:
        """Fetch from another place, by a new client: nothing that the old one has under way can come in between.

        A message from there, taken for the next one, would hide all that lie before it.
        """
        self._gone.discard(partition)
        self._consumer.close()
        self._consumer = self._open()
        self._introduce()
        for buffer in self._buffers.values():
            buffer.paused = buffer.resumed = False
        self._ended.clear()
        self._consumer.assign([self._place(number, buffer.next) for number, buffer in self._buffers.items()])

    def _resume(self, partition: int, buffer: Buffer) -> None:
        buffer.paused, buffer.resumed = False, True
        self._consumer.resume([self._place(partition, buffer.next)])

    def _await(self, partition: int, buffer: Buffer, start: int, end: int, max_bytes: int) -> None:
        """Wait for a range that is known to exist, or until it is clear that the partition ends before."""
        began = self._clock.monotonic()
        ended: float | None = None
        while buffer.size < max_bytes and buffer.next < end and partition not in self._gone:
            if self._fetch(0.05):
                began = self._clock.monotonic()
                continue
            self._watch.check()
            now = self._clock.monotonic()
            if partition in self._ended:
                ended = now if ended is None else ended
                if now - ended > END_SECONDS:
                    return
            if now - began > AGAIN_SECONDS:
                raise ResourceError(
                    f"Kafka does not give the messages up to {end} again",
                    where=f"{self._topic}/{partition}/{start}",
                    next_step="check that the partition has a leader; the engine goes on by itself",
                )

    def _explain_gone(self, partition: int, start: int) -> None:
        """Raise DataError if the position is outside what the partition has; try again if it is not."""
        self._buffers[partition] = Buffer(start)
        self._jump(partition)
        self.look()
        oldest, end = self._watch.oldest(partition), self._watch.ends().get(partition, 0)
        if oldest <= start <= end:
            return
        what = "deleted by the topic's retention" if start < oldest else "not there; the topic is another one by now"
        raise DataError(
            f"the messages from here on are {what}",
            where=f"{self._topic}/{partition}/{start}",
            next_step=f"the partition now has {oldest} to {end}; keep more (retention.ms of the topic), or let another "
            "pipeline name begin there",
        )

    # -- fetching ------------------------------------------------------------------------------------------------

    def _fetch(self, wait: float = 0.0) -> bool:
        """Move what the client has into the buffers; False if it had nothing (not even one after `wait` seconds)."""
        batch = self._consumer.consume(1, wait) if wait else self._consumer.consume(BATCH, 0)
        if not batch:
            return False
        if any(map(_ERROR, batch)):
            self._keep_with_events(batch)
        else:
            self._keep(batch)
        return True

    def _keep(self, batch: Sequence[Message]) -> bool:
        """Put messages into their buffers; False if the rest must be fetched again.

        After a pause the client must go on exactly where it was. Should it not, then what seems to be a stretch
        without messages is looked at again by a new client.
        """
        for partition, run in runs_of(batch):
            buffer = self._buffers.get(partition)
            if buffer is None:
                continue
            piece = piece_of(run, self._longest)
            if buffer.resumed and piece.offsets[0] > buffer.next:
                self._jump(partition)
                return False
            buffer.resumed = False
            buffer.add(piece)
            self._ended.discard(partition)
            if buffer.size > self._ahead and not buffer.paused:
                buffer.paused = True
                self._consumer.pause([self._place(partition, buffer.next)])
        return True

    def _keep_with_events(self, batch: Sequence[Message]) -> None:
        """Messages and events in the order in which they came."""
        since = 0
        for at, message in enumerate(batch):
            error = message.error()
            if error is not None:
                if at > since and not self._keep(batch[since:at]):
                    return
                if not self._event(message, error):
                    return
                since = at + 1
        if since < len(batch):
            self._keep(batch[since:])

    def _event(self, message: Message, error: KafkaError) -> bool:
        """Note an end, a position outside the partition, or trouble; False as of `_keep`."""
        partition, offset = message.partition(), message.offset()
        if partition not in self._buffers or error.code() not in (_END, _OUTSIDE):
            self._trouble(error)
        elif error.code() == _OUTSIDE:
            self._gone.add(partition)
        elif offset is not None:
            buffer = self._buffers[partition]
            if buffer.resumed and offset > buffer.next:
                self._jump(partition)
                return False
            buffer.reached(offset)
            self._ended.add(partition)
        return True
