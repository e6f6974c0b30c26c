"""The whole screen of `top` as lines of text: pure, from a view, what was chosen, and the size of the terminal.

What came from outside (program names above all) is escaped, and never read as markup.
"""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest

from rich.text import Text

from hackwatch.alerts.alert import Severity
from hackwatch.text import printable
from hackwatch.top import panes
from hackwatch.top.figures import UNICODE, Glyphs, age, amount, clock, waiting
from hackwatch.top.panels import height_of, panels
from hackwatch.top.screen import Screen
from hackwatch.top.styles import BARS, WIDE, WIDER, beside, fit, in_ascii, line
from hackwatch.views.live import View

__all__ = ["clocks", "draw", "headline", "trouble"]

_NOTES = 4
#: Lines that panels leave to alerts: a heading and two of them.
_ALERTS = 5


def draw(view: View, screen: Screen, width: int, height: int, glyphs: Glyphs = UNICODE) -> list[Text]:
    """Exactly `height` lines of `width` cells."""
    arrows = "↑↓" if glyphs is UNICODE else "j k"
    if screen.opened is not None:
        body = panes.explained(screen.opened, screen.scroll, width, height - 1, glyphs)
        keys = f" esc back   {arrows} scroll   q quit"
    else:
        body = _overview(view, screen, width, height - 1, glyphs)
        keys = f" q quit   {arrows} choose an alert   enter explain it"
    lines = [*body[: height - 1], *[Text(" " * width)] * (height - 1 - len(body))]
    lines.append(beside(Text(keys, "dim"), Text(f" {clock(view.now)} UTC ", "dim"), width))
    return lines if glyphs is UNICODE else [in_ascii(each, width) for each in lines]


def _overview(view: View, screen: Screen, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    lines = [*_head(view, width, glyphs), _verdict(view, width, glyphs)]
    noted = len(view.notes) + bool(view.progress)
    aside = bool(noted) and width >= WIDER
    below = min(noted, _NOTES) + 1 if noted and not aside else 0
    room = height - len(lines) - 2 - below
    lines += panes.entities(view, min(len(view.entities), max(3, room // 2)), width, glyphs)
    lines += panels(view, min(height_of(view), height - len(lines) - below - _ALERTS), width, glyphs)
    left = height - len(lines)
    if not aside:
        lines += _filled(panes.alerts(view, screen.chosen, width, left - below, glyphs), left - below, width)
        return lines + panes.notes(view, width, below, glyphs)
    half = width * 11 // 20
    both = zip_longest(
        panes.alerts(view, screen.chosen, half, left, glyphs),
        panes.notes(view, width - half - 1, left, glyphs),
        fillvalue=Text(),
    )
    return lines + [fit(fit(alert, half) + Text(" ") + note, width) for alert, note in both]


def _filled(lines: list[Text], height: int, width: int) -> list[Text]:
    return lines + [Text(" " * width)] * max(0, height - len(lines))


def trouble(view: View) -> str | None:
    """What is wrong with the engine itself, if anything."""
    if view.stale:
        return f"engine not answering since {clock(view.updated or 0.0)} UTC"
    if view.state == "stopped":
        return f"engine stopped at {clock(view.updated or 0.0)} UTC"
    return printable(view.state) if view.state.startswith("paused") else None


def headline(view: View) -> tuple[str, Severity | None]:
    """Is something wrong now, and where: one sentence, and how bad it is."""
    if view.updated is None:
        return "waiting for the engine", None
    troubled = view.troubled
    if not troubled:
        return f"nothing suspicious on any {view.noun.singular} in the last 10 minutes", None
    worst = next(iter(troubled.values()))
    names = [printable(entity) for entity, severity in troubled.items() if severity == worst]
    others = f"; lesser alerts on {len(troubled) - len(names)} more" if len(troubled) > len(names) else ""
    return f"look at {', '.join(names)} ({worst}){others}", worst


def clocks(view: View, most: int = 3) -> str:
    """Which sources have late records, and whose clocks are wrong; empty if none is."""
    skewed = {source: off for stream in view.streams for source, off in stream.skewed_sources.items()}
    late: Counter[str] = Counter()
    for stream in view.streams:
        late.update({source: number for source, number in stream.late_sources.items() if source not in skewed})
    told = [f"{source} {'ahead' if off > 0 else 'behind'} {age(abs(off))}" for source, off in skewed.items()]
    parts = [f"clocks: {', '.join(told[:most])}{' ...' if len(told) > most else ''}"] if told else []
    if late:
        parts.append("late: " + ", ".join(f"{source} ({amount(number)})" for source, number in late.most_common(most)))
    return printable("; ".join(parts))


def _head(view: View, width: int, glyphs: Glyphs) -> list[Text]:
    word = "not answering" if view.stale else printable(view.state).partition(":")[0]
    style = "green" if word == "running" else "bold yellow"
    latency = f"{view.latency_p50:,.0f} ms, p99 {view.latency_p99:,.0f} ms"
    speed = _figures(
        ("", f"{amount(view.rate)} records/s", False),
        ("latency", latency, False),
        ("lag", waiting(view.lag_bytes, view.lag_messages), view.lag_bytes > 1 << 20 or view.lag_messages > 10_000),
    )
    order = _figures(
        *((name, amount(view.total(name)), view.total(name) > 0) for name in ("late", "rejected", "duplicate")),
        ("watermark", age(view.watermark_age), False),
        ("epoch", age(view.epoch_age), view.epoch_age > 60),
    )
    name = line((" hackwatch", "bold"), ("  ", ""), (f"{glyphs.dot} {word}", style))
    gap = Text(" ")  # between what is cut and what stays
    return [beside(name, gap + speed, width), beside(gap + order, gap + _detectors(view, width), width)]


def _figures(*figures: tuple[str, str, bool]) -> Text:
    """`label value` pairs; what a person should look at is yellow."""
    parts: list[tuple[str, str]] = []
    for label, value, odd in figures:
        parts += [(f"{label} " if label else "", "dim"), (value, "bold yellow" if odd else "bold"), ("  ", "")]
    parts[-1] = (" ", "")
    return line(*parts)


def _detectors(view: View, width: int) -> Text:
    models = [printable(stream.model) for stream in view.streams if stream.model]
    if not models:
        return Text("rules, no model ", "yellow")
    shown = ", ".join(models) if width >= WIDE + 12 else f"{len(models)} model{'s' if len(models) > 1 else ''}"
    return Text(f"rules + {shown} ", "dim")


def _verdict(view: View, width: int, glyphs: Glyphs) -> Text:
    if (problem := trouble(view)) is not None:
        return fit(Text(f" {glyphs.alarm} {problem}", BARS["medium"]), width)
    sentence, severity = headline(view)
    if severity is None:
        said = Text(f" {glyphs.dot} {sentence}", "green" if view.updated else "dim")
        told = clocks(view)
        shown = Text(f" {told} ", "yellow")
        return beside(said, fit(shown, min(shown.cell_len, width // 2)), width) if told else fit(said, width)
    return fit(Text(f" {glyphs.alarm} {sentence}", BARS[severity]), width)
