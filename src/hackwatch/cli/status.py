"""`hackwatch status`: whether the engine is alive, for people, probes and scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.counts import OUTCOMES
from hackwatch.numbers import POSITIVE

if TYPE_CHECKING:
    from hackwatch.config import Settings

__all__ = ["command", "health", "lines"]

#: What is said of each stream, by its key in the status: what went on as it should goes without saying.
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
    containers and monitoring. An engine that waits (a full disk, a broker out of reach) is alive: to start it anew
    would not help. Its last words are read from the store, so with a shared store this works from anywhere.
    """
    import json
    import time

    told = health(_status(context.settings()), time.time(), max_age)
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=True))
    else:
        for line in lines(told):
            click.echo(line)
    if not told["healthy"]:
        raise click.exceptions.Exit(1)


def health(status: Mapping[str, Any], now: float, max_age: float) -> dict[str, Any]:
    """A status with what follows from it: `healthy`, and `age` (seconds since it was said).

    `now`: Unix seconds. Arrivals of single machines are left out: they are what `hackwatch top` shows.
    """
    age = max(0.0, now - status["updated"])
    streams = {
        name: {key: value for key, value in told.items() if not key.endswith("arrivals")}
        for name, told in status["streams"].items()
    }
    return {
        **status,
        "healthy": age <= max_age and status["state"] != "stopped",
        "age": age,
        "epoch_age": status["epoch_age"] + age,
        "streams": streams,
    }


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """What `health` returned, for people."""
    from hackwatch.text import printable
    from hackwatch.top.figures import age, amount, waiting

    silence = "" if told["healthy"] else " (silent)" if told["state"] != "stopped" else ""
    yield printable(f"{told['state']}{silence}, said {age(told['age'])} ago by process {told['pid']}")
    yield printable(f"pipeline {told['pipeline']} of site {told['site']}, up {age(told['updated'] - told['started'])}")
    latency = told["latency_ms"]
    yield (
        f"epoch {told['epoch']} committed {age(told['epoch_age'])} ago, {amount(told['rate'])} records/s, "
        f"a micro-batch in {latency['p50']:.0f} ms (p99 {latency['p99']:.0f} ms)"
    )
    for name, stream in told["streams"].items():
        counted = ", ".join(f"{amount(stream[key])} {key}" for key in _COUNTERS if stream[key] or key == "records")
        if stream.get("partitions") == 0:
            yield printable(f"{name}: no topic yet")
            continue
        lag = waiting(stream["lag_bytes"], stream.get("lag_messages", 0))
        yield printable(f"{name}: {counted}; {lag} to read; model {stream['model'] or 'none'}")
        yield from map(printable, clocks(stream))


def clocks(stream: Mapping[str, Any]) -> Iterator[str]:
    """Which sources of a stream are late, and whose clocks are wrong."""
    if late := stream.get("late_sources"):
        yield "  late: " + ", ".join(f"{source} ({number:,} records)" for source, number in late.items())
    for source, seconds in stream.get("skewed_sources", {}).items():
        yield f"  clock of {source}: {abs(seconds):,.0f} s {'ahead of' if seconds > 0 else 'behind'} the others"


def _status(settings: Settings) -> dict[str, Any]:
    """What the engine of this pipeline said last."""
    from hackwatch.errors import ResourceError
    from hackwatch.store import open_store

    with open_store(settings.store_url, read_only=True) as store:
        status = store.statuses.read().get(settings.pipeline)
    if status is None:
        raise ResourceError(
            f"no engine has run the pipeline {settings.pipeline}",
            where=str(settings.data),
            next_step="start one with: hackwatch run",
        )
    return status
