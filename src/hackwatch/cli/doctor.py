"""`hackwatch doctor`: what this machine can run, what is missing, and the command that helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object

if TYPE_CHECKING:
    from hackwatch.doctor import Finding

__all__ = ["command"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@pass_context_object
def command(context: CliContext, as_json: bool) -> None:
    """Say what this machine can run, and what is missing.

    Each line is ok, a hint (works, could be better) or a fault (something will not work), with the command that helps.
    Exit code 4 if there is a fault.

    \b
    Examples:
      hackwatch doctor
      hackwatch --data /srv/hackwatch doctor
      hackwatch doctor --json | jq '.findings[] | select(.level != "ok")'
    """
    from hackwatch.doctor import examine
    from hackwatch.errors import ConfigurationError

    try:
        findings = examine(context.settings())
    except ConfigurationError as error:
        from hackwatch.config import Settings
        from hackwatch.doctor import Finding

        number = len(error.problems) or 1
        what = f"{number} problem{'' if number == 1 else 's'} in {error.where or 'the environment'}"
        fault = Finding("settings", "fault", what, f"{context.again()} config check")
        findings = [fault, *examine(Settings())]
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        _print(findings)
    if any(finding.level == "fault" for finding in findings):
        raise click.exceptions.Exit(4)


def _print(findings: list[Finding]) -> None:
    from hackwatch.text import printable

    colours = {"ok": "green", "hint": "yellow", "fault": "red"}
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark = click.style(f"{finding.level:5}", fg=colours[finding.level])
        click.echo(f"{mark}  {finding.name:{width}}  {printable(finding.what)}")
        if finding.help:
            click.echo(f"{'':5}  {'':{width}}  -> {printable(finding.help)}")
    faults = sum(finding.level == "fault" for finding in findings)
    click.echo("this machine can run hackwatch" if not faults else f"{faults} of these must be mended first")
