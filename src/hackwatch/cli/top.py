"""`hackwatch top`: the running engine, live in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.numbers import POSITIVE

if TYPE_CHECKING:
    from hackwatch.config import Settings
    from hackwatch.streams.stream import Noun
    from hackwatch.top.consumer import Flow

__all__ = ["command"]

#: How long `--from` counts for `--once` and `--json` unless told.
_ONCE_SECONDS = 10.0


@click.command(
    "top",
    epilog="""\b
Examples:
  hackwatch top                     the live screen; q ends it
  hackwatch top --plain             a line for each alert as it comes, and the state every 10 s
  hackwatch top --once              the state now, in lines
  hackwatch top --json | jq .rate   the state now, for a script
\b
Without an engine, counting what arrives in a topic:
  hackwatch top --from kafka://localhost:9092/process_stream
  hackwatch top --from kafka://localhost:9092/process_stream --save-plot process.html
  hackwatch top --from /tmp/topics/process --from-start --json
""",
)
@click.option("--plain", is_flag=True, help="Lines instead of a screen; usual where there is no terminal.")
@click.option("--once", is_flag=True, help="Print the present state once.")
@click.option("--json", "as_json", is_flag=True, help="Print the present state once, as JSON.")
@click.option("--duration", type=POSITIVE, help="Stop after so many seconds.")
@click.option(
    "--from",
    "topic",
    metavar="TOPIC",
    help="Count the records of this topic per entity instead: kafka://HOST:PORT/TOPIC, a folder or spool:PATH.",
)
@click.option("--from-start", is_flag=True, help="With --from: begin at the oldest message, not at the end.")
@click.option(
    "--as", "stream_name", metavar="STREAM", help="With --from: what the topic holds. Default: what its name says."
)
@click.option(
    "--by",
    help="With --from: the field of a record that it is counted by. Default: the entity of the stream that the topic "
    "is called after.",
)
@click.option(
    "--save-plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --from: write the chart to this .png or .html file, every 5 s and at the end.",
)
@pass_context_object
def command(
    context: CliContext,
    plain: bool,
    once: bool,
    as_json: bool,
    duration: float | None,
    topic: str | None,
    from_start: bool,
    stream_name: str | None,
    by: str | None,
    save_plot: Path | None,
) -> None:
    """Show the running engine live in the terminal.

    Entities (machines), suspects, alerts and their reasons, what families show of their aggregates, and its own
    health.

    Reads what the engine keeps in the store of the data folder; several may look on at once. Times are UTC. Keys: q
    ends it, the arrows choose an alert, enter explains it, esc goes back.

    With --from it needs no engine, store or model: it reads the topic itself, from its end, and shows the records of
    each entity in the last 2 minutes by the time of their arrival. It commits nothing. With --once or --json it
    counts for --duration (10 s), or with --from-start until all is read, and prints that.
    """
    if topic is None:
        for option, given in (
            ("--from-start", from_start), ("--as", stream_name), ("--by", by), ("--save-plot", save_plot),
        ):  # fmt: skip
            if given:
                raise click.UsageError(f"{option} goes with --from TOPIC")
        _engine(context, plain, once, as_json, duration)
    else:
        _topic(context, topic, plain, once, as_json, duration, from_start, stream_name, by, save_plot)


def _engine(context: CliContext, plain: bool, once: bool, as_json: bool, duration: float | None) -> None:
    import json

    from hackwatch.cli.feeding import stopped_by_signals
    from hackwatch.top import present, snapshot_lines
    from hackwatch.views import of_engine, snapshot

    with of_engine(context.settings()) as data:
        reader = data.live()
        if as_json:
            click.echo(json.dumps(snapshot(reader()), ensure_ascii=True))
            return
        if once:
            for line in snapshot_lines(reader()):
                click.echo(line)
            return
        newest = max((alert.sequence for alert in data.alerts(limit=1)), default=0)
        with stopped_by_signals(duration) as stop:
            present(reader, stop, plain=plain, write=click.echo, after=newest)


def _topic(
    context: CliContext,
    topic: str,
    plain: bool,
    once: bool,
    as_json: bool,
    duration: float | None,
    from_start: bool,
    stream_name: str | None,
    by: str | None,
    save_plot: Path | None,
) -> None:
    from contextlib import closing

    from hackwatch import topics
    from hackwatch.cli.feeding import stopped_by_signals
    from hackwatch.top.chart import chart_writer
    from hackwatch.top.consume import consume, consume_once
    from hackwatch.top.consumer import Consumer

    settings = context.settings()
    field, noun = counted_by(by, stream_name or stream_of(topic, settings))
    save = chart_writer(save_plot) if save_plot else None
    if (once or as_json) and not from_start:
        duration = duration or _ONCE_SECONDS
    reader = topics.open_reader(topic, name="top", kafka=settings.kafka)
    with closing(reader), stopped_by_signals(duration) as stop:
        consumer = Consumer(reader, by=field, noun=noun, from_start=from_start)
        if once or as_json:
            _print_once(topic, consume_once(consumer, stop, until_read=from_start, save=save), as_json=as_json)
        else:
            consume(consumer, stop, plain=plain, write=click.echo, save=save)


def stream_of(topic: str, settings: Settings) -> str | None:
    """The stream that a topic's address or name stands for, as `.../process` or `.../process_stream` do."""
    from hackwatch import streams

    last = topic.rstrip("/").replace(":", "/").rpartition("/")[2]
    known = {settings.spool_url(name): name for name in streams.names()}
    known |= {word: name for name in streams.names() for word in (name, f"{name}_stream")}
    return known.get(topic) or known.get(last)


def counted_by(by: str | None, stream_name: str | None) -> tuple[str, Noun]:
    """The field that records of a topic are counted by, and what people call what it names."""
    from hackwatch import streams
    from hackwatch.streams.stream import Noun

    stream = streams.get(stream_name or streams.demo_family().streams[0])
    if by is None or by == stream.entity:
        return stream.entity, stream.noun
    return by, Noun(by, streams.ENTITIES.plural)


def _print_once(topic: str, flow: Flow, *, as_json: bool) -> None:
    import json

    from hackwatch.errors import ResourceError
    from hackwatch.top.flow import flow_lines, flow_values

    if flow.trouble is not None:
        raise ResourceError(
            f"the topic cannot be read: {flow.trouble}", where=topic, next_step="check that it runs and is spelled so"
        )
    if as_json:
        click.echo(json.dumps(flow_values(flow), ensure_ascii=True))
        return
    for line in flow_lines(flow):
        click.echo(line)
