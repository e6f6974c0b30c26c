"""`hackwatch topics`: make topics, and show what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.cli.feeding import size
from hackwatch.numbers import COUNT, Number, Whole

if TYPE_CHECKING:
    from hackwatch.topics.inspection import TopicStatus
    from hackwatch.topics.kafka.admin import KafkaTopic

__all__ = ["command"]


@click.group()
def command() -> None:
    """Make, show, read and prune topics.

    A TOPIC is the name of a stream (its topic by the settings), a folder, spool:PATH or kafka://HOST:PORT/TOPIC.

    \b
    Examples:
      hackwatch topics list
      hackwatch topics create kafka://localhost:9092/process --partitions 8 --retention-hours 48
      hackwatch topics describe process
      hackwatch topics read process --last 5
      hackwatch topics prune process --keep-hours 2
    """


def _url(context: CliContext, topic: str) -> str:
    settings = context.settings()
    return settings.spool_url(topic) if topic in settings.streams else topic


def _folder(url: str) -> Path:
    """The folder of a spool that exists."""
    from hackwatch.errors import ConfigurationError
    from hackwatch.topics import is_kafka, spool_folder
    from hackwatch.topics.layout import partition_count

    if is_kafka(url):
        raise ConfigurationError(
            "this is for spools alone", where=url, next_step="Kafka prunes by itself: set retention.ms of the topic"
        )
    folder = spool_folder(url)
    if not partition_count(folder):
        raise ConfigurationError("there is no topic here", where=str(folder), next_step=_NEXT)
    return folder


_NEXT = "`hackwatch topics list` shows those of the settings, `hackwatch topics create` makes one"


def _status(context: CliContext, url: str) -> TopicStatus | KafkaTopic:
    """What a topic holds; without partitions if there is none."""
    from hackwatch.topics import is_kafka, spool_folder
    from hackwatch.topics.inspection import inspect_topic

    if not is_kafka(url):
        return inspect_topic(spool_folder(url))
    from hackwatch.topics.kafka.address import parse_address
    from hackwatch.topics.kafka.admin import describe_topic

    settings = context.settings()
    return describe_topic(parse_address(url), settings.kafka, (settings.kafka_group,))


@command.command()
@click.argument("topic")
@click.option("--partitions", type=click.IntRange(1, 100_000), default=2, show_default=True, help="Partitions.")
@click.option(
    "--replication", type=click.IntRange(1, 100), help="Kafka: copies of each partition. Default: the brokers'."
)
@click.option(
    "--retention-hours",
    type=Number(min=0),
    help="Kafka: messages are deleted when they are older; 0: never. Default: the brokers'.",
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@pass_context_object
def create(
    context: CliContext,
    topic: str,
    partitions: int,
    replication: int | None,
    retention_hours: float | None,
    as_json: bool,
) -> None:
    """Make a topic. A feed makes its topic by itself, but with the defaults.

    \b
    Examples:
      hackwatch topics create process --partitions 8
      hackwatch topics create kafka://localhost:9092/process --partitions 16 --replication 3 --retention-hours 72
    """
    from hackwatch.topics import is_kafka

    url = _url(context, topic)
    if is_kafka(url):
        from hackwatch.topics.kafka.address import parse_address
        from hackwatch.topics.kafka.admin import create_topic

        create_topic(
            parse_address(url),
            context.settings().kafka,
            partitions=partitions,
            replication=replication,
            retention_hours=retention_hours,
        )
    else:
        _create_spool(url, partitions, replication, retention_hours)
    if as_json:
        import json

        click.echo(json.dumps({"topic": url, "partitions": partitions}))
    else:
        click.echo(f"made {url} with {partitions} partition{'s' if partitions > 1 else ''}")


def _create_spool(url: str, partitions: int, replication: int | None, retention_hours: float | None) -> None:
    from hackwatch.errors import ConfigurationError
    from hackwatch.topics import layout, spool_folder

    folder = spool_folder(url)
    if replication is not None or retention_hours is not None:
        raise ConfigurationError(
            "a spool has no replication, and its retention is in the settings",
            where=str(folder),
            next_step="leave out --replication and --retention-hours; set retention_hours in [spool]",
        )
    if layout.partition_count(folder):
        raise ConfigurationError(
            "the topic exists already", where=str(folder), next_step="`hackwatch topics describe` shows it"
        )
    layout.create_topic(folder, partitions)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@pass_context_object
def list_topics(context: CliContext, as_json: bool) -> None:
    """List the topics of the settings: what they hold, and how much of it the readers have not read.

    What a spool holds is told in bytes, what a Kafka topic holds in messages.
    """
    import json

    from hackwatch.topics.inspection import TopicStatus

    settings = context.settings()
    from hackwatch import streams

    named = streams.in_order(settings.streams)
    found = {name: _status(context, settings.spool_url(name)) for name in named}
    if as_json:
        click.echo(json.dumps([{"stream": name, **status.as_dict()} for name, status in found.items()]))
        return
    click.echo(f"{'stream':<12} {'partitions':>10} {'kept':>14} {'unread':>14}  topic")
    for name, status in found.items():
        if isinstance(status, TopicStatus):
            kept, unread = size(status.kept_bytes), size(status.unread_bytes)
            where = status.folder
        else:
            kept, unread, where = f"{status.kept_messages:,}", f"{status.unread_messages:,}", status.address
        text = f"{name:<12} {len(status.partitions):>10} {kept:>14} {unread:>14}  {where}"
        click.echo(text if status.partitions else f"{name:<12} {'nothing yet':>10} {'':>28}  {where}")


@command.command()
@click.argument("topic")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@pass_context_object
def describe(context: CliContext, topic: str, as_json: bool) -> None:
    """Show the partitions of a topic: positions, segments or replicas, what each reader committed."""
    import json

    from hackwatch.errors import ConfigurationError
    from hackwatch.topics.inspection import TopicStatus

    url = _url(context, topic)
    status = _status(context, url)
    if not status.partitions:
        raise ConfigurationError("there is no topic here", where=url, next_step=_NEXT)
    if as_json:
        click.echo(json.dumps(status.as_dict()))
    elif isinstance(status, TopicStatus):
        _print_partitions(status)
    else:
        _print_kafka(status)


def _print_kafka(status: KafkaTopic) -> None:
    kept = "for ever" if status.retention_hours is None else f"for {status.retention_hours:g} hours"
    click.echo(f"{status.address}: replication {status.replication}, messages kept {kept}")
    click.echo(f"{'partition':>9} {'leader':>9} {'in sync':>9} {'start':>16} {'end':>16}  committed")
    for part in status.partitions:
        leader = "none" if part.leader is None else str(part.leader)
        synced = f"{len(part.in_sync)}/{len(part.replicas)}"
        committed = ", ".join(f"{name} {offset}" for name, offset in part.committed.items()) or "by nobody"
        click.echo(f"{part.partition:>9} {leader:>9} {synced:>9} {part.start:>16} {part.end:>16}  {committed}")


def _print_partitions(status: TopicStatus) -> None:
    click.echo(f"{status.folder}")
    click.echo(f"{'partition':>9} {'segments':>9} {'start':>16} {'end':>16}  committed")
    for part in status.partitions:
        committed = ", ".join(f"{name} {offset}" for name, offset in part.committed.items()) or "by nobody"
        click.echo(f"{part.partition:>9} {part.segments:>9} {part.start:>16} {part.end:>16}  {committed}")


@command.command()
@click.argument("topic")
@click.option("--partition", type=Whole(min=0), default=0, show_default=True, help="Partition to read.")
@click.option("--offset", type=Whole(min=0), help="Position to begin at. Default: the oldest kept.")
@click.option("--last", type=COUNT, help="Only the last so many messages.")
@click.option("--limit", type=COUNT, default=20, show_default=True, help="At most so many messages.")
@click.option("--raw", is_flag=True, help="The bytes as they are, for a pipe: dangerous on a terminal.")
@pass_context_object
def read(
    context: CliContext,
    topic: str,
    partition: int,
    offset: int | None,
    last: int | None,
    limit: int,
    raw: bool,
) -> None:
    """Print messages of a topic, one a line; control characters as escapes."""
    from hackwatch.text import printable
    from hackwatch.topics import is_kafka
    from hackwatch.topics.inspection import last_messages, messages_from

    url = _url(context, topic)
    if is_kafka(url):
        found = _kafka_messages(context, url, partition, offset, last, limit)
    elif last:
        found = iter(last_messages(_folder(url), partition, last))
    else:
        found = messages_from(_folder(url), partition, offset, limit)
    for message in found:
        if raw:
            click.echo(message)
        else:
            click.echo(printable(message.decode("utf-8", "backslashreplace")))


def _kafka_messages(
    context: CliContext, url: str, partition: int, offset: int | None, last: int | None, limit: int
) -> Iterator[bytes]:
    """Messages that are there now: the last ones, or from a position on."""
    from contextlib import closing

    from hackwatch.errors import ConfigurationError
    from hackwatch.topics import open_reader

    with closing(open_reader(url, name="look", kafka=context.settings().kafka)) as reader:
        if partition not in (known := reader.partitions()):
            raise ConfigurationError(f"there is no partition {partition}; there are {len(known)}", where=url)
        start, end = reader.start_offset(partition), reader.end_offset(partition)
        position = (start if offset is None else offset) if last is None else max(start, end - last)
        left = limit if last is None else last
        while left > 0 and (messages := reader.read(partition, position, max_bytes=1 << 20, end=end)) is not None:
            for message in messages.payload.split(b"\n")[:-1][:left]:
                yield message
                left -= 1
            position = messages.next_offset


@command.command()
@click.argument("topic")
@click.option("--keep-gib", type=Number(min=0), help="Keep at most so much. Default: [spool] retention_gib.")
@click.option("--keep-hours", type=Number(min=0), help="Keep no older. Default: [spool] retention_hours.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@pass_context_object
def prune(context: CliContext, topic: str, keep_gib: float | None, keep_hours: float | None, as_json: bool) -> None:
    """Delete old segments of a spool, only those that every reader has committed.

    \b
    Examples:
      hackwatch topics prune process
      hackwatch topics prune memory --keep-gib 1
    """
    import json
    from dataclasses import replace

    from hackwatch.topics.retention import retention_of
    from hackwatch.topics.spool import SpoolReader

    retention = retention_of(context.settings().spool)
    if keep_gib is not None:
        retention = replace(retention, max_bytes=int(keep_gib * (1 << 30)))
    if keep_hours is not None:
        retention = replace(retention, max_age_seconds=keep_hours * 3600)
    pruned = SpoolReader(_folder(_url(context, topic))).prune(retention)
    if as_json:
        click.echo(json.dumps({"segments": pruned.segments, "bytes": pruned.bytes}))
    else:
        click.echo(f"deleted {pruned.segments} segments, {size(pruned.bytes)}")
