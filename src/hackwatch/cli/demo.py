"""`hackwatch demo`: the tour, in one command."""

from __future__ import annotations

import click

from hackwatch.cli.context import CliContext, pass_context_object, program
from hackwatch.numbers import POSITIVE, SEED

__all__ = ["command"]


@click.command(
    "demo",
    epilog="""\b
Examples:
  hackwatch demo                            until q or Ctrl-C
  hackwatch demo --duration 60 --seed 7     another world, for a minute
  hackwatch demo --plain                    lines instead of a screen
  hackwatch --data ./tour demo              keep the data there
""",
)
@click.option("--duration", type=POSITIVE, help="Stop after so many seconds.")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Seed of world and attacks.")
@click.option(
    "--rate", type=POSITIVE, default=500.0, show_default=True, help="Records a second, both streams together."
)
@click.option("--plain", is_flag=True, help="Lines instead of a screen; usual where there is no terminal.")
@pass_context_object
def command(context: CliContext, duration: float | None, seed: int, rate: float, plain: bool) -> None:
    """Watch simulated machines under attack: the tour.

    Simulates machines at work and, now and then, under attack; trains two detectors on labelled records of other
    simulated machines (some seconds, the first time only); runs the engine; shows what it finds beside what was
    simulated. Nothing of this machine is read. The data is kept until the next demo.
    """
    import time

    started = time.time()
    click.echo("hackwatch demo: simulated machines, some of them soon under attack; q or Ctrl-C ends it")
    from hackwatch.cli.feeding import stopped_by_signals
    from hackwatch.demo import run_demo
    from hackwatch.threads import ThreadGroup

    left = None if duration is None else max(0.1, duration - (time.time() - started))
    # Only now: Polars, when it is imported, puts a handler of SIGINT in place that would throw into any query.
    with stopped_by_signals(left) as stop:
        run_demo(
            ThreadGroup(stop),
            seed=seed,
            rate=rate,
            data=context.overrides.get("data"),
            plain=plain,
            write=click.echo,
            started=started,
            program=program(),
        )
