"""A topic seen from outside, once a second, in a thread: its partitions, their ends, whether brokers answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from hackwatch.config import KafkaSettings
from hackwatch.errors import ResourceError
from hackwatch.topics.kafka.address import Address
from hackwatch.topics.kafka.client import KafkaError, KafkaException, TopicPartition, Trouble, consumer, explain

__all__ = ["Watch"]

_LOG = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
#: How long a broker may take to answer before it counts as silent; it is asked twice.
ANSWER_SECONDS = 2.0
DOWN_SECONDS = 0.5
#: In place of a time, these ask for the oldest and for the next offset (ListOffsets in Kafka's protocol).
_OLDEST, _NEXT = -2, -1


class Watch:
    """Looks at a topic, so that whoever reads it never waits for an answer; commits to the consumer group.

    Has a client of its own: the thread may be waiting in it while the reader reads or jumps.
    """

    def __init__(self, address: Address, group: str, settings: KafkaSettings, trouble: Trouble) -> None:
        self._address, self._settings, self._trouble = address, settings, trouble
        self._client = consumer(address.servers, group, settings, trouble, on_commit=self._committed)
        self._looking = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = self._hinted = False
        self._silent = 0
        self._problem: ResourceError | None = None
        self._partitions: tuple[int, ...] = ()
        self._ends: dict[int, int] = {}
        self._unconfirmed: dict[int, int] = {}

    def partitions(self) -> Sequence[int]:
        """The partitions, as known since the last second; none if there is no topic (yet)."""
        self._begin()
        self.check()
        return self._partitions

    def ends(self) -> Mapping[int, int]:
        """Partition -> next offset, as known since the last second."""
        self._begin()
        return self._ends

    def oldest(self, partition: int) -> int:
        """The oldest offset still kept; asked for now."""
        try:
            return self._offsets([partition], _OLDEST).get(partition, 0)
        except KafkaException as error:
            raise self._trouble.explain(error) from error

    def check(self) -> None:
        """Raise ResourceError while the brokers do not answer."""
        self._trouble.check()
        if self._problem is not None:
            raise self._problem
        if self._trouble.down(DOWN_SECONDS):
            raise self._trouble.explain()

    def look(self) -> None:
        """Ask now, and wait for the answer."""
        with self._looking:
            try:
                self._look()
            except KafkaException as error:
                self._silent += 1
                self._serve()  # the client knows better than a request that timed out
                if self._silent > 1 or not self._looked:
                    self._problem = self._trouble.explain(error)
            else:
                self._silent, self._problem, self._looked = 0, None, True
                self._trouble.over()

    def _begin(self) -> None:
        if self._thread is None:
            self.look()
            self._thread = threading.Thread(target=self._work, name=f"watch {self._address.topic}", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            self._serve()
            self.look()

    def _serve(self) -> None:
        """Let the client call back. Nothing is assigned, so what comes is an error, if anything."""
        message = self._client.poll(0)
        if message is not None and (error := message.error()) is not None:
            self._trouble(error)

    def _look(self) -> None:
        topic = self._address.topic
        found = self._client.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
        if found.error is not None and found.error.code() != KafkaError.LEADER_NOT_AVAILABLE:
            if found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART or self._partitions:
                raise KafkaException(found.error)
            self._hint()
        self._partitions = tuple(sorted(found.partitions))
        self._ends = {**self._ends, **self._offsets(self._partitions, _NEXT)}

    def _hint(self) -> None:
        if not self._hinted:
            self._hinted = True
            _LOG.warning(
                "waiting for a topic that does not exist yet; a feed makes it, or `hackwatch topics create`",
                extra={"topic": str(self._address)},
            )

    def _offsets(self, partitions: Sequence[int], which: int) -> dict[int, int]:
        """One request for all; a partition that has no leader now is left out."""
        if not partitions:
            return {}
        asked = [TopicPartition(self._address.topic, partition, which) for partition in partitions]
        answered = self._client.offsets_for_times(asked, timeout=ANSWER_SECONDS)
        return {one.partition: one.offset for one in answered if one.error is None and one.offset >= 0}

    # -- the consumer group --------------------------------------------------------------------------------------

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group how far was read, without waiting: only lag tools look at it."""
        if offsets and self._thread is not None:
            self._unconfirmed = dict(offsets)
            with suppress(KafkaException):
                self._client.commit(offsets=self._positions(offsets), asynchronous=True)

    def _positions(self, offsets: Mapping[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self._address.topic, partition, offset) for partition, offset in offsets.items()]

    def _committed(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        failed = error or next((one.error for one in partitions if one.error is not None), None)
        if failed is None:
            done = {one.partition: one.offset for one in partitions}
            self._unconfirmed = {number: at for number, at in self._unconfirmed.items() if done.get(number) != at}
        else:
            problem = explain(failed, str(self._address), self._settings)
            _LOG.warning("the consumer group was not told how far was read", extra={"error": problem.what})

    def close(self) -> None:
        """Tell the group the last positions, if brokers answer; then let go of the client."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        self._serve()
        if self._unconfirmed and self._problem is None and not self._trouble.down(0):
            with suppress(KafkaException):
                self._client.commit(offsets=self._positions(self._unconfirmed), asynchronous=False)
        self._client.close()
