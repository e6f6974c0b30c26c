"""`hackwatch learn`: what is normal here, from the machine itself, without labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.cli.detecting import enricher_of, note_unread_role, progress, registry, role_option, used_as
from hackwatch.cli.numbers import COUNT, POSITIVE, SEED

if TYPE_CHECKING:
    import polars as pl

    from hackwatch.config import KafkaSettings, Settings
    from hackwatch.streams.base import Stream

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
    from hackwatch.detect.training.learn import learn

    if lake and spool:
        raise click.UsageError("Give --lake or --spool, not both.")
    if names and not (lake or spool):
        raise click.UsageError("--as goes with --lake or --spool: only a Linux host can be watched from here.")
    chosen = [streams.get(name) for name in names or streams.family("host").streams]
    if lake:
        data = {stream.name: views.open(context.settings()).latest(stream, records) for stream in chosen}
    elif spool:
        data = _from_topics(context.settings(), chosen, records)
    else:
        data = _watched(chosen, minutes, interval)
    models = registry(context)
    learned = {}
    for stream in chosen:
        with progress() as report:
            bundle = learn(data[stream.name], stream, seed=seed, progress=report)
        learned[stream.name] = (models.add(bundle, stream, role=role), data[stream.name].height, bundle.threshold)
        note_unread_role(context, stream.name, role)
    _say(learned, role, as_json)


def _watched(chosen: list[Stream], minutes: float, interval: float) -> dict[str, pl.DataFrame]:
    """Samples of this machine for so long, by way of a temporary spool."""
    import tempfile
    import threading

    from hackwatch.errors import ConfigurationError
    from hackwatch.families.host.collect import CollectFeed
    from hackwatch.topics import open_writer

    samples = int(minutes * 60 / interval)
    if samples < 2:
        raise ConfigurationError(
            f"{minutes:g} minutes at one sample per {interval:g} s are {samples} samples",
            next_step="watch longer (--minutes) or more often (--interval)",
        )
    with tempfile.TemporaryDirectory(prefix="hackwatch-learn-") as folder, progress() as report:
        urls = [str(Path(folder) / stream.name) for stream in chosen]
        writers = [open_writer(url, 1, "none") for url in urls]
        taken = 0

        def heard(*_: object) -> None:
            nonlocal taken
            taken += 1
            report("watching this machine", taken, samples)

        CollectFeed(interval=interval, samples=samples).run(writers[0], writers[1], threading.Event(), heard)
        for writer in writers:
            writer.close()
        return {stream.name: _from_topic(url, stream, 1 << 62) for stream, url in zip(chosen, urls, strict=True)}


def _from_topics(settings: Settings, chosen: list[Stream], most: int) -> dict[str, pl.DataFrame]:
    return {
        stream.name: _from_topic(settings.spool_url(stream.name), stream, most, settings.kafka) for stream in chosen
    }


def _from_topic(url: str, stream: Stream, most: int, kafka: KafkaSettings | None = None) -> pl.DataFrame:
    """The newest `most` records of a topic, about evenly from its partitions."""
    import polars as pl

    from hackwatch.errors import DataError
    from hackwatch.streams.base import DecodeOptions
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
