"""The writer of a Kafka topic: idempotent, acknowledged by all replicas; what was not delivered is an error."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

from hackwatch.config import KafkaSettings
from hackwatch.errors import DataError, ResourceError
from hackwatch.topics.kafka.address import Address
from hackwatch.topics.kafka.admin import ensure_topic
from hackwatch.topics.kafka.client import KafkaError, KafkaException, Message, Trouble, producer

__all__ = ["KafkaWriter"]

#: A full queue, and a flush, are waited for in slices, so that Ctrl-C gets through.
_SLICE = 0.2


class KafkaWriter:
    """Appends to a topic, which is made with so many `partitions` unless it exists.

    `append` hands messages to the client, which sends them in the background and again until they are acknowledged,
    each once and in order; it waits while too many are under way. `flush` waits for all. With `durability` "always"
    each append does. What could not be delivered (after `message.timeout.ms`, 5 minutes) is raised as ResourceError
    by the next call. Safe between threads.
    """

    def __init__(
        self,
        address: Address,
        settings: KafkaSettings | None = None,
        *,
        partitions: int = 2,
        durability: str = "interval",
        topic: str | None = None,
    ) -> None:
        self._address, self._settings = address, settings or KafkaSettings()
        self._topic = topic or address.topic
        self._always = durability == "always"
        self._count = ensure_topic(address, partitions, self._settings)
        self._trouble = Trouble(str(address), self._settings)
        self._producer = producer(
            address.servers,
            self._settings,
            self._trouble,
            on_delivery=self._undelivered,
            **{"delivery.report.only.error": True},
        )
        self._turn = itertools.count()
        self._lock = threading.Lock()
        self._lost = 0
        self._cause: KafkaError | None = None

    @property
    def topic(self) -> str:
        return self._topic

    def append(self, messages: Sequence[bytes], *, key: str | None = None) -> None:
        """Hand over messages (no newline inside) in order, to the partition of `key` (round robin without one)."""
        if b"".join(messages).find(b"\n") >= 0:
            raise DataError("a message contains a newline", where=self._topic, next_step="append each line by itself")
        if messages:
            self._append(messages, key)

    def append_payload(self, payload: bytes, *, key: str | None = None) -> None:
        """The same for many messages at once, each already ended by a newline."""
        if not payload:
            return
        if not payload.endswith(b"\n"):
            raise DataError("the last message has no newline", where=self._topic, next_step="end it with one")
        messages = payload.split(b"\n")
        messages.pop()
        self._append(messages, key)

    def _append(self, messages: Sequence[bytes], key: str | None) -> None:
        partition = -1 if key is not None else next(self._turn) % self._count
        with self._lock:
            self._check()
            for message in messages:
                self._hand_over(message, key, partition)
            self._serve(self._producer.poll, 0)
        if self._always:
            self.flush()

    def _hand_over(self, message: bytes, key: str | None, partition: int) -> None:
        while True:
            try:
                self._producer.produce(self._address.topic, message, key, partition)
            except BufferError:
                self._serve(self._producer.poll, _SLICE)
                self._check()
            except KafkaException as error:
                raise self._refused(error) from None
            else:
                return

    def _serve(self, wait: Callable[[float], int], seconds: float) -> None:
        """Let the client work and report; an error after which it sends nothing more comes out of this, too."""
        try:
            wait(seconds)
        except KafkaException as error:
            raise self._trouble.explain(error) from None

    def _refused(self, error: KafkaException) -> ResourceError | DataError:
        if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return DataError(
                "a message is longer than the Kafka client sends",
                where=self._topic,
                next_step="raise message.max.bytes in [kafka] properties, and max.message.bytes of the topic",
            )
        return self._trouble.explain(error)

    def _undelivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._lost += 1
            self._cause = self._cause or error

    def _check(self) -> None:
        """Raise what could not be delivered since the last time."""
        if self._cause is not None:
            lost, cause, self._lost, self._cause = self._lost, self._cause, 0, None
            problem = self._trouble.explain(cause) if cause.code() == KafkaError._MSG_TIMED_OUT else None
            why = problem.what if problem else self._settings.hidden(cause.str())
            raise ResourceError(
                f"{lost:,} messages could not be delivered: {why}",
                where=str(self._address),
                next_step=(problem.next_step if problem else None) or "check the brokers and the topic's settings",
            )
        self._trouble.check()

    def flush(self) -> None:
        """Wait until all that was appended is acknowledged by all replicas."""
        while len(self._producer) and self._cause is None:
            self._serve(self._producer.flush, _SLICE)
        self._check()

    def close(self) -> None:
        """Flush and let go of the client."""
        self.flush()
