"""Making Kafka topics, and describing them for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from hackwatch.config import KafkaSettings
from hackwatch.errors import ConfigurationError, EnvironmentError_
from hackwatch.topics.kafka.address import Address
from hackwatch.topics.kafka.client import (
    AdminClient,
    ConfigResource,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicCollection,
    TopicPartition,
    Trouble,
    admin,
)

__all__ = ["KafkaPartition", "KafkaTopic", "create_topic", "describe_topic", "ensure_topic", "topic_names"]

ANSWER_SECONDS = 15.0
_WRONG = (KafkaError.INVALID_REPLICATION_FACTOR, KafkaError.INVALID_CONFIG, KafkaError.INVALID_PARTITIONS)
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
        committed = {group: _committed(client, group, places) for group in groups}
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
        names = client.list_topics(timeout=ANSWER_SECONDS).topics
        return sorted(name for name in names if not name.startswith("__"))


@contextmanager
def _connected(address: Address, settings: KafkaSettings) -> Iterator[AdminClient]:
    """A client whose errors are explained."""
    trouble = Trouble(str(address), settings)
    client = admin(address.servers, settings, trouble)
    try:
        yield client
    except KafkaException as error:
        client.poll(0)  # the client knows better than a request that timed out
        raise trouble.explain(error) from None


def _partitions(client: AdminClient, topic: str) -> list[Any]:
    """The partitions of a topic; none if there is no topic. Asking does not make it, as list_topics may do."""
    [asked] = client.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_SECONDS).values()
    try:
        return list(asked.result().partitions)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return []
        raise


def _create(client: AdminClient, topic: NewTopic, *, unless_exists: bool = False) -> None:
    [made] = client.create_topics([topic], request_timeout=ANSWER_SECONDS).values()
    try:
        made.result()
    except KafkaException as error:
        cause = error.args[0]
        if cause.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            if unless_exists:
                return
            raise ConfigurationError(
                "the topic exists already", where=topic.topic, next_step="`hackwatch topics describe` shows it"
            ) from None
        if cause.code() in (
            KafkaError.INVALID_REPLICATION_FACTOR,
            KafkaError.INVALID_CONFIG,
            KafkaError.INVALID_PARTITIONS,
        ):
            raise ConfigurationError(f"Kafka does not make the topic: {cause.str()}", where=topic.topic) from None
        raise


def _offsets(client: AdminClient, places: list[TopicPartition], which: OffsetSpec) -> dict[int, int]:
    asked = client.list_offsets(dict.fromkeys(places, which), request_timeout=ANSWER_SECONDS)
    return {place.partition: _value(answer).offset for place, answer in asked.items()}


def _committed(client: AdminClient, group: str, places: list[TopicPartition]) -> dict[int, int]:
    request = [ConsumerGroupTopicPartitions(group, places)]
    [asked] = client.list_consumer_group_offsets(request, request_timeout=ANSWER_SECONDS).values()
    return {one.partition: one.offset for one in _value(asked).topic_partitions if one.offset >= 0}


def _retention_hours(client: AdminClient, topic: str) -> float | None:
    [asked] = client.describe_configs(
        [ConfigResource(ResourceType.TOPIC, topic)], request_timeout=ANSWER_SECONDS
    ).values()
    milliseconds = int(_value(asked)[_RETENTION].value)
    return None if milliseconds < 0 else milliseconds / 3_600_000


def _value(asked: Future[Any]) -> Any:
    try:
        return asked.result(ANSWER_SECONDS + 1)
    except TimeoutError as error:
        raise EnvironmentError_("no Kafka broker answers", next_step="check that the brokers run") from error
