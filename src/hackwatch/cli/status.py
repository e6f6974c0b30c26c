"""`hackwatch status`: whether the engine is alive, for people, probes and scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.counts import OUTCOMES
from hackwatch.numbers import POSITIVE

if TYPE_CHECKING:
    from hackwatch.views import EngineStatus, StreamView

__all__ = ["command"]

#: What is said of each stream, by its counter: what went on as it should goes without saying.
_COUNTERS = ("records", *(outcome for outcome in OUTCOMES if outcome != "on_time"), "suspects")


@click.command(
    "status",
    epilog="""\b
Examples:
  hackwatch status                        what the engine said last
  hackwatch status --max-age 60 || page   somebody, if it has been silent for a minute
  hackwatch status --json | jq .epoch     the last epoch in lake and store
""",
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option(
    "--max-age",
    type=POSITIVE,
    default=30.0,
    show_default=True,
    help="Longest silence of a healthy engine, seconds.",
)
@pass_context_object
def command(context: CliContext, as_json: bool, max_age: float) -> None:
    """Say whether the engine is alive, and how far it is.

    Exit code 0 if the engine has spoken within --max-age seconds, 1 if it is silent or has stopped: a probe for
    containers and monitoring. An engine that waits (a full disk, a broker out of reach) is alive: to start it again
    would not help. Its last words are read from the store, so with a shared store this works from anywhere.
    """
    import json

    from hackwatch import views

    with views.open(context.settings()) as data:
        status = data.status(max_age=max_age)
    if as_json:
        click.echo(json.dumps(status.document(), ensure_ascii=True))
    else:
        for line in lines(status):
            click.echo(line)
    if not status.healthy:
        raise click.exceptions.Exit(1)


def lines(status: EngineStatus) -> Iterator[str]:
    """The same for people."""
    from hackwatch.text import printable
    from hackwatch.top.figures import age, amount, waiting

    silence = "" if status.healthy or status.state == "stopped" else " (silent)"
    yield printable(f"{status.state}{silence}, said {age(status.age)} ago by process {status.pid}")
    yield printable(f"pipeline {status.pipeline} of site {status.site}, up {age(status.updated - status.started)}")
    yield (
        f"epoch {status.epoch} committed {age(status.epoch_age)} ago, {amount(status.rate)} records/s, "
        f"a micro-batch in {status.latency_p50:.0f} ms (p99 {status.latency_p99:.0f} ms)"
    )
    for stream in status.streams:
        if stream.partitions == 0:
            yield printable(f"{stream.name}: no topic yet")
            continue
        numbers = {name: getattr(stream, name) for name in _COUNTERS}
        counted = ", ".join(f"{amount(n)} {name}" for name, n in numbers.items() if n or name == "records")
        lag = waiting(stream.lag_bytes, stream.lag_messages)
        yield printable(f"{stream.name}: {counted}; {lag} to read; model {stream.model or 'none'}")
        yield from map(printable, clocks(stream))


def clocks(stream: StreamView) -> Iterator[str]:
    """Which sources of a stream are late, and whose clocks are wrong."""
    if stream.late_sources:
        late = ", ".join(f"{source} ({number:,} records)" for source, number in stream.late_sources.items())
        yield f"  late: {late}"
    for source, seconds in stream.skewed_sources.items():
        yield f"  clock of {source}: {abs(seconds):,.0f} s {'ahead of' if seconds > 0 else 'behind'} the others"
