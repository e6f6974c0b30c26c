"""Alerts as text for people; control characters are escaped."""

from __future__ import annotations

from collections.abc import Iterator

from hackwatch.alerts.alert import Alert
from hackwatch.alerts.forms.values import iso, tactic_of
from hackwatch.text import printable

__all__ = ["summary", "text"]


def summary(alert: Alert) -> str:
    """One line for people: what, where, how bad. Control characters are escaped."""
    technique = f", ATT&CK {alert.technique}" if alert.technique else ""
    return printable(
        f"{alert.title} [{alert.severity}, risk {alert.risk}, {alert.entity}, {alert.subject}, "
        f"rule {alert.rule}{technique}]"
    )


def text(alert: Alert) -> str:
    """The whole explanation for people, several lines; control characters are escaped."""
    return "\n".join(printable(line) for line in _lines(alert))


def _lines(alert: Alert) -> Iterator[str]:
    yield f"{alert.severity.upper()}  {alert.title}"
    yield f"  what      {alert.subject} on {alert.entity} (stream {alert.stream}, site {alert.site})"
    yield f"  why       {alert.kind}: {alert.rule}, risk {alert.risk} of 100"
    if alert.technique or alert.tactic:
        yield f"  ATT&CK    {' '.join(filter(None, (alert.technique, tactic_of(alert)[1])))}"
    yield f"  when      {_when(alert)}"
    for stream, drivers in alert.drivers.items():
        if not drivers:
            continue  # what a rule alone found suspect has none
        model = f", model {alert.models[stream]}" if stream in alert.models else ""
        yield f"  drivers of {stream}{model}"
        for driver in drivers:
            yield f"    {driver.column:12} {driver.seen}, usually {driver.usual} ({driver.contribution:+.2f})"
    if alert.evidence:
        yield "  evidence"
        for column, value in alert.evidence.items():
            is_time = column.endswith(("event_time", "processing_time")) and isinstance(value, float)
            yield f"    {column:24} {iso(value) if is_time else value}"
    for cause in alert.causes:
        yield f"  cause     {cause.topic} partition {cause.partition} offset {cause.offset} index {cause.index}"
    yield f"  id        {alert.id}"


def _when(alert: Alert) -> str:
    first, last = iso(alert.first_seen), iso(alert.last_seen)
    times = "once" if alert.count == 1 else f"{alert.count:,} times"
    return f"{first}, {times}" if first == last else f"{first} to {last}, {times}"
