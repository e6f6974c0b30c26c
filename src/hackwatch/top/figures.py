"""Figures as a person reads them at a glance: short numbers, sparklines, times of day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

__all__ = ["ASCII", "UNICODE", "Glyphs", "age", "amount", "clock", "columns", "size", "spark", "stamp", "waiting"]

#: Buckets of 2 s that make one column of a sparkline: 10 s hold a whole number of samples taken every 1, 2, 5 or 10 s.
GROUP, LEAST = 5, 3


class Glyphs:
    """The marks of a screen. `levels`: lowest first, the first one is zero."""

    def __init__(self, levels: str, dot: str, alarm: str, line: str, times: str, more: str, between: str) -> None:
        self.levels, self.dot, self.alarm, self.line = levels, dot, alarm, line
        self.times, self.more, self.between = times, more, between


UNICODE = Glyphs("▁▂▃▄▅▆▇█", "●", "▲", "─", "\N{MULTIPLICATION SIGN}", "…", "·")
ASCII = Glyphs("_.:-=+*#", "*", "!", "-", "x", "~", "|")


def columns(buckets: Sequence[int], updated: float, seconds: float = 2.0) -> tuple[float, ...]:
    """Buckets (oldest first, the last one of the time `updated`) as 12 columns of 10 s, in records per bucket.

    Columns are aligned to the clock, so that they wander only every 10 s and do not flicker; the newest, not yet
    full one counts what it has by the time that it has had (6 s at least), and the bucket being filled is left out.
    """
    newest = int(updated // seconds)
    groups: dict[int, list[int]] = {}
    for back, value in enumerate(reversed(buckets)):
        if back:
            groups.setdefault((newest - back) // GROUP, []).append(value)
    newest_first = sorted(groups.items(), reverse=True)[: len(buckets) // GROUP]
    return tuple(sum(values) / max(len(values), LEAST) for _, values in reversed(newest_first))


def spark(values: Sequence[float], top: float, glyphs: Glyphs, *, wide: int = 1) -> str:
    """One glyph (`wide` times) a value; zero has its own, anything above at least the next."""
    steps = len(glyphs.levels) - 1
    heights = [0 if value <= 0 else max(1, min(steps, round(value / top * steps))) for value in values]
    return "".join(glyphs.levels[height] * wide for height in heights)


def amount(number: float) -> str:
    """At most 6 characters: `987`, `12,034`, `1.23M`."""
    if number < 100_000:
        return f"{number:,.0f}"
    for unit, factor in (("k", 1e3), ("M", 1e6), ("G", 1e9)):
        if number < 999.5 * factor:
            return f"{number / factor:.3g}{unit}" if number < 100 * factor else f"{number / factor:.0f}{unit}"
    return f"{number / 1e12:.3g}T"


def size(number: float) -> str:
    """Bytes: `0 B`, `12 KiB`, `3.4 MiB`."""
    if number < 1024:
        return f"{number:.0f} B"
    for unit, factor in (("KiB", 1 << 10), ("MiB", 1 << 20)):
        if number < 1000 * factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number / (1 << 30):.3g} GiB"


def waiting(lag_bytes: int, lag_messages: int) -> str:
    """What is not yet read: bytes of spools, messages of Kafka topics: `3.4 MiB`, `12,034 messages`, both, or `0`."""
    messages = f"{amount(lag_messages)} messages" if lag_messages else ""
    return " + ".join(text for text in (size(lag_bytes) if lag_bytes else "", messages) if text) or "0"


def age(seconds: float | None) -> str:
    """A length of time: `4 s`, `20 s`, `5 min`, `3 h`, `2 d`; `-` for None."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    for unit, factor, limit in (("s", 1, 120), ("min", 60, 7_200), ("h", 3_600, 172_800)):
        if seconds < limit:
            return f"{seconds / factor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def clock(at: float) -> str:
    """Time of day, UTC: `18:04:12`."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def stamp(at: float) -> str:
    """Date and time, UTC: `2026-01-31 18:04:12Z`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
