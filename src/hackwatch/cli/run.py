"""`hackwatch run`: the engine, in the foreground, until it is stopped."""

from __future__ import annotations

import click

from hackwatch.cli.context import CliContext, pass_context_object

__all__ = ["command"]


@click.command(
    "run",
    epilog="""\b
Examples:
  hackwatch run                          read the default topics until Ctrl-C
  hackwatch run --metrics-port 9464      with a Prometheus endpoint on loopback
  hackwatch --data /var/lib/hackwatch run --duration 3600
  hackwatch --log-format json run        for a log collector
""",
)
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Stop after so many seconds.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve Prometheus metrics on this port.")
@pass_context_object
def command(context: CliContext, duration: float | None, metrics_port: int | None) -> None:
    """Run the engine: topics in, lake and alerts out.

    Reads the topics of all enabled streams, scores every record, and writes alerts at once and everything else epoch
    by epoch. Ctrl-C or SIGTERM commits the last epoch and ends it; a kill at any moment loses and doubles nothing.
    """
    from hackwatch.cli.feeding import stopped_by_signals
    from hackwatch.engine.service import run_service

    settings = context.settings(**({} if metrics_port is None else {"metrics__port": metrics_port}))
    with stopped_by_signals(duration) as stop:
        run_service(settings, stop)
