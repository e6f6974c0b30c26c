"""`hackwatch rules`: the rules that stand beside the models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hackwatch.cli.context import CliContext, pass_context_object

if TYPE_CHECKING:
    from hackwatch.detect.rules import RuleSet
    from hackwatch.streams.stream import Stream

__all__ = ["command"]


@click.group()
def command() -> None:
    """List and check rules.

    A rule is a condition in SQL over one record's columns, with severity, ATT&CK technique, and sample records that
    must and must not fire. Files of your own are named in the settings (detection.rules).

    \b
    Examples:
      hackwatch rules list
      hackwatch rules show crypto-miner
      hackwatch rules check my-rules.toml
    """


@command.command("list")
@click.option("--stream", help="Only the rules of this stream.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON array.")
@pass_context_object
def list_rules(context: CliContext, stream: str | None, as_json: bool) -> None:
    """List the rules in force: shipped ones and those of the settings.

    \b
    Examples:
      hackwatch rules list --stream memory
      hackwatch rules list --json | jq -r '.[].technique' | sort -u
    """
    from hackwatch import streams

    if stream is not None:
        streams.get(stream)
    rules = [rule for rule in _configured(context) if stream in (None, rule.stream)]
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps([asdict(rule) for rule in rules]))
        return
    width = max((len(rule.id) for rule in rules), default=0)
    for rule in rules:
        click.echo(f"{rule.id:{width}}  {rule.stream:8} {rule.severity:13} {rule.technique or '-':9}  {rule.title}")


@command.command()
@click.argument("rule_id", metavar="ID")
@pass_context_object
def show(context: CliContext, rule_id: str) -> None:
    """Show one rule in full: condition, samples, where it is written.

    \b
    Example:
      hackwatch rules show crypto-miner
    """
    from hackwatch.errors import ConfigurationError

    rules = _configured(context)
    if rule_id not in rules:
        raise ConfigurationError(f"there is no rule {rule_id!r}", next_step="see them with: hackwatch rules list")
    rule = rules[rule_id]
    click.echo(f"{rule.id}: {rule.title}")
    click.echo(f"  stream     {rule.stream}")
    click.echo(f"  severity   {rule.severity}")
    click.echo(f"  ATT&CK     {' '.join(filter(None, (rule.technique, rule.tactic))) or '-'}")
    if rule.at_least > 1:
        click.echo(f"  when       {rule.at_least} records of one entity within {rule.within_seconds:g} s")
    click.echo(f"  source     {rule.source}")
    click.echo(click.wrap_text(rule.description, 100, "  ", "  "))
    click.echo("  condition\n" + "\n".join(f"    {line}" for line in rule.where.splitlines()))
    for title, samples in (("fires on", rule.must_fire), ("not on", rule.must_not_fire)):
        for sample in samples:
            click.echo(f"  {title:10} {', '.join(f'{column} = {value!r}' for column, value in sample.items())}")


@command.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check rule files: form, conditions and samples. Exit code 2 with every problem and its line.

    The shipped rules are loaded before, so that overrides can be checked too.

    \b
    Example:
      hackwatch rules check my-rules.toml
    """
    from hackwatch.detect.rules import load_rules

    rules = load_rules(files, _streams())
    own = sum(rule.source.startswith(tuple(str(file) for file in files)) for rule in rules)
    click.echo(f"ok: {own} rules of these files, {len(rules)} with the shipped ones")


def _streams() -> dict[str, Stream]:
    from hackwatch import streams

    return {name: streams.get(name) for name in streams.names()}


def _configured(context: CliContext) -> RuleSet:
    from hackwatch.detect.rules import load_rules

    detection = context.settings().detection
    return load_rules(detection.rules, _streams(), shipped=detection.shipped_rules)
