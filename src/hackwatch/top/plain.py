"""`top` where nobody looks at a screen: one line an alert as it comes, the state and the panels every ten seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from hackwatch.errors import HackwatchError
from hackwatch.store import StoredAlert
from hackwatch.text import printable
from hackwatch.top.draw import clocks, headline, trouble
from hackwatch.top.figures import UNICODE, Glyphs, age, amount, stamp, waiting
from hackwatch.top.panels import panel_lines
from hackwatch.top.panes import title, why
from hackwatch.views.live import Reader, View

__all__ = ["POLL_SECONDS", "STATUS_SECONDS", "alert_line", "show_plain", "snapshot_lines", "status_line"]

POLL_SECONDS = 0.5
STATUS_SECONDS = 10.0
_AT_ONCE = 200


def show_plain(reader: Reader, stop: threading.Event, write: Callable[[str], None], *, after: int) -> None:
    """Write lines until `stop` is set: alerts stored after the sequence number `after`, new notes, state, panels.

    What came just before `stop` is written too. A store that cannot be read for a moment is tried again.
    """
    told, due = 0, float("-inf")
    while True:
        last = stop.is_set()
        try:
            for note in reader.notes()[told:]:
                told += 1
                write(f"{stamp(note.at)}  {printable(note.text)}")
            for alert in reader.after(after, _AT_ONCE):
                after = alert.sequence
                write(alert_line(alert))
            if reader.clock() >= due or last:
                due = reader.clock() + STATUS_SECONDS
                view = reader()
                write(status_line(view))
                for line in panel_lines(view):
                    write(f"{stamp(view.now)}  {line}")
        except HackwatchError as error:
            write(printable(f"{stamp(reader.clock())}  {error.what}"))
        if last:
            return
        stop.wait(POLL_SECONDS)


def alert_line(alert: StoredAlert, glyphs: Glyphs = UNICODE) -> str:
    """Time, severity, entity, title, why, id."""
    head = f"{stamp(alert.created)}  {alert.severity.upper():8}  {printable(alert.entity)}: {title(alert)}"
    reasons = why(alert, glyphs, most=3)
    return f"{head}{f' ({reasons})' if reasons else ''} [{alert.id[:8]}]"


def status_line(view: View) -> str:
    """The state of engine and entities in one line."""
    if view.updated is None:
        return f"{stamp(view.now)}  {headline(view)[0]}"
    counts = ", ".join(f"{amount(view.total(name))} {name}" for name in ("late", "rejected", "duplicate"))
    suspects = sum(sum(entity.suspects) for entity in view.entities)
    arrived = f"{amount(view.rate)} records/s from {_whom(view)}, {amount(suspects)} suspects in 2 min"
    latency = f"latency {view.latency_p50:,.0f} ms (p99 {view.latency_p99:,.0f})"
    lag = waiting(view.lag_bytes, view.lag_messages)
    behind = f"lag {lag}, watermark {age(view.watermark_age)}, epoch {age(view.epoch_age)}"
    state = trouble(view) or printable(view.state)
    progress = f"; {view.progress}" if view.progress else ""
    return f"{stamp(view.now)}  {state}: {arrived}, {counts}, {latency}, {behind}{progress}"


def _whom(view: View) -> str:
    """`5 machines`, and where streams have entities of different kinds, each kind that showed."""
    kinds = view.kinds()
    shown = {noun: entities for noun, entities in kinds.items() if entities} or {view.noun: []}
    return " and ".join(noun.count(len(entities)) for noun, entities in shown.items())


def snapshot_lines(view: View) -> Iterator[str]:
    """One view in lines: the state, the entities, the panels, the newest alerts first."""
    yield status_line(view)
    yield headline(view)[0]
    if told := clocks(view, most=10):
        yield told
    for entity in view.entities:
        windows = ", ".join(f"{printable(s)} {now} (before {then})" for s, (now, then) in entity.windows.items())
        yield (
            f"  {printable(entity.name):14} {sum(entity.records):>9,} records, {sum(entity.suspects):,} suspects in "
            f"2 min; distinct suspects in the window: {windows}"
        )
    yield from panel_lines(view)
    for alert in view.alerts:
        yield alert_line(alert)
