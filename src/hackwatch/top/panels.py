"""The panels that families declare, as panes of the screen and as lines. Pure; names from outside are escaped."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from hackwatch.text import printable
from hackwatch.top.figures import Glyphs, amount, clock
from hackwatch.top.styles import WIDE, cell, fit, line, rule
from hackwatch.views.live import View
from hackwatch.views.panels import MOST_ROWS, PanelView, Ranked

__all__ = ["height_of", "panel_lines", "panels"]

_NAME, _WIDE_NAME, _BAR = 32, 48, 30
_NOTHING = "nothing so far"


def height_of(view: View) -> int:
    """The lines that all panels of a view would fill."""
    return sum(map(_height, view.panels))


def _height(panel: PanelView) -> int:
    return 1 + max(1, len(panel.rows))


def panels(view: View, height: int, width: int, glyphs: Glyphs) -> list[Text]:
    """At most `height` lines: of each panel a heading and its keys; the last keys and panels if not all fit."""
    shown = view.panels[: max(0, height) // 2]
    shares = [2] * len(shown)
    for _ in range(height - sum(shares)):
        lacking = [place for place, panel in enumerate(shown) if shares[place] < _height(panel)]
        if lacking:
            shares[min(lacking, key=shares.__getitem__)] += 1
    both = zip(shown, shares, strict=True)
    return [each for panel, share in both for each in _panel(panel, share - 1, width, glyphs)]


def _panel(panel: PanelView, rows: int, width: int, glyphs: Glyphs) -> list[Text]:
    lines = [rule(printable(panel.title), _counted(panel), width, glyphs)]
    most = max((row.value for row in panel.rows), default=0.0)
    lines += [_row(row, most, width) for row in panel.rows[:rows]]
    return lines if panel.rows else [*lines, fit(Text(f" {_NOTHING}", "dim"), width)]


def _row(row: Ranked, most: float, width: int) -> Text:
    name_width = min(_WIDE_NAME if width >= WIDE else _NAME, width // 2)
    room = max(0, min(_BAR, width - name_width - 11))
    bar = "█" * max(1, round(row.value / most * room))
    name, value = cell(_name(row), name_width), f"{_figure(row.value):>6}"
    return fit(line((f" {name} ", "bold"), (f" {value} ", ""), (bar, "blue")), width)


def _counted(panel: PanelView) -> str:
    """`visits, 60 s from 18:04:00`."""
    some = "" if panel.whole else f" of {MOST_ROWS:,} rows"
    when = (
        "" if panel.start is None or panel.end is None else f", {panel.end - panel.start} s from {clock(panel.start)}"
    )
    return f"{printable(panel.measure)}{some}{when}"


def _name(row: Ranked) -> str:
    return " ".join("-" if key is None else printable(str(key)) for key in row.keys.values())


def _figure(value: float) -> str:
    return f"{value:.2g}" if value < 10 and value != round(value) else amount(value)


def panel_lines(view: View) -> Iterator[str]:
    """The same where nobody looks at a screen: a line for each panel."""
    for panel in view.panels:
        keys = ", ".join(f"{_name(row)} {_figure(row.value)}" for row in panel.rows)
        yield f"{printable(panel.title)} ({_counted(panel)}): {keys or _NOTHING}"
