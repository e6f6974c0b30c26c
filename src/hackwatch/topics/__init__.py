"""How messages travel: open a topic by its address."""

from __future__ import annotations

import re
from pathlib import Path

from hackwatch.errors import ConfigurationError
from hackwatch.topics.base import TopicReader, TopicWriter
from hackwatch.topics.retention import Retention
from hackwatch.topics.spool import DURABILITIES, Durability, SpoolReader, SpoolWriter

__all__ = [
    "DURABILITIES",
    "Durability",
    "Retention",
    "TopicReader",
    "TopicWriter",
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
            next_step="name a folder, as a plain path or as spool:PATH",
        )
    return Path(url).expanduser().absolute()


def open_reader(
    url: str,
    *,
    name: str = "main",
    retention: Retention | None = None,
    longest_message: int = 16 << 20,
    topic: str | None = None,
) -> TopicReader:
    """A reader of the topic at `url`, which need not exist yet; `name` tells readers (pipelines) apart.

    `topic` is how its messages call it (the folder's name by default). See SpoolReader for the rest.
    """
    return SpoolReader(spool_folder(url), name=name, retention=retention, longest_message=longest_message, topic=topic)


def open_writer(
    url: str,
    partitions: int = 2,
    durability: Durability = "interval",
    *,
    segment_bytes: int = 64 << 20,
    topic: str | None = None,
) -> TopicWriter:
    """A writer of the topic at `url`, which is made with so many `partitions` unless it exists."""
    return SpoolWriter(
        spool_folder(url),
        partitions=partitions,
        durability=durability,
        segment_bytes=segment_bytes,
        topic=topic,
    )
