"""The chart of the plain consumer as a file: PNG by Matplotlib, or one HTML page without script or foreign parts."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from hackwatch.errors import ConfigurationError, ResourceError
from hackwatch.text import printable
from hackwatch.top.consumer import Flow
from hackwatch.top.figures import clock, columns, stamp

__all__ = ["Chart", "chart_writer", "html_page", "png_image"]

#: Lines that a person can tell apart; all others are drawn as one.
MOST_LINES = 9
STEPS, BUCKET_SECONDS, SPAN_SECONDS = 12, 2.0, 120
COLOURS = ("#0b6bcb", "#c2410c", "#15803d", "#7c3aed", "#b45309", "#be185d", "#0f766e", "#4d7c0f", "#475569", "#94a3b8")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 960, 420, 64, 20, 16, 48

_STYLE = """
:root{--ink:#1c2430;--soft:#5b6878;--paper:#f5f7fa;--card:#fff;--edge:#dfe5ec}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf2;--soft:#9aa7b8;--paper:#10151c;--card:#18202b;--edge:#2a3544}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1000px;margin:0 auto;padding:32px 20px}h1{font-size:24px;margin:0}p{margin:4px 0 16px;color:var(--soft)}
section{background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:16px;overflow-x:auto}
svg{width:100%;height:auto;display:block}.grid{stroke:var(--edge)}.tick{fill:var(--soft);font:12px system-ui,sans-serif}
polyline{fill:none;stroke-width:2.2;stroke-linejoin:round}
table{border-collapse:collapse;margin-top:14px;font-variant-numeric:tabular-nums}
td,th{padding:3px 14px 3px 0;text-align:right}td:first-child,th:first-child{text-align:left}th{color:var(--soft)}
i{display:inline-block;width:14px;height:4px;border-radius:2px;margin-right:8px;vertical-align:middle}
"""


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines of records a second, each of 12 points 10 s apart that end at `now`, and the records of 2 minutes."""

    topic: str
    by: str
    now: float
    summary: str
    drawn: tuple[tuple[str, int, tuple[float, ...]], ...]

    @classmethod
    def of(cls, flow: Flow) -> Chart:
        """The busiest entities by name, the others as one line."""
        busiest = sorted(flow.entities, key=lambda entity: (-sum(entity[1]), entity[0]))
        shown, rest = sorted(busiest[:MOST_LINES]), busiest[MOST_LINES:]
        drawn = [(printable(name), sum(buckets), _rates(buckets, flow.now)) for name, buckets in shown]
        if rest:
            together = tuple(map(sum, zip(*(buckets for _, buckets in rest), strict=True)))
            drawn.append((f"{len(rest)} others", sum(together), _rates(together, flow.now)))
        summary = f"{flow.recent:,} records in the last 2 minutes, {flow.unreadable:,} unreadable since the start"
        return cls(printable(flow.topic), printable(flow.noun.singular), flow.now, summary, tuple(drawn))

    @property
    def top(self) -> float:
        """A round number of records a second that no line passes."""
        most = max((max(values, default=0.0) for _, _, values in self.drawn), default=0.0)
        step = 1.0
        while step * 10 < most:
            step *= 10
        return next(step * factor for factor in (1, 2, 5, 10) if step * factor >= most)


def _rates(buckets: Sequence[int], now: float) -> tuple[float, ...]:
    values = columns(buckets, now)
    return tuple(value / BUCKET_SECONDS for value in (*(0.0,) * (STEPS - len(values)), *values))


def chart_writer(path: Path) -> Callable[[Flow], None]:
    """What writes the chart to `path`, replacing the file at once and whole.

    Raises ConfigurationError (a name that ends in neither .png nor .html), ResourceError (Matplotlib is missing;
    later, when called: the file cannot be written).
    """
    kinds: dict[str, Callable[[Chart], bytes]] = {".png": png_image, ".html": html_page}
    make = kinds.get(path.suffix.lower())
    if make is None:
        raise ConfigurationError(
            "a chart is a .png or .html file", where=str(path), next_step="end the name in .png or .html"
        )
    if make is png_image:
        _matplotlib("figure")
    return lambda flow: _replace(path, make(Chart.of(flow)))


def _replace(path: Path, content: bytes) -> None:
    try:
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            draft.write_bytes(content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"cannot write the chart: {error.strerror or error}",
            where=str(path),
            next_step="name a file in a folder that you may write",
        ) from error


# ---------------------------------------------------------------------------------------------- HTML


def html_page(chart: Chart) -> bytes:
    """A page that a browser loads again every 5 s by itself."""
    title = f"{chart.topic}: records a second by {chart.by}"
    rows = "".join(
        f'<tr><td><i style="background:{colour}"></i>{escape(name)}</td>'
        f"<td>{count:,}</td><td>{values[-1]:,.1f}</td></tr>"
        for (name, count, values), colour in zip(chart.drawn, COLOURS, strict=False)
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f"<p>{escape(chart.summary)}; {stamp(chart.now)}</p><section>{_svg(chart)}"
        f"<table><thead><tr><th>{escape(chart.by)}</th><th>2 minutes</th><th>now, per s</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></section></main></body></html>\n"
    )
    return page.encode()


def _svg(chart: Chart) -> str:
    parts = []
    for step in range(6):
        value, height = chart.top * step / 5, _y(step / 5)
        back = SPAN_SECONDS * (5 - step) / 5
        parts.append(
            f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{height:.1f}" y2="{height:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 8}" y="{height + 4:.1f}" text-anchor="end">{value:,g}</text>'
            f'<text class="tick" x="{_x(step / 5):.1f}" y="{_y(0) + 20}" text-anchor="middle">'
            f"{clock(chart.now - back)}</text>"
        )
    for (name, _, values), colour in zip(chart.drawn, COLOURS, strict=False):
        points = " ".join(
            f"{_x((place + 1) / STEPS):.1f},{_y(value / chart.top):.1f}" for place, value in enumerate(values)
        )
        parts.append(f'<polyline stroke="{colour}" points="{points}"><title>{escape(name)}</title></polyline>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="records a second by {escape(chart.by)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


# ---------------------------------------------------------------------------------------------- PNG


def png_image(chart: Chart) -> bytes:
    """The same as a picture; names in ASCII, since no font has every letter."""
    figure = _matplotlib("figure").Figure(figsize=(9.6, 4.8), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    times = [-SPAN_SECONDS * (1 - (place + 1) / STEPS) for place in range(STEPS)]
    drawn = [
        axes.plot(times, values, color=colour, linewidth=2)[0]
        for (_, _, values), colour in zip(chart.drawn, COLOURS, strict=False)
    ]
    if drawn:
        axes.legend(drawn, [_label(name, count) for name, count, _ in chart.drawn], loc="upper left", fontsize=8)
    axes.set_xlim(-SPAN_SECONDS, 0)
    axes.set_ylim(0, chart.top)
    axes.set_xlabel(f"seconds before {stamp(chart.now)}")
    axes.set_ylabel("records a second")
    axes.set_title(f"{_plain(chart.topic)}: {chart.summary}", fontsize=10)
    axes.grid(alpha=0.3)
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def _label(name: str, count: int) -> str:
    # The number stands first: Matplotlib leaves out labels that begin with an underscore.
    return f"{count:,}  {_plain(name)}"


def _plain(text: str) -> str:
    """Without letters that the font may lack, and without `$`, which Matplotlib reads as mathematics."""
    return text.encode("ascii", "backslashreplace").decode().replace("$", r"\$")[:60]


def _matplotlib(part: str) -> Any:
    try:
        return importlib.import_module(f"matplotlib.{part}")
    except ImportError as error:
        raise ResourceError(
            "charts as PNG need the extra `plot`",
            where="--save-plot",
            next_step="pip install 'hackwatch[plot]', or name an .html file",
        ) from error
