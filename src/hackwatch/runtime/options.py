"""What the settings make of the declarations: how each stream is read and judged, as both engines need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hackwatch import streams
from hackwatch.config import KafkaSettings, Settings
from hackwatch.detect.panel import panel_schema
from hackwatch.detect.rules import RuleSet, load_rules
from hackwatch.errors import ConfigurationError
from hackwatch.pipeline.options import StreamOptions
from hackwatch.streams.declarations import Correlation
from hackwatch.streams.options import of_settings
from hackwatch.streams.stream import DecodeOptions, Stream
from hackwatch.topics import is_kafka
from hackwatch.topics.retention import Retention, retention_of

if TYPE_CHECKING:
    from hackwatch.runtime.enriched_topic import EnrichedSink

__all__ = [
    "EnrichedTopic",
    "TopicOptions",
    "correlations_of",
    "enabled_streams",
    "enriched_topic",
    "roles_of",
    "rules_of",
    "stream_options",
    "topic_options",
]

#: A spool is read with room for messages of this size, whatever the settings allow.
LEAST_LONGEST_MESSAGE = 16 << 20


def enabled_streams(settings: Settings) -> tuple[str, ...]:
    """The streams that are read, in the order in which families declare them."""
    return tuple(name for name in streams.in_order(settings.streams) if settings.streams[name].enabled)


@dataclass(frozen=True, slots=True)
class TopicOptions:
    """How the topic of a stream is read. `counts_messages`: its offsets do, not bytes. `longest_message`: bytes."""

    url: str
    counts_messages: bool
    decode: DecodeOptions
    longest_message: int
    retention: Retention


def topic_options(settings: Settings, name: str) -> TopicOptions:
    """How the settings say that the topic of a stream is read.

    Raises ConfigurationError for a format or an option that the stream does not declare.
    """
    stream, url = settings.streams[name], settings.spool_url(name)
    return TopicOptions(
        url=url,
        counts_messages=is_kafka(url),
        decode=of_settings(streams.get(name), stream),
        longest_message=max(LEAST_LONGEST_MESSAGE, stream.max_message_bytes + 1),
        retention=retention_of(settings.spool),
    )


@dataclass(frozen=True, slots=True)
class EnrichedTopic:
    """The topic that scored records are also sent to; made with so many `partitions` unless it exists."""

    url: str
    kafka: KafkaSettings
    partitions: int

    def open(self, streams: Mapping[str, Stream]) -> EnrichedSink:
        """What sends there. Raises ResourceError without the extra `kafka`."""
        from hackwatch.runtime.enriched_topic import EnrichedSink  # the extra `kafka`, or an error that names it

        return EnrichedSink(self.url, streams, self.kafka, partitions=self.partitions)


def enriched_topic(settings: Settings) -> EnrichedTopic | None:
    """The topic of enriched records that the settings name, with as many partitions as the widest topic read."""
    url = settings.kafka.enriched
    if url is None:
        return None
    partitions = max(settings.streams[name].partitions for name in enabled_streams(settings))
    return EnrichedTopic(url, settings.kafka, partitions)


def roles_of(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The roles beside the champion, by enabled stream. ConfigurationError if a stream has such columns itself."""
    roles = {name: stream.detectors for name, stream in settings.streams.items() if stream.enabled}
    problems = [
        f"streams.{name}.detectors: {name} has a column {column} of its own"
        for name, named in roles.items()
        for column in panel_schema(named)
        if named and column in streams.get(name).schema
    ]
    if problems:
        raise ConfigurationError(
            "a role cannot have its columns", next_step="name the roles otherwise:", problems=tuple(problems)
        )
    return roles


def rules_of(settings: Settings) -> RuleSet:
    """The rules that the settings name, for the enabled streams. Raises ConfigurationError."""
    known = {name: streams.get(name) for name in enabled_streams(settings)}
    return load_rules(settings.detection.rules, known, shipped=settings.detection.shipped_rules)


def correlations_of(settings: Settings) -> list[Correlation]:
    """The declared correlations that are enabled, each with the time that the settings give it."""
    found = []
    for declared in streams.correlations():
        enabled, seconds = settings.correlation_of(declared.name)
        if enabled:
            found.append(declared if seconds is None else replace(declared, seconds=seconds))
    return found


def stream_options(settings: Settings, name: str) -> StreamOptions:
    """How a stream is read in event time, as the settings say."""
    return StreamOptions(settings.streams[name], settings.engine, aggregates=streams.aggregates(name))
