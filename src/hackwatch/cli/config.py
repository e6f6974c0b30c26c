"""`hackwatch config`: show and check the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hackwatch.cli.context import CliContext, pass_context_object

if TYPE_CHECKING:
    from hackwatch.config import Settings

__all__ = ["command"]


@click.group()
def command() -> None:
    """Show or check the settings.

    \b
    Examples:
      hackwatch config show
      HACKWATCH_SITE=berlin hackwatch config show --json
      hackwatch --config new.toml config check
    """


@command.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@pass_context_object
def show(context: CliContext, as_json: bool) -> None:
    """Print the settings in force, secrets hidden."""
    import json

    settings = context.settings()
    shown = settings.shown() | {"correlations": _correlations(settings)}
    if as_json:
        click.echo(json.dumps(shown))
        return
    _print_table(shown, "")


@command.command()
@pass_context_object
def check(context: CliContext) -> None:
    """Report all that is wrong with the settings and the rule files they name; exit code 2 if anything is."""
    import os
    from contextlib import suppress

    from hackwatch import streams
    from hackwatch.config import find_file
    from hackwatch.detect.rules import load_rules
    from hackwatch.errors import ResourceError
    from hackwatch.routes import open_route
    from hackwatch.streams.options import of_settings

    settings = context.settings()
    known = {name: streams.get(name) for name in settings.streams}
    for name, stream in known.items():
        of_settings(stream, settings.streams[name])
    streams.check_correlations(settings.correlations)
    load_rules(settings.detection.rules, known, shipped=settings.detection.shipped_rules)
    for route in settings.routes:
        with suppress(ResourceError):  # an extra that this machine lacks is no mistake in the settings
            open_route(route, settings.kafka).close()
    file = find_file(context.config, os.environ)
    click.echo(f"{file or 'no settings file: the defaults'}: no problems")


def _correlations(settings: Settings) -> dict[str, dict[str, Any]]:
    """Each declared correlation as it is in force."""
    from hackwatch import streams

    found = {}
    for declared in streams.correlations():
        enabled, seconds = settings.correlation_of(declared.name)
        found[declared.name] = {"enabled": enabled, "seconds": declared.seconds if seconds is None else seconds}
    return found


def _print_table(values: dict[str, object], prefix: str) -> None:
    """Plain values first, then tables, as in TOML."""
    import json

    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    for key, value in values.items():
        if key not in tables and value is not None:
            click.echo(f"{prefix}{key} = {json.dumps(value)}")
    for key, value in tables.items():
        _print_table(value, f"{prefix}{key}.")
