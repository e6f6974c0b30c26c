"""How messages travel: open a topic by its address."""

from __future__ import annotations

import re
from pathlib import Path

from hackwatch.config import KafkaSettings
from hackwatch.errors import ConfigurationError
from hackwatch.topics.kafka.address import is_kafka, parse_address
from hackwatch.topics.layout import partition_count
from hackwatch.topics.retention import Retention
from hackwatch.topics.spool import DURABILITIES, Durability, SpoolReader, SpoolWriter
from hackwatch.topics.topic import TopicReader, TopicWriter

__all__ = [
    "DURABILITIES",
    "Durability",
    "Retention",
    "TopicReader",
    "TopicWriter",
    "exists",
    "is_kafka",
    "open_reader",
    "open_writer",
    "spool_folder",
]


def spool_folder(url: str) -> Path:
    """The folder of a spool address (`spool:PATH` or a plain path); ConfigurationError for any other kind."""
    kind, separator, rest = url.partition(":")
    if separator and kind == "spool" and rest:
        return Path(rest).expanduser().absolute()
    if not url or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", url):
        raise ConfigurationError(
            f"{url!r} is not the address of a topic",
            next_step="name a folder, as a plain path or as spool:PATH, or kafka://HOST:PORT/TOPIC",
        )
    return Path(url).expanduser().absolute()


def exists(url: str, kafka: KafkaSettings | None = None) -> bool:
    """Whether there is a topic at `url`. Raises ResourceError while no broker answers, or without the extra."""
    if is_kafka(url):
        from hackwatch.topics.kafka.admin import describe_topic  # the extra `kafka`, or an error that names it

        return bool(describe_topic(parse_address(url), kafka or KafkaSettings()).partitions)
    return partition_count(spool_folder(url)) > 0


def open_reader(
    url: str,
    *,
    name: str = "main",
    retention: Retention | None = None,
    longest_message: int = 16 << 20,
    topic: str | None = None,
    kafka: KafkaSettings | None = None,
) -> TopicReader:
    """A reader of the topic at `url`, which need not exist yet; `name` tells readers (pipelines) apart.

    `topic` is how its messages call it (the last part of the address by default). `retention` is for spools; Kafka
    has its own. `kafka` is how to reach Kafka. See SpoolReader and KafkaReader for the rest.
    """
    if is_kafka(url):
        address = parse_address(url)
        from hackwatch.topics.kafka.reader import KafkaReader  # the extra `kafka`, or an error that names it

        group = (kafka.group if kafka else None) or f"hackwatch-{name}"
        return KafkaReader(address, kafka, group=group, longest_message=longest_message, topic=topic)
    return SpoolReader(spool_folder(url), name=name, retention=retention, longest_message=longest_message, topic=topic)


def open_writer(
    url: str,
    partitions: int = 2,
    durability: Durability = "interval",
    *,
    segment_bytes: int = 64 << 20,
    topic: str | None = None,
    kafka: KafkaSettings | None = None,
) -> TopicWriter:
    """A writer of the topic at `url`, which is made with so many `partitions` unless it exists.

    `segment_bytes` is for spools. `kafka` is how to reach Kafka.
    """
    if is_kafka(url):
        address = parse_address(url)
        from hackwatch.topics.kafka.writer import KafkaWriter  # the extra `kafka`, or an error that names it

        return KafkaWriter(address, kafka, partitions=partitions, durability=durability, topic=topic)
    return SpoolWriter(
        spool_folder(url),
        partitions=partitions,
        durability=durability,
        segment_bytes=segment_bytes,
        topic=topic,
    )
