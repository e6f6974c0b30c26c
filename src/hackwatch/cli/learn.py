"""`hackwatch learn`: what is normal here, from the machine itself, without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.cli.detecting import enricher_of, note_unread_role, progress, registry, role_option, used_as
from hackwatch.numbers import COUNT, POSITIVE, SEED

if TYPE_CHECKING:
    import polars as pl

    from hackwatch.config import KafkaSettings, Settings
    from hackwatch.errors import DataError
    from hackwatch.feeds.collector import LocalCollector, Watching
    from hackwatch.feeds.pace import OnProgress
    from hackwatch.streams.stream import Stream
    from hackwatch.topics import TopicWriter

__all__ = ["command"]

_READ_BYTES = 16 << 20


@click.command()
@click.option("--minutes", type=POSITIVE, default=5.0, show_default=True, help="How long to watch this machine.")
@click.option(
    "--interval", type=POSITIVE, default=5.0, show_default=True, help="Seconds between two samples of all processes."
)
@click.option("--lake", is_flag=True, help="Learn from the lake's latest records instead of watching.")
@click.option("--spool", is_flag=True, help="Learn from the messages in the topics instead of watching.")
@click.option(
    "--as",
    "names",
    metavar="STREAM",
    multiple=True,
    help="With --lake or --spool: learn this stream; may be given several times. Default: those of a Linux host.",
)
@click.option("--records", type=COUNT, default=500_000, show_default=True, help="Most records from lake or topic.")
@click.option("--seed", type=SEED, default=1, show_default=True, help="The same records and seed give the same models.")
@role_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@pass_context_object
def command(
    context: CliContext,
    minutes: float,
    interval: float,
    lake: bool,
    spool: bool,
    names: tuple[str, ...],
    records: int,
    seed: int,
    role: str,
    as_json: bool,
) -> None:
    """Watch this machine for a while, learn what is normal on it, and let engines use what was learned.

    All that is seen is taken as normal. The thresholds lie above the oddest of it, with a margin, so that the machine
    at rest raises nothing.

    \b
    Examples:
      hackwatch learn --minutes 10
      hackwatch learn --lake
      hackwatch learn --lake --as process
    """
    from hackwatch import streams, views
    from hackwatch.feeds.collector import local_collectors

    if lake and spool:
        raise click.UsageError("Give --lake or --spool, not both.")
    if names and not (lake or spool):
        raise click.UsageError("--as goes with --lake or --spool: only a Linux host can be watched from here.")
    collectors = local_collectors()
    watched = tuple(name for collector in collectors for name in collector.streams)
    chosen = [streams.get(name) for name in names or watched]
    records_of: Callable[[Stream], pl.DataFrame]
    if lake:
        records_of = partial(views.open(context.settings()).latest, most=records)
    elif spool:
        records_of = partial(_from_the_topic, context.settings(), most=records)
    else:
        seen = _watched(collectors, minutes, interval)

        def records_of(stream: Stream) -> pl.DataFrame:
            return seen[stream.name]

    learned, lacking = _learned(context, chosen, records_of, seed, role)
    if learned:
        _say(learned, role, as_json)
    if lacking:
        raise lacking[0]


def _learned(
    context: CliContext, chosen: Sequence[Stream], records_of: Callable[[Stream], pl.DataFrame], seed: int, role: str
) -> tuple[dict[str, tuple[str, int, float]], list[DataError]]:
    """By stream the version that was added, of how many records and its threshold; and why others were not learned."""
    from hackwatch.detect.training.learn import learn
    from hackwatch.errors import DataError

    models = registry(context)
    learned: dict[str, tuple[str, int, float]] = {}
    lacking: list[DataError] = []
    for stream in chosen:
        try:
            found = records_of(stream)
            with progress() as report:
                bundle = learn(found, stream, seed=seed, progress=report)
        except DataError as error:  # of the others there may be enough
            lacking.append(error)
        else:
            learned[stream.name] = (models.add(bundle, stream, role=role), found.height, bundle.threshold)
            note_unread_role(context, stream.name, role)
    return learned, lacking


def _watched(collectors: Sequence[LocalCollector], minutes: float, interval: float) -> dict[str, pl.DataFrame]:
    """Samples of this machine for so long, by way of a temporary spool."""
    import tempfile

    from hackwatch import streams
    from hackwatch.errors import ConfigurationError
    from hackwatch.topics import open_writer

    samples = int(minutes * 60 / interval)
    if samples < 2:
        raise ConfigurationError(
            f"{minutes:g} minutes at one sample per {interval:g} s are {samples} samples",
            next_step="watch longer (--minutes) or more often (--interval)",
        )
    names = [name for collector in collectors for name in collector.streams]
    with tempfile.TemporaryDirectory(prefix="hackwatch-learn-") as folder, progress() as report:
        urls = {name: str(Path(folder) / name) for name in names}
        writers = {name: open_writer(url, 1, "none") for name, url in urls.items()}
        taken = count(1)
        _together(
            [collector.watch(interval, samples) for collector in collectors],
            writers,
            lambda _: report("watching this machine", next(taken), samples * len(collectors)),
        )
        for writer in writers.values():
            writer.close()
        return {name: _from_topic(url, streams.get(name), 1 << 62) for name, url in urls.items()}


def _together(watching: list[Watching], writers: Mapping[str, TopicWriter], heard: OnProgress) -> None:
    """Run collectors until each has taken its samples; one that fails stops the others."""
    import threading

    from hackwatch.threads import ThreadGroup

    threads = ThreadGroup(threading.Event())
    for one in watching:
        threads.start("collector", partial(one.run, writers, threads.stop, heard))
    try:
        threads.join()
    finally:
        threads.stop.set()
        threads.join()


def _from_the_topic(settings: Settings, stream: Stream, most: int) -> pl.DataFrame:
    return _from_topic(settings.spool_url(stream.name), stream, most, settings.kafka)


def _from_topic(url: str, stream: Stream, most: int, kafka: KafkaSettings | None = None) -> pl.DataFrame:
    """The newest `most` records of a topic, about evenly from its partitions."""
    import polars as pl

    from hackwatch.errors import DataError
    from hackwatch.streams.stream import DecodeOptions
    from hackwatch.topics import open_reader

    reader, enrich = open_reader(url, name="learn", kafka=kafka), enricher_of(stream)
    frames: list[pl.DataFrame] = []
    for partition in reader.partitions():
        part: list[pl.DataFrame] = []
        offset, end = reader.start_offset(partition), reader.end_offset(partition)
        while (messages := reader.read(partition, offset, max_bytes=_READ_BYTES, end=end)) is not None:
            part.append(enrich(stream.decode(messages, DecodeOptions()).records))
            offset = messages.next_offset
            while len(part) > 1 and sum(frame.height for frame in part[1:]) >= most:
                part.pop(0)
        frames += part
    reader.close()
    if not frames:
        raise DataError(
            f"the topic of {stream.name} is empty",
            where=url,
            next_step="hackwatch feed collect, or learn without --spool",
        )
    found = pl.concat(frames)
    return found.sort("event_time").tail(most)


def _say(learned: Mapping[str, tuple[str, int, float]], role: str, as_json: bool) -> None:
    """`learned`: by stream, the version, how many records it learned from, and the threshold."""
    if as_json:
        import json

        keys = ("version", "records", "threshold")
        click.echo(json.dumps({name: dict(zip(keys, facts, strict=True)) for name, facts in learned.items()}))
        return
    for name, (version, rows, threshold) in learned.items():
        click.echo(f"{name}: learned from {rows:,} records, {version}, threshold {threshold:.4f}")
    click.echo(used_as(role, "them"))
