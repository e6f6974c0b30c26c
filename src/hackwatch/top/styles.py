"""Lines of styled text of a certain width, and the styles that all panes share."""

from __future__ import annotations

from rich.text import Text

from hackwatch.alerts.alert import Severity
from hackwatch.text import printable
from hackwatch.top.figures import Glyphs

__all__ = ["BARS", "SEVERITIES", "TONES", "WIDE", "WIDER", "beside", "cell", "fit", "in_ascii", "line", "rule"]

#: How a severity is written, and how a bar of that severity is filled.
SEVERITIES: dict[Severity, str] = {
    "critical": "bold white on red",
    "high": "bold red",
    "medium": "yellow",
    "low": "cyan",
    "informational": "dim",
}
BARS: dict[Severity, str] = {
    "critical": "bold white on red",
    "high": "bold white on red",
    "medium": "black on yellow",
    "low": "black on cyan",
    "informational": "black on cyan",
}
TONES = {"info": "", "truth": "magenta", "found": "green", "warning": "yellow"}
#: From these widths on there is room for wide sparklines, and for notes beside the alerts.
WIDE, WIDER = 105, 132

_LIKENESS = str.maketrans({"…": "~", "█": "#", "░": "."})


def line(*parts: tuple[str, str] | Text) -> Text:
    """Parts of text, each with its style, one after the other."""
    return Text.assemble(*parts, no_wrap=True)


def fit(text: Text, width: int) -> Text:
    """A copy of exactly `width` cells: cut, or filled with spaces in the style of the line."""
    fitted = text.copy()
    fitted.truncate(width, overflow="ellipsis", pad=True)
    return fitted


def cell(text: str, width: int) -> str:
    """Text from outside in exactly `width` cells."""
    return fit(Text(printable(text)), width).plain


def beside(left: Text, right: Text, width: int) -> Text:
    """Both on one line, `right` at its end; `left` is cut first if not all fits."""
    return fit(fit(left, max(0, width - right.cell_len)) + right, width)


def in_ascii(text: Text, width: int) -> Text:
    """The line for a terminal that knows nothing else; what has no likeness becomes `?`."""
    likened = text.copy()
    likened.plain = text.plain.translate(_LIKENESS).encode("ascii", "replace").decode()
    return fit(likened, width)


def rule(left: str, right: str, width: int, glyphs: Glyphs) -> Text:
    """A thin line with a title at its beginning and another one at its end."""
    right = f" {right} {glyphs.line}" if right else ""
    begin = f"{glyphs.line} {left} "
    filler = glyphs.line * max(0, width - len(begin) - len(right))
    return fit(line((f"{glyphs.line} ", "dim"), (left, "bold"), (f" {filler}{right}", "dim")), width)
