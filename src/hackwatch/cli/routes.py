"""`hackwatch routes`: where alerts go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hackwatch.cli.context import CliContext, pass_context_object

if TYPE_CHECKING:
    from hackwatch.config import Settings

__all__ = ["command"]


@click.group()
def command() -> None:
    """Show and test where alerts go.

    Routes are configured as [[routes]] tables in hackwatch.toml: stdout, file, webhook, syslog,
    kafka, apprise.

    \b
    Examples:
      hackwatch routes list
      hackwatch routes test soc
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="As one JSON array.")
@pass_context_object
def list_routes(context: CliContext, as_json: bool) -> None:
    """List the routes with how many messages wait, are done with (sent, or not severe enough), and were given up.

    \b
    Example:
      hackwatch routes list --json | jq '.[] | select(.failed > 0)'
    """
    settings = context.settings()
    counts = _counts(settings)
    rows: list[dict[str, Any]] = [
        {
            "name": route.name,
            "type": route.model_dump()["type"],
            "form": route.form,
            "enabled": route.enabled,
            "minimum_severity": route.minimum_severity,
            **counts.get(route.name, {"waiting": 0, "done": 0, "failed": 0}),
        }
        for route in settings.routes
    ]
    if as_json:
        import json

        click.echo(json.dumps(rows))
    elif not rows:
        click.echo("no routes are configured: alerts stay in the store (hackwatch alerts list)")
    else:
        line = "{name:20} {type:8} {form:7} {waiting:>8} {done:>8} {failed:>8}"
        head = {key: key for key in rows[0]} | {"failed": "given up"}
        for row in [head, *rows]:
            click.echo(line.format(**row) + ("" if row["enabled"] else "  disabled"))


@command.command("test")
@click.argument("name")
@pass_context_object
def test_route(context: CliContext, name: str) -> None:
    """Send a test alert over one route, at once and without the outbox. Exit code 4 if it cannot be delivered.

    \b
    Example:
      hackwatch routes test soc
    """
    from hackwatch.errors import ConfigurationError
    from hackwatch.routes import open_route

    settings = context.settings()
    found = [route for route in settings.routes if route.name == name]
    if not found:
        names = ", ".join(route.name for route in settings.routes) or "none"
        raise ConfigurationError(f"there is no route {name!r}", next_step=f"configured are: {names}")
    route = open_route(found[0], settings.kafka)
    try:
        route.send([_alert(settings.site)])
    finally:
        route.close()
    click.echo(f"delivered over {name}", err=True)


def _alert(site: str) -> Any:
    import socket
    import time
    import uuid

    from hackwatch.alerts.alert import Alert

    now = time.time()
    return Alert(
        id=uuid.uuid4().hex,
        kind="system",
        stream="hackwatch",
        entity=socket.gethostname(),
        rule="route-test",
        title="Test of a route: nothing has happened",
        severity="informational",
        risk=0,
        subject="hackwatch",
        first_seen=now,
        last_seen=now,
        created=now,
        site=site,
    )


def _counts(settings: Settings) -> dict[str, dict[str, int]]:
    from hackwatch.store import open_store

    if not settings.store.url and not Path(settings.store_url).exists():
        return {}
    with open_store(settings.store_url, read_only=True) as store:
        return store.outbox.counts()
