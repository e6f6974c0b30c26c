"""Small line and bar plots as inline SVG: no library, no script, readable in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["Line", "bars", "lines"]

WIDTH, HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 24, 12, 44

#: (label, class, points in 0..1, whether to mark the points)
Line = tuple[str, str, Sequence[tuple[float, float]], bool]


def lines(title: str, x: str, y: str, drawn: Sequence[Line], *, mark: tuple[float, float] | None = None) -> str:
    """A plot over the unit square, axes in per cent; `mark` is a point to ring (the operating point)."""
    parts = [_frame(title, x, y)]
    for label, kind, points, dotted in drawn:
        path = " ".join(f"{_x(a):.1f},{_y(b):.1f}" for a, b in points)
        parts.append(f'<polyline class="{kind}" points="{path}"><title>{escape(label)}</title></polyline>')
        if dotted:
            parts += [f'<circle class="dot" cx="{_x(a):.1f}" cy="{_y(b):.1f}" r="3.5"/>' for a, b in points]
    if mark:
        parts.append(f'<circle class="mark" cx="{_x(mark[0]):.1f}" cy="{_y(mark[1]):.1f}" r="5"/>')
        left = mark[0] > 0.6
        parts.append(
            f'<text class="note" text-anchor="{"end" if left else "start"}" '
            f'x="{_x(mark[0]) + (-10 if left else 10):.1f}" y="{_y(mark[1]) + (26 if mark[1] > 0.5 else -8):.1f}">'
            f"at the threshold</text>"
        )
    return _svg(title, "".join(parts))


def bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars of shares, in the given order; the longest fills the width."""
    most = max((value for _, value in values), default=0.0) or 1.0
    step = min(26.0, (HEIGHT - 20) / max(len(values), 1))
    parts = []
    for number, (label, value) in enumerate(values):
        top = 10 + number * step
        width = value / most * (WIDTH - 160)
        parts.append(
            f'<text class="label" x="86" y="{top + step * 0.62:.1f}" text-anchor="end">{escape(label)}</text>'
            f'<rect class="bar" x="94" y="{top + 2:.1f}" width="{max(width, 1):.1f}" height="{step - 6:.1f}" rx="2"/>'
            f'<text class="tick" x="{100 + width:.1f}" y="{top + step * 0.62:.1f}">{value:.1%}</text>'
        )
    return _svg(title, "".join(parts))


def _svg(title: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )


def _x(value: float) -> float:
    return _LEFT + value * (WIDTH - _LEFT - _RIGHT)


def _y(value: float) -> float:
    return HEIGHT - _BOTTOM - value * (HEIGHT - _TOP - _BOTTOM)


def _frame(title: str, x: str, y: str) -> str:
    parts = []
    for step in range(6):
        share = step / 5
        parts.append(
            f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(share):.1f}" y2="{_y(share):.1f}"/>'
            f'<line class="grid" y1="{_y(0)}" y2="{_y(1)}" x1="{_x(share):.1f}" x2="{_x(share):.1f}"/>'
            f'<text class="tick" x="{_x(0) - 7}" y="{_y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
            f'<text class="tick" x="{_x(share):.1f}" y="{_y(0) + 16}" text-anchor="middle">{share:.0%}</text>'
        )
    middle = (_y(0) + _y(1)) / 2
    parts.append(
        f'<text class="axis" x="{(_x(0) + _x(1)) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x)}</text>'
        f'<text class="axis" transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(y)}</text>'
    )
    return "".join(parts)
