"""`hackwatch watch`: this machine, watched with one command."""

from __future__ import annotations

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.numbers import POSITIVE

__all__ = ["command"]


@click.command(
    "watch",
    epilog="""\b
Examples:
  hackwatch watch                        rules at once, detectors after 10 minutes of learning
  hackwatch watch --learn 60             learn for an hour; also where there are detectors already
  hackwatch watch --no-learn             rules, and detectors if some were learned before
  nohup hackwatch watch > watch.log &    in the background, in lines; hackwatch top shows it live
""",
)
@click.option("--interval", type=POSITIVE, default=5.0, show_default=True, help="Seconds between two samples.")
@click.option(
    "--learn", "minutes", type=POSITIVE, metavar="MINUTES",
    help="Learn for so long, also if there are detectors already. Default: 10 if there are none.",
)  # fmt: skip
@click.option("--no-learn", is_flag=True, help="Learn nothing.")
@click.option("--plain", is_flag=True, help="Lines instead of a screen; usual where there is no terminal.")
@click.option("--duration", type=POSITIVE, help="Stop after so many seconds.")
@pass_context_object
def command(
    context: CliContext, interval: float, minutes: float | None, no_learn: bool, plain: bool, duration: float | None
) -> None:
    """Watch this machine: collect, learn, detect.

    Takes a sample of all processes every few seconds and runs the engine on them. The shipped rules watch at once. What
    is normal here is learned for some minutes; then detectors of both streams watch too. Everything is kept in the data
    folder, so a restart goes on where the last run ended. Linux only.
    """
    if no_learn and minutes is not None:
        raise click.UsageError("Give --learn or --no-learn, not both.")
    settings = context.settings()
    from hackwatch.cli.feeding import stopped_by_signals
    from hackwatch.threads import ThreadGroup
    from hackwatch.top import has_screen
    from hackwatch.watch import watch, watched

    collectors = watched(interval)
    live = has_screen() and not plain
    # Only now: Polars, when it is imported, puts a handler of SIGINT in place that would throw into any query.
    with stopped_by_signals(duration) as stop:
        watch(
            settings,
            ThreadGroup(stop),
            collectors,
            minutes=minutes,
            learning=not no_learn,
            live=live,
            write=click.echo,
        )
    click.echo(f"All that was seen stays in {settings.data}; the next watch goes on there. Try")
    click.echo(f"  {context.again()} alerts list")
    for query in (one.collector.query for one in collectors if one.collector.query is not None):
        click.echo(f'  {context.again()} sql "{query}"')
