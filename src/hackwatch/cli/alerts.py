"""`hackwatch alerts`: what was found, and what was made of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, get_args

import click

from hackwatch.cli.context import CliContext, pass_context_object
from hackwatch.numbers import COUNT
from hackwatch.words import SEVERITIES, Form

if TYPE_CHECKING:
    from hackwatch.store import Store, StoredAlert
    from hackwatch.views import Views

__all__ = ["command"]

_STATUSES = ("new", "acknowledged", "muted", "closed", "all")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
#: Alerts read at a time.
_PAGE = 500
#: A hundred years, in seconds: what lies further off is a slip.
_LONGEST = 36525 * 86400.0


def span(value: str) -> float:
    """A length of time such as 90s, 30m, 2h, 7d or 1w, as seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds <= _LONGEST:
        raise click.BadParameter(f"{value!r} is no length of time; write 90s, 30m, 2h, 7d or 1w")
    return seconds


def moment(value: str) -> float:
    """A moment, in ISO 8601 (UTC unless it says otherwise) or as a length of time ago, as Unix seconds."""
    import time
    from datetime import UTC, datetime

    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        try:
            return time.time() - span(value)
        except click.BadParameter as error:
            raise click.BadParameter(f"{value!r} is no moment; write 2h, 7d (ago) or 2026-01-31T12:00") from error
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _filters(function: Callable[..., None]) -> Callable[..., None]:
    """The options by which `list` and `export` choose alerts."""
    for option in reversed(
        (
            click.option("--since", type=moment, help="Raised since: 2h, 7d (ago) or 2026-01-31T12:00."),
            click.option("--severity", type=click.Choice(SEVERITIES), help="This severity or a worse one."),
            click.option("--entity", help="About this entity."),
            click.option("--rule", help="Of this rule."),
            click.option("--site", help="Of this site, where several share the store."),
            click.option(
                "--status",
                multiple=True,
                type=click.Choice(_STATUSES),
                default=("new", "acknowledged"),
                show_default=True,
                help="In this state; may be given several times.",
            ),
            click.option("--limit", type=COUNT, default=100, show_default=True, help="At most so many."),
        )
    ):
        function = option(function)
    return function


@click.group()
def command() -> None:
    """List, show, acknowledge, mute and export alerts.

    \b
    Examples:
      hackwatch alerts list --since 1h --severity high
      hackwatch alerts show 3f9a
      hackwatch alerts ack 3f9a --note "planned scan"
      hackwatch alerts mute --rule network-scanner --entity 4 --for 2h
    """


@command.command("list")
@_filters
@click.option("--json", "as_json", is_flag=True, help="As one JSON array.")
@pass_context_object
def list_alerts(context: CliContext, /, as_json: bool, **filters: Any) -> None:
    """List alerts, the newest first.

    \b
    Examples:
      hackwatch alerts list --since 2h
      hackwatch alerts list --severity high --entity web-1 --json
    """
    from hackwatch import views

    with views.open(context.settings()) as data:
        alerts = _chosen(data, **filters)
        if as_json:
            import sys

            from hackwatch.routes.export import export as write

            write(alerts, sys.stdout, fmt="json")
            return
        found = False
        for alert in alerts:
            found = True
            _print_line(alert)
    if not found:
        click.echo("no alerts", err=True)


