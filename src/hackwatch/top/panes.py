"""The panes of the screen: entities, alerts, notes, and one alert explained. Pure; a pane is a list of lines."""

from __future__ import annotations

from rich.text import Text

from hackwatch import streams
from hackwatch.alerts.alert import Severity
from hackwatch.alerts.forms import text as explanation
from hackwatch.detect.detector import Driver
from hackwatch.store import StoredAlert
from hackwatch.text import printable
from hackwatch.top.figures import Glyphs, amount, clock, columns, spark
from hackwatch.top.styles import SEVERITIES, TONES, WIDE, beside, cell, fit, line, rule
from hackwatch.views.live import EntityView, View

__all__ = ["alerts", "entities", "explained", "notes", "title", "why"]

_INDENT, _LONG_UNIT, _LONGEST_NAME = " " * 10, 3, 14


def entities(view: View, rows: int, width: int, glyphs: Glyphs) -> list[Text]:
    """A heading of two lines and at most `rows` entities, those in trouble before all others if not all fit."""
    stretch = 2 if width >= WIDE else 1
    name_width = 20 if width >= WIDE + 8 else 12
    names = [stream.name for stream in view.streams]
    heading = f" {cell(view.noun.singular, name_width)} {'records':{12 * stretch + 8}}{'suspects':{12 * stretch + 6}}"
    heading += "".join(f"{printable(name)[:13]:>14}" for name in names)
    lines = [rule("last 2 minutes", "distinct suspects: this window, the one before", width, glyphs)]
    lines.append(fit(Text(heading, "dim"), width))
    shown, left_out = _chosen(view, rows)
    updated = view.updated or view.now
    drawn = [(columns(entity.records, updated), columns(entity.suspects, updated)) for entity in shown]
    most_records = max((max(records) for records, _ in drawn), default=0.0)
    # A lone suspect in 10 s stays a low bar.
    most_suspects = max((max(suspects) for _, suspects in drawn), default=0.0) + 0.5
    for entity, (records, suspects) in zip(shown, drawn, strict=True):
        severity = view.troubled.get(entity.name)
        number = sum(entity.suspects)
        parts = [
            (f" {cell(entity.name, name_width)} ", _name_style(severity)),
            (spark(records, most_records, glyphs, wide=stretch), "blue"),
            (f" {amount(sum(entity.records)):>6} ", ""),
            *_bars(suspects, most_suspects, glyphs, stretch),
            (f" {amount(number):>5}", "bold red" if number else "dim"),
            *(part for name in names for part in _windows(entity, name)),
        ]
        lines.append(fit(line(*parts), width))
    if left_out:
        lines.append(fit(Text(f" {glyphs.more} and {left_out} more", "dim"), width))
    return lines


def _name_style(severity: Severity | None) -> str:
    if severity is None:
        return "bold"
    return SEVERITIES["high" if severity == "critical" else severity]


def _chosen(view: View, rows: int) -> tuple[list[EntityView], int]:
    """The entities to show, by name, and how many are left out."""
    if len(view.entities) <= rows:
        return list(view.entities), 0
    troubled = list(view.troubled)
    urgent = sorted(
        view.entities,
        key=lambda entity: (
            troubled.index(entity.name) if entity.name in troubled else len(troubled), -sum(entity.suspects),
        ),
    )  # fmt: skip
    kept = max(0, rows - 1)
    return sorted(urgent[:kept], key=lambda entity: entity.name), len(urgent) - kept


def _bars(values: tuple[float, ...], top: float, glyphs: Glyphs, stretch: int) -> list[tuple[str, str]]:
    """Suspects: nothing is dim, something is red."""
    return [(spark([value], top, glyphs, wide=stretch), "red" if value else "dim") for value in values]


def _windows(entity: EntityView, stream: str) -> list[tuple[str, str]]:
    now, before = entity.windows.get(stream, (0, 0))
    return [(f"{amount(now):>7}", "bold red" if now else "dim"), (f"{amount(before):>7}", "" if before else "dim")]


