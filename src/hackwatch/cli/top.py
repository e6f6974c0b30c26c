"""`hackwatch top`: the running engine, live in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object

if TYPE_CHECKING:
    from hackwatch.config import Settings
    from hackwatch.store import Store

__all__ = ["command"]


@click.command(
    "top",
    epilog="""\b
Examples:
  hackwatch top                     the live screen; q ends it
  hackwatch top --plain             a line for each alert as it comes, and the state every 10 s
  hackwatch top --once              the state now, in lines
  hackwatch top --json | jq .rate   the state now, for a script
""",
)
@click.option("--plain", is_flag=True, help="Lines instead of a screen; usual where there is no terminal.")
@click.option("--once", is_flag=True, help="Print the present state once.")
@click.option("--json", "as_json", is_flag=True, help="Print the present state once, as JSON.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Stop after so many seconds.")
@pass_context_object
def command(context: CliContext, plain: bool, once: bool, as_json: bool, duration: float | None) -> None:
    """Show the running engine live in the terminal.

    Machines, suspects, alerts and their reasons, and its own health.

    Reads what the engine keeps in the store of the data folder; several may look on at once. Times are UTC. Keys: q
    ends it, the arrows choose an alert, enter explains it, esc goes back.
    """
    import json
    import time

    from hackwatch.cli.feeding import stopped_by_signals
    from hackwatch.top import Reader, present, snapshot, snapshot_lines

    settings = context.settings()
    with _store(settings) as store:
        reader = Reader(store, settings.pipeline, time.time)
        if as_json:
            click.echo(json.dumps(snapshot(reader()), ensure_ascii=True))
            return
        if once:
            for line in snapshot_lines(reader()):
                click.echo(line)
            return
        newest = store.alerts(limit=1)
        with stopped_by_signals(duration) as stop:
            present(reader, stop, plain=plain, write=click.echo, after=newest[0].sequence if newest else 0)


def _store(settings: Settings) -> Store:
    """The store of an engine that runs, or has run, in this data folder."""
    from hackwatch.errors import EnvironmentError_
    from hackwatch.store import open_store

    if settings.lock_file.exists():
        store = open_store(settings.store_url, read_only=True)
        if settings.pipeline in store.status():
            return store
        store.close()
    raise EnvironmentError_(
        "no engine has run in this data folder",
        where=str(settings.data),
        next_step="start one with: hackwatch run, hackwatch watch or hackwatch demo",
    )
