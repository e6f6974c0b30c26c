"""Making Kafka topics, and describing them for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from hackwatch.config import KafkaSettings
from hackwatch.errors import ConfigurationError, ResourceError
from hackwatch.topics.kafka.address import Address
from hackwatch.topics.kafka.client import (
    ConfigResource,
    KafkaError,
    KafkaException,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicCollection,
    TopicPartition,
    Trouble,
    admin,
    consumer,
)

__all__ = ["KafkaPartition", "KafkaTopic", "create_topic", "describe_topic", "ensure_topic", "topic_names"]

_Answer = TypeVar("_Answer")
ANSWER_SECONDS = 15.0
#: All brokers being down is believed after this.
DOWN_SECONDS = 2.0
_WRONG = (KafkaError.INVALID_REPLICATION_FACTOR, KafkaError.INVALID_CONFIG, KafkaError.INVALID_PARTITIONS)
_FOR_A_MOMENT = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)
_RETENTION = "retention.ms"
_OLDEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call] # the library lacks its type
_NEXT: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call] # the same


@dataclass(frozen=True, slots=True)
class KafkaPartition:
    """One partition: offsets of its oldest and its next message, its leader and replicas, what the group committed."""

    partition: int
    start: int
    end: int
    leader: int | None
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    committed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """A topic; without partitions while it does not exist. `retention_hours`: None if messages are kept for ever."""

    address: str
    partitions: tuple[KafkaPartition, ...]
    replication: int = 0
    retention_hours: float | None = None

    @property
    def kept_messages(self) -> int:
        return sum(part.end - part.start for part in self.partitions)

    @property
    def unread_messages(self) -> int:
        """What the slowest group that was asked for has not committed yet; everything if it has committed nothing."""
        return sum(part.end - max(part.start, min(part.committed.values(), default=0)) for part in self.partitions)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "kept_messages": self.kept_messages, "unread_messages": self.unread_messages}


def ensure_topic(address: Address, partitions: int, settings: KafkaSettings) -> int:
    """Make the topic unless it exists, replicated as the brokers do by default; its number of partitions."""
    with _connected(address, settings) as client:
        for _ in range(2):
            if found := _partitions(client, address.topic):
                return len(found)
            _create(client, NewTopic(address.topic, partitions, -1), unless_exists=True)
        return partitions


def create_topic(
    address: Address,
    settings: KafkaSettings,
    *,
    partitions: int,
    replication: int | None = None,
    retention_hours: float | None = None,
    properties: Mapping[str, str] | None = None,
) -> None:
    """Make a topic. `replication`: copies of each partition, the brokers' default without it; `retention_hours`: 0 is
    for ever; `properties`: further ones of the topic. Raises ConfigurationError if it exists."""
    config = dict(properties or {})
    if retention_hours is not None:
        config[_RETENTION] = str(int(retention_hours * 3_600_000)) if retention_hours else "-1"
    with _connected(address, settings) as client:
        _create(client, NewTopic(address.topic, partitions, replication or -1, config=config))


def describe_topic(address: Address, settings: KafkaSettings, groups: tuple[str, ...] = ()) -> KafkaTopic:
    """What a topic holds now, and how far these groups have come."""
    with _connected(address, settings) as client:
        found = _partitions(client, address.topic)
        if not found:
            return KafkaTopic(str(address), ())
        places = [TopicPartition(address.topic, one.id) for one in found]
        oldest, ends = _offsets(client, places, _OLDEST), _offsets(client, places, _NEXT)
        committed = {group: _committed(address, group, settings, places) for group in groups}
        parts = tuple(
            KafkaPartition(
                one.id,
                oldest.get(one.id, 0),
                ends.get(one.id, 0),
                one.leader.id if one.leader is not None else None,
                tuple(node.id for node in one.replicas),
                tuple(node.id for node in one.isr),
                {group: offsets[one.id] for group, offsets in committed.items() if one.id in offsets},
            )
            for one in found
        )
        return KafkaTopic(str(address), parts, len(parts[0].replicas), _retention_hours(client, address.topic))


def topic_names(servers: str, settings: KafkaSettings) -> list[str]:
    """The topics of a cluster, without its own."""
    with _connected(Address(servers, ""), settings) as client:
        names = client.inner.list_topics(timeout=ANSWER_SECONDS).topics
        return sorted(name for name in names if not name.startswith("__"))


class _Client:
    """An admin client whose answers are waited for, and whose errors are explained."""

    def __init__(self, address: Address, settings: KafkaSettings) -> None:
        self._trouble = Trouble(str(address), settings)
        self.inner = admin(address.servers, settings, self._trouble)

    def answer(self, asked: Mapping[Any, Future[Any]]) -> dict[Any, Any]:
        """The answers to one question each; raises the first error, and ResourceError if no broker answers."""
        return {key: self._wait(future) for key, future in asked.items()}

    def _wait(self, future: Future[Any]) -> Any:
        end = time.monotonic() + ANSWER_SECONDS
        while not future.done() and time.monotonic() < end:
            self.inner.poll(0)
            if self._trouble.down(DOWN_SECONDS):
                raise self._trouble.explain()
            with suppress(TimeoutError):
                future.exception(0.05)
        return future.result(ANSWER_SECONDS)

    def explain(self, error: KafkaException) -> ResourceError:
        self.inner.poll(0)  # the client knows better than a request that timed out
        return self._trouble.explain(error)


@contextmanager
def _connected(address: Address, settings: KafkaSettings) -> Iterator[_Client]:
    """A client; what goes wrong with it is explained."""
    client = _Client(address, settings)
    try:
        yield client
    except KafkaException as error:
        raise client.explain(error) from None


def _partitions(client: _Client, topic: str) -> list[Any]:
    """The partitions of a topic; none if there is no topic. Asking does not make it, as list_topics may do."""
    asked = client.inner.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_SECONDS)
    try:
        return list(client.answer(asked)[topic].partitions)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return []
        raise


def _create(client: _Client, topic: NewTopic, *, unless_exists: bool = False) -> None:
    try:
        client.answer(client.inner.create_topics([topic], request_timeout=ANSWER_SECONDS))
    except KafkaException as error:
        cause = error.args[0]
        if cause.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            if unless_exists:
                return
            raise ConfigurationError(
                "the topic exists already", where=topic.topic, next_step="`hackwatch topics describe` shows it"
            ) from None
        if cause.code() in _WRONG:
            raise ConfigurationError(
                f"Kafka does not make the topic: {cause.str()}",
                where=topic.topic,
                next_step="ask for what the brokers can give; --replication is at most their number",
            ) from None
        raise


def _offsets(client: _Client, places: list[TopicPartition], which: OffsetSpec) -> dict[int, int]:
    """Partition -> offset."""

    def ask() -> dict[int, int]:
        asked = client.inner.list_offsets(dict.fromkeys(places, which), request_timeout=ANSWER_SECONDS)
        return {place.partition: found.offset for place, found in client.answer(asked).items()}

    return _settled(ask)


def _committed(address: Address, group: str, settings: KafkaSettings, places: list[TopicPartition]) -> dict[int, int]:
    """Partition -> what the group committed.

    Asked of a consumer: when the group's coordinator moves, or starts, the admin client's way ends the process
    (librdkafka 2.16, a null pointer in rd_kafka_cgrp_op).
    """
    reader = consumer(address.servers, group, settings)
    try:
        found = _settled(lambda: reader.committed(places, timeout=ANSWER_SECONDS))
    finally:
        reader.close()
    return {one.partition: one.offset for one in found if one.error is None and one.offset >= 0}


def _settled(ask: Callable[[], _Answer]) -> _Answer:
    """The answer, asked for again while a topic or group made just now is not ready for a moment."""
    end = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _FOR_A_MOMENT or time.monotonic() > end:
                raise
            time.sleep(0.1)


def _retention_hours(client: _Client, topic: str) -> float | None:
    asked = client.inner.describe_configs([ConfigResource(ResourceType.TOPIC, topic)], request_timeout=ANSWER_SECONDS)
    [found] = client.answer(asked).values()
    milliseconds = int(found[_RETENTION].value)
    return None if milliseconds < 0 else milliseconds / 3_600_000
