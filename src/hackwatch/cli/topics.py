"""`hackwatch topics`: what the embedded topics hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object

if TYPE_CHECKING:
    from hackwatch.topics.inspection import TopicStatus

__all__ = ["command"]


@click.group()
def command() -> None:
    """Show, read and prune topics.

    A TOPIC is the name of a stream (its topic by the settings), a folder, or spool:PATH.

    \b
    Examples:
      hackwatch topics list
      hackwatch topics describe process
      hackwatch topics read process --last 5
      hackwatch topics prune process --keep-hours 2
    """


def _folder(context: CliContext, topic: str) -> Path:
    from hackwatch.errors import ConfigurationError
    from hackwatch.topics import spool_folder
    from hackwatch.topics.layout import partition_count

    settings = context.settings()
    folder = spool_folder(settings.spool_url(topic) if topic in settings.streams else topic)
    if not partition_count(folder):
        raise ConfigurationError(
            "there is no topic here", where=str(folder), next_step="`hackwatch topics list` shows those of the settings"
        )
    return folder


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@pass_context_object
def list_topics(context: CliContext, as_json: bool) -> None:
    """List the topics of the settings: size, messages waiting, how far the readers are."""
    import json

    from hackwatch.topics import spool_folder
    from hackwatch.topics.inspection import inspect_topic

    settings = context.settings()
    found = {name: inspect_topic(spool_folder(settings.spool_url(name))) for name in settings.streams}
    if as_json:
        click.echo(json.dumps([{"stream": name, **status.as_dict()} for name, status in found.items()]))
        return
    click.echo(f"{'stream':<12} {'partitions':>10} {'kept MB':>10} {'unread MB':>10}  folder")
    for name, status in found.items():
        kept, unread = status.kept_bytes / 1e6, status.unread_bytes / 1e6
        shown = "-" if status.partitions else "nothing yet"
        text = f"{name:<12} {len(status.partitions):>10} {kept:>10,.1f} {unread:>10,.1f}  {status.folder}"
        click.echo(text if status.partitions else f"{name:<12} {shown:>10} {'':>21}  {status.folder}")


@command.command()
@click.argument("topic")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@pass_context_object
def describe(context: CliContext, topic: str, as_json: bool) -> None:
    """Show the partitions of a topic: positions, segments, what each reader committed."""
    import json

    from hackwatch.topics.inspection import inspect_topic

    status = inspect_topic(_folder(context, topic))
    if as_json:
        click.echo(json.dumps(status.as_dict()))
        return
    _print_partitions(status)


def _print_partitions(status: TopicStatus) -> None:
    click.echo(f"{status.folder}")
    click.echo(f"{'partition':>9} {'segments':>9} {'start':>16} {'end':>16}  committed")
    for part in status.partitions:
        committed = ", ".join(f"{name} {offset}" for name, offset in part.committed.items()) or "by nobody"
        click.echo(f"{part.partition:>9} {part.segments:>9} {part.start:>16} {part.end:>16}  {committed}")


@command.command()
@click.argument("topic")
@click.option("--partition", type=click.IntRange(min=0), default=0, show_default=True, help="Partition to read.")
@click.option("--offset", type=click.IntRange(min=0), help="Position to begin at. Default: the oldest kept.")
@click.option("--last", type=click.IntRange(min=1), help="Only the last so many messages.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many messages.")
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
    from hackwatch.topics.inspection import last_messages, messages_from

    folder = _folder(context, topic)
    found = last_messages(folder, partition, last) if last else messages_from(folder, partition, offset, limit)
    for message in found:
        if raw:
            click.echo(message)
        else:
            click.echo(printable(message.decode("utf-8", "backslashreplace")))


@command.command()
@click.argument("topic")
@click.option("--keep-gib", type=click.FloatRange(min=0), help="Keep at most so much. Default: [spool] retention_gib.")
@click.option("--keep-hours", type=click.FloatRange(min=0), help="Keep no older. Default: [spool] retention_hours.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@pass_context_object
def prune(context: CliContext, topic: str, keep_gib: float | None, keep_hours: float | None, as_json: bool) -> None:
    """Delete old segments, only those that every reader has committed.

    \b
    Examples:
      hackwatch topics prune process
      hackwatch topics prune memory --keep-gib 1
    """
    import json

    from hackwatch.topics import Retention
    from hackwatch.topics.spool import SpoolReader

    spool = context.settings().spool
    gib = spool.retention_gib if keep_gib is None else keep_gib
    hours = spool.retention_hours if keep_hours is None else keep_hours
    retention = Retention(
        max_bytes=None if gib is None else int(gib * (1 << 30)),
        max_age_seconds=None if hours is None else hours * 3600,
    )
    pruned = SpoolReader(_folder(context, topic)).prune(retention)
    if as_json:
        click.echo(json.dumps({"segments": pruned.segments, "bytes": pruned.bytes}))
    else:
        click.echo(f"deleted {pruned.segments} segments, {pruned.bytes / 1e6:,.1f} MB")