def alerts(view: View, chosen: str | None, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    """A heading, then two lines an alert, the newest first; the chosen one is always in sight."""
    if height < 1:
        return []
    lines = [rule("alerts", "newest first" if view.alerts else "", width, glyphs)]
    room = max(1, (height - 1) // 2)
    ids = [alert.id for alert in view.alerts]
    first = max(0, ids.index(chosen) - room + 1) if chosen in ids else 0
    shown = view.alerts[first : first + room]
    names = min(_LONGEST_NAME, max((Text(printable(alert.entity)).cell_len for alert in shown), default=0))
    for alert in shown:
        lines += _alert(alert, names, width, glyphs, chosen=alert.id == chosen)
    if not view.alerts:
        lines.append(fit(Text(" none so far", "dim"), width))
    return lines[:height]


def _alert(alert: StoredAlert, names: int, width: int, glyphs: Glyphs, *, chosen: bool) -> list[Text]:
    quiet = alert.status != "new"
    count = f" {glyphs.times}{amount(alert.count)} " if alert.count > 1 else " "
    state = f" {alert.status}" if quiet else ""
    head = line(
        (f" {clock(alert.created)} ", "dim"),
        (f" {alert.severity.upper()[:8]:8} ", "dim" if quiet else SEVERITIES[alert.severity]),
        (f" {cell(alert.entity, names)}  ", "dim" if quiet else "bold"),
        (title(alert), "dim" if quiet else ""),
    )
    lines = [beside(head, line((state, "dim"), (count, "bold")), width)]
    lines.append(fit(line((f"{_INDENT}{why(alert, glyphs)}", "dim")), width))
    if chosen:
        for each in lines:
            each.stylize("reverse")
    return lines


def title(alert: StoredAlert) -> str:
    """The title, without the entity that stands beside it."""
    return printable(alert.title.removesuffix(f" on {alert.entity}"))


def why(alert: StoredAlert, glyphs: Glyphs, most: int = 6) -> str:
    """What drove an alert, the strongest first and the streams in turn: `load 98 %, usually 1 %`."""
    # The title names the program already.
    ranked = [[d for d in drivers if d.seen != alert.subject] for drivers in alert.drivers.values()]
    in_turn = [drivers[place] for place in range(most) for drivers in ranked if place < len(drivers)]
    seen: dict[str, Driver] = {}
    for driver in in_turn:
        seen.setdefault(driver.column, driver)
    parts = [_reason(driver) for driver in seen.values()][:most]
    if not parts:
        parts = _evidence(alert)
    if alert.technique:
        parts.insert(min(1, len(parts)), f"ATT&CK {printable(alert.technique)}")
    return f" {glyphs.between} ".join(parts)


def _reason(driver: Driver) -> str:
    """`load 98 %, usually 1 %`; a unit of several letters is written once: `logins 40, usually 1 attempts`."""
    seen = driver.seen
    number, _, unit = seen.partition(" ")
    if len(unit) > _LONG_UNIT and driver.usual.endswith(f" {unit}"):
        seen = number
    return printable(f"{driver.column} {seen}, usually {driver.usual}")


def _evidence(alert: StoredAlert) -> list[str]:
    """For a rule, which has no drivers: the program, and what of its record a person asks for first."""
    if "detail" in alert.evidence:
        return [printable(str(alert.evidence["detail"]))]
    parts = [printable(alert.subject)] if alert.subject != alert.entity else []
    stream = streams.find(alert.stream)
    for name in [column for column, unit in stream.units.items() if unit == "fraction"] if stream else ():
        value = alert.evidence.get(name)
        if isinstance(value, int | float) and value:
            parts.append(f"{name} {value * 100:.0f} %")
    return parts


def notes(view: View, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    """A heading, the latest notes, oldest first, and what is going on."""
    if height < 2:
        return []
    lines = [
        line((f" {clock(note.at)} ", "dim"), (f" {printable(note.text)}", TONES[note.tone])) for note in view.notes
    ]
    if view.progress:
        lines.append(line((f" {clock(view.now)} ", "dim"), (f" {printable(view.progress)}", "bold cyan")))
    return [rule(view.notes_title, "", width, glyphs), *(fit(each, width) for each in lines[-(height - 1) :])]


def explained(alert: StoredAlert, scroll: int, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    """All that is known of one alert, from line `scroll` on as far as there is more than a screen."""
    lines = [fit(Text(f" {text}"), width) for text in explanation(alert).split("\n")]
    lines[0].stylize(SEVERITIES[alert.severity])
    scroll = min(scroll, max(0, len(lines) - height + 1))
    return [rule(f"alert {alert.id[:8]}", "", width, glyphs), *lines[scroll:]][:height]
