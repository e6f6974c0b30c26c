"""`hackwatch feed`: fill topics by replay, simulation, collection or following a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.cli.feeding import (
    Reporter,
    counted,
    message_option,
    report_options,
    shown_place,
    stopped_by_signals,
    writers,
)
from hackwatch.numbers import COUNT, POSITIVE, SEED

if TYPE_CHECKING:
    from hackwatch.feeds.collector import Collector
    from hackwatch.feeds.replay import Shape
    from hackwatch.feeds.simulator import Attack
    from hackwatch.streams.stream import Stream

__all__ = ["command"]

_TOPIC = "Topic to fill: a folder, spool:PATH or kafka://HOST:PORT/TOPIC. Default: where the engine reads this stream."
_TOPICS = (
    "Where to fill the topics of all streams: a folder, kafka://HOST:PORT, or an address with {stream} in it. "
    "Default: where the engine reads them."
)


class Feeds(click.Group):
    """The feeds of any stream, and beside them the collectors of families, which are loaded when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from hackwatch import streams

        return sorted((*super().list_commands(ctx), *streams.collectors()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from hackwatch import streams

        if (general := super().get_command(ctx, cmd_name)) is not None:
            return general
        reference = streams.collectors().get(cmd_name)
        return None if reference is None else _collecting(cmd_name, streams.load(reference))


def _collecting(name: str, collector: Collector) -> click.Command:
    """The command of a collector."""

    @click.command(name, help=collector.help, params=[*collector.options])
    @message_option("record")
    @click.option("--to", help=_TOPICS)
    @report_options
    @pass_context_object
    def collect(
        context: CliContext, /, shape: Shape, to: str | None, duration: float | None, as_json: bool, **options: Any
    ) -> None:
        feed, names = collector.open(**options), collector.streams
        with writers(context, names, to, shape) as opened, stopped_by_signals(duration) as stop:
            reporter = Reporter(name, shown_place(context, names, to), as_json=as_json)
            sent = feed.run(dict(zip(names, opened, strict=True)), stop, reporter.progress)
            reporter.done(counted(sent, opened))

    return collect


@click.group(cls=Feeds)
def command() -> None:
    """Fill topics: replay, simulate, collect, follow.

    \b
    Examples:
      hackwatch feed simulate host --rate 2000
      hackwatch feed collect
      hackwatch feed replay process --csv Streaming_Linux_process.csv
      hackwatch feed follow /var/log/telemetry.ndjson --as process
    """


@command.command()
@click.argument("stream")
@click.option(
    "--csv",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="Recording with a header; may be gzipped.",
)
@click.option("--to", help=_TOPIC)
@click.option("--speed", type=POSITIVE, default=1.0, help="So many times faster.")
@click.option("--cycles", type=COUNT, help="Stop after so many cycles.")
@click.option(
    "--entities",
    "--machines",
    "entities",
    default="",
    help="Whom to play, as 4,5,6. Default: those of the recording, or those that its stream declares.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the random counts.")
@message_option("array")
@click.option("--key/--no-key", "keyed", default=True, help="Keep each entity in one partition.", show_default=True)
@click.option(
    "--strings/--numbers",
    default=None,
    help="Send every value as text, or numbers as numbers. Default: text to Kafka, where classic consumers expect it.",
)
@report_options
@pass_context_object
def replay(
    context: CliContext,
    stream: str,
    csv: Path,
    to: str | None,
    speed: float,
    cycles: int | None,
    entities: str,
    seed: int,
    shape: Shape,
    keyed: bool,
    strings: bool | None,
    duration: float | None,
    as_json: bool,
) -> None:
    """Replay a recorded CSV with the classic pace, stamped with the present time.

    The pace is declared by the stream: how many records each entity sends in a cycle, how long a cycle is, and how many
    come a cycle late. When the recording ends it starts again. To a Kafka topic it sends what the classic producers
    send: one JSON array for each entity and cycle, of records whose values are all text.

    \b
    Examples:
      hackwatch feed replay process --csv process.csv
      hackwatch feed replay memory --csv memory.csv.gz --speed 10 --cycles 100 --seed 7
      hackwatch feed replay process --csv process.csv --to /tmp/process --message record
      hackwatch feed replay process --csv process.csv --to kafka://localhost:9092/process_stream
    """
    from hackwatch import topics
    from hackwatch.feeds.replay import Replay, check_recording, read_recording, replayable

    declared, pace = replayable(stream)
    names = tuple(name.strip() for name in entities.split(",") if name.strip())
    where = to or context.settings().spool_url(stream)
    if strings is None:
        strings = topics.is_kafka(where)
    recording = read_recording(csv, declared, names, strings=strings)
    check_recording(recording, declared, csv)
    feed = Replay(
        recording,
        pace,
        seed=seed,
        cycles=cycles,
        speed=speed,
        shape=shape,
        keyed=keyed,
        strings=strings,
    )
    with writers(context, (stream,), to) as [writer], stopped_by_signals(duration) as stop:
        reporter = Reporter("replay", where, as_json=as_json)
        played = {declared.noun.plural: list(recording.entities)}
        reporter.done(feed.run(writer, stop, reporter.progress), **played)


@command.command()
@click.argument("name", metavar="FAMILY")
@click.option(
    "--rate", type=POSITIVE, default=2000.0, show_default=True, help="Records a second, all streams together."
)
@click.option(
    "--entities",
    "--machines",
    "entities",
    type=COUNT,
    default=5,
    show_default=True,
    help="Machines, or what else the family is about; high rates bring more.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the world and its attacks.")
@click.option(
    "--attack-every", type=POSITIVE, default=60.0, show_default=True, help="Seconds between two attacks, on average."
)
@click.option("--quiet", is_flag=True, help="No attacks at all.")
@click.option("--labels", is_flag=True, help="Write the truth (label, type) into the messages.")
@message_option("record")
@click.option("--to", help=_TOPICS)
@report_options
@pass_context_object
def simulate(
    context: CliContext,
    name: str,
    rate: float,
    entities: int,
    seed: int,
    attack_every: float,
    quiet: bool,
    labels: bool,
    shape: Shape,
    to: str | None,
    duration: float | None,
    as_json: bool,
) -> None:
    """Simulate a FAMILY at work and, now and then, under attack: `host` (machines), or one that you have installed.

    \b
    Examples:
      hackwatch feed simulate host
      hackwatch feed simulate host --rate 100000 --duration 60 --json
      hackwatch feed simulate host --seed 7 --quiet --to /tmp/topics
    """
    from hackwatch import streams
    from hackwatch.feeds.simulator import simulator_of

    family = streams.family(name)
    reporter = Reporter("simulate", shown_place(context, family.streams, to), as_json=as_json)
    begun: list[Attack] = []

    def on_attack(attack: Attack) -> None:
        begun.append(attack)
        reporter.note(f"attack begins: {attack.kind} on {attack.entity}")

    playing = simulator_of(family).play(
        rate=rate,
        entities=entities,
        seed=seed,
        attack_spacing=attack_every,
        quiet=quiet,
        labels=labels,
        on_attack=on_attack,
    )
    with writers(context, family.streams, to, shape) as opened, stopped_by_signals(duration) as stop:
        sent = playing.run(dict(zip(family.streams, opened, strict=True)), stop, reporter.progress)
        played = {streams.noun(family.streams).plural: list(playing.entities)[:100]}
        reporter.done(counted(sent, opened), **played, attacks=len(begun))


def _form(stream: Stream, name: str) -> str | None:
    """The name of a format of the stream; None for that which the file shows."""
    known = {"auto": None, **{one.name: one.name for one in stream.formats}}
    if "json" in known:
        known["ndjson"] = "json"
    if name not in known:
        raise click.BadParameter(f"{stream.name} reads {', '.join(known)}", param_hint="--form")
    return known[name]


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "stream", required=True, help="Stream that the lines belong to.")
@click.option("--to", help=_TOPIC)
@click.option("--from-start", is_flag=True, help="The first time, begin at the start of the file, not at its end.")
@click.option(
    "--form",
    default="auto",
    show_default=True,
    help="What the lines are: ndjson, csv (with a header), or another format that the stream has; auto looks at the "
    "file.",
)
@click.option(
    "--state", type=click.Path(path_type=Path), help="File that keeps the position. Default: in the data folder."
)
@report_options
@pass_context_object
def follow(
    context: CliContext,
    file: Path,
    stream: str,
    to: str | None,
    from_start: bool,
    form: str,
    state: Path | None,
    duration: float | None,
    as_json: bool,
) -> None:
    """Follow a growing file, through rotation and restarts: each whole line becomes a message.

    \b
    Examples:
      hackwatch feed follow /var/log/telemetry.ndjson --as process
      hackwatch feed follow process.csv --as process --from-start
    """
    from hackwatch import streams
    from hackwatch.config import prepare_data_folder
    from hackwatch.feeds.follow import Follow, state_file

    declared = streams.get(stream)
    settings = context.settings()
    where = to or settings.spool_url(stream)
    if state is None:
        state = state_file(prepare_data_folder(settings.data), file, where)
    feed = Follow(file, state, declared, from_start=from_start, form=_form(declared, form))
    with writers(context, (stream,), to) as [writer], stopped_by_signals(duration) as stop:
        reporter = Reporter("follow", where, as_json=as_json)
        reporter.done(feed.run(writer, stop, reporter.progress))