@command.command()
@click.argument("alert_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@pass_context_object
def show(context: CliContext, alert_id: str, as_json: bool) -> None:
    """Explain one alert: what was seen, what is usual, which record caused it.

    ID is the alert's id or at least 4 characters of its beginning.

    \b
    Example:
      hackwatch alerts show 3f9a
    """
    from hackwatch import views
    from hackwatch.alerts.forms import encode, text
    from hackwatch.text import printable

    with views.open(context.settings()) as data:
        alert = data.alert(alert_id)
    if as_json:
        click.echo(encode(alert))
        return
    click.echo(text(alert))
    if len(alert.subjects) > 1:
        click.echo(f"  subjects  {printable(', '.join(alert.subjects))}")
    handled = f" by {alert.handled_by}" if alert.handled_by else ""
    note = f": {alert.note}" if alert.note else ""
    click.echo(f"  status    {printable(alert.status + handled + note)}")


@command.command()
@click.argument("alert_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--note", help="A word for those who come after.")
@click.option("--close", "closing", is_flag=True, help="Done with it, and not only seen.")
@pass_context_object
def ack(context: CliContext, alert_ids: tuple[str, ...], note: str | None, closing: bool) -> None:
    """Acknowledge alerts: a person has seen them and takes care.

    \b
    Examples:
      hackwatch alerts ack 3f9a 71c0
      hackwatch alerts ack 3f9a --close --note "planned scan"
    """
    import time

    with _store(context) as store:
        decide = store.triage.close if closing else store.triage.acknowledge
        for alert_id in alert_ids:
            alert = decide(alert_id, by=_person(), now=time.time(), note=note)
            click.echo(f"{alert.id[:8]} {alert.status}")


@command.command()
@click.option("--rule", help="Silence this rule.")
@click.option("--entity", help="Silence this entity; with --rule, the rule at this entity.")
@click.option("--for", "length", type=span, default="1h", show_default=True, help="For so long: 30m, 2h, 7d.")
@click.option("--reason", help="Why, for those who come after.")
@pass_context_object
def mute(context: CliContext, rule: str | None, entity: str | None, length: float, reason: str | None) -> None:
    """Keep new alerts of a rule or entity from being sent, for a while. They are kept with the status `muted`.

    \b
    Examples:
      hackwatch alerts mute --rule network-scanner --entity 4 --for 2h
      hackwatch alerts mute --entity build-7 --for 7d --reason "load test"
    """
    import time

    now = time.time()
    with _store(context) as store:
        made = store.triage.mute(rule, entity, now + length, now=now, by=_person(), reason=reason)
    click.echo(f"mute {made.id} until {_time(made.until)}")


@command.command()
@click.argument("mute_ids", metavar="NUMBER...", nargs=-1, required=True, type=COUNT)
@pass_context_object
def unmute(context: CliContext, mute_ids: tuple[int, ...]) -> None:
    """End mutes before their time. The numbers are those of `hackwatch alerts mutes`.

    \b
    Example:
      hackwatch alerts unmute 3
    """
    import time

    from hackwatch.errors import DataError

    with _store(context) as store:
        for number in mute_ids:
            if not store.triage.unmute(number, now=time.time()):
                raise DataError(f"no mute {number} is in force", next_step="see them with: hackwatch alerts mutes")
            click.echo(f"mute {number} ended")


@command.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON array.")
@pass_context_object
def mutes(context: CliContext, as_json: bool) -> None:
    """List the mutes in force.

    \b
    Example:
      hackwatch alerts mutes
    """
    import time

    from hackwatch import views
    from hackwatch.text import printable

    with views.open(context.settings()) as data:
        found = data.mutes(now=time.time())
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps([asdict(mute) for mute in found]))
        return
    for mute in found:
        what = f"rule {mute.rule or 'any'}, entity {mute.entity or 'any'}"
        why = f" ({mute.reason})" if mute.reason else ""
        click.echo(printable(f"{mute.id:4}  until {_time(mute.until)}  {what}, by {mute.created_by or '?'}{why}"))


@command.command()
@_filters
@click.option(
    "--form",
    type=click.Choice(get_args(Form)),
    default="native",
    show_default=True,
    help="hackwatch's own fields, OCSF Detection Finding or Elastic Common Schema.",
)
@click.option(
    "--format",
    "fmt",
    type=click.Choice(["ndjson", "json", "csv"]),
    default="ndjson",
    show_default=True,
    help="One object a line, one array, or a table.",
)
@click.option("-o", "--output", type=click.File("w", encoding="utf-8", lazy=True), default="-", help="File to write.")
@pass_context_object
def export(context: CliContext, /, form: Form, fmt: str, output: Any, **filters: Any) -> None:
    """Write alerts out: hackwatch's own form, OCSF Detection Finding or Elastic Common Schema.

    \b
    Examples:
      hackwatch alerts export --since 7d --form ocsf -o findings.ndjson
      hackwatch alerts export --format csv --status all --limit 10000 > alerts.csv
    """
    from hackwatch import views
    from hackwatch.routes.export import export as write

    with views.open(context.settings()) as data:
        write(_chosen(data, **filters), output, form, fmt)


def _store(context: CliContext) -> Store:
    from hackwatch.store import open_store

    settings = context.settings()
    return open_store(settings.store_url, site=settings.site)


def _chosen(data: Views, status: tuple[str, ...], limit: int, **filters: Any) -> Iterator[StoredAlert]:
    """The alerts, page by page."""
    from itertools import islice

    from hackwatch.views import every

    statuses: Any = None if "all" in status else status
    size = max(1, min(limit, _PAGE))
    pages = every(lambda cursor: data.alerts(statuses=statuses, limit=size, cursor=cursor, **filters))
    return islice(pages, limit)


def _print_line(alert: StoredAlert) -> None:
    import shutil
    import sys

    from hackwatch.text import printable

    colours = {"critical": "red", "high": "red", "medium": "yellow"}
    times = f" x{alert.count}" if alert.count > 1 else ""
    status = "" if alert.status == "new" else f" ({alert.status})"
    rest = printable(f"{alert.entity:12.12} {alert.title} [{alert.rule}]{times}{status}")
    head = f"{alert.id[:8]}  {_time(alert.last_seen)} "
    if sys.stdout.isatty():
        rest = rest[: max(20, shutil.get_terminal_size().columns - len(head) - 9)]
    click.echo(head + click.style(f"{alert.severity[:8]:8} ", fg=colours.get(alert.severity)) + rest)


def _time(seconds: float) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"


def _person() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
