"""What the plain consumer has counted, as a screen, as lines and as JSON values: pure, names from outside escaped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from hackwatch.text import printable
from hackwatch.top.consumer import Flow
from hackwatch.top.figures import UNICODE, Glyphs, amount, clock, columns, spark, stamp
from hackwatch.top.styles import BARS, WIDE, beside, cell, fit, in_ascii, line, rule

__all__ = ["draw_flow", "flow_lines", "flow_values", "headline"]

_NAME, _WIDE_NAME = 12, 24
_PLAIN_WIDTH = 80
_QUIET = "reading"


def draw_flow(flow: Flow, width: int, height: int, glyphs: Glyphs = UNICODE) -> list[Text]:
    """Exactly `height` lines of `width` cells: the state, a line an entity, the keys."""
    lines = [_head(flow, width, glyphs), rule("last 2 minutes, by time of arrival", "10 s a step", width, glyphs)]
    lines += _entities(flow, max(1, height - len(lines) - 2), width, glyphs)
    lines = lines[: height - 1]
    lines += [Text(" " * width)] * (height - 1 - len(lines))
    lines.append(beside(Text(" q quit", "dim"), Text(f"{clock(flow.now)} UTC ", "dim"), width))
    return lines if glyphs is UNICODE else [in_ascii(each, width) for each in lines]


def headline(flow: Flow) -> str:
    """The state in a few words."""
    if flow.trouble is not None:
        return f"cannot read: {printable(flow.trouble)}"
    if not flow.partitions:
        return "waiting for the topic"
    return "catching up" if flow.behind else _QUIET


def _head(flow: Flow, width: int, glyphs: Glyphs) -> Text:
    good = flow.trouble is None
    mark = Text(f"{glyphs.dot if good else glyphs.alarm} {headline(flow)}", "green" if good else BARS["medium"])
    left = line((f" {printable(flow.topic)}", "bold"), ("  ", ""), mark)
    parts = [(f"{amount(flow.recent / flow.span)} records/s  ", "bold"), (f"{amount(flow.messages)} messages  ", "dim")]
    if flow.lost:
        parts.append((f"gaps {flow.lost}  ", "bold yellow"))
    parts.append((f"{amount(flow.unreadable)} unreadable ", "bold yellow" if flow.unreadable else "dim"))
    return beside(left, line(*parts), width)


def _entities(flow: Flow, rows: int, width: int, glyphs: Glyphs) -> list[Text]:
    """A heading, then the entities in the order of their names; those with the most records if not all fit."""
    name_width, stretch = (_WIDE_NAME, 4) if width >= WIDE else (_NAME, 3)
    heading = f" {cell(flow.noun.singular, name_width)} {'records':{12 * stretch}} {'2 min':>10} {'per s':>8}"
    lines = [fit(Text(heading, "dim"), width)]
    shown, left_out = _chosen(flow, rows)
    drawn = [columns(buckets, flow.now) for _, buckets in shown]
    top = max((max(values) for values in drawn), default=0.0)
    for (name, buckets), values in zip(shown, drawn, strict=True):
        number = sum(buckets)
        parts = [
            (f" {cell(name, name_width)} ", "bold"),
            (spark(values, top, glyphs, wide=stretch), "blue"),
            (f" {number:>10,}", ""),
            (f" {amount(number / flow.span):>8}", "dim"),
        ]
        lines.append(fit(line(*parts), width))
    if left_out or flow.others:
        rest = flow.recent - sum(sum(buckets) for _, buckets in shown)
        lines.append(fit(Text(f" {glyphs.more} and others with {rest:,} records", "dim"), width))
    return lines


def _chosen(flow: Flow, rows: int) -> tuple[list[tuple[str, tuple[int, ...]]], int]:
    if len(flow.entities) + bool(flow.others) <= rows:
        return list(flow.entities), 0
    busiest = sorted(flow.entities, key=lambda entity: (-sum(entity[1]), entity[0]))[: max(0, rows - 1)]
    return sorted(busiest), len(flow.entities) - len(busiest)


def flow_lines(flow: Flow, glyphs: Glyphs = UNICODE) -> Iterator[str]:
    """The same where nobody looks at a screen: a line for the topic, and one for each entity; 80 columns at most."""
    counts = f"{flow.recent / flow.span:,.1f} records/s, {flow.unreadable:,} unreadable"
    gaps = f", gaps {flow.lost}" if flow.lost else ""
    yield _plain(f"{stamp(flow.now)}  {cell(flow.topic, min(24, len(printable(flow.topic))))}: {counts}{gaps}")
    if (said := headline(flow)) != _QUIET:
        yield _plain(f"  {said}")
    values = [columns(buckets, flow.now) for _, buckets in flow.entities]
    top = max((max(each) for each in values), default=0.0)
    for (name, buckets), each in zip(flow.entities, values, strict=True):
        number = sum(buckets)
        drawn = spark(each, top, glyphs)
        yield _plain(f"  {cell(name, 24)}  {drawn}  {number:>9,} records in 2 min  {number / flow.span:>8,.1f}/s")
    if flow.others:
        yield _plain(f"  {'others':24}  {'':12}  {flow.others:>9,} records in 2 min")


def _plain(text: str) -> str:
    return fit(Text(text), _PLAIN_WIDTH).plain.rstrip()


def flow_values(flow: Flow) -> dict[str, Any]:
    """For scripts; entities under what people call them, such as `machines`.

    `records` of one: those of the last 2 minutes, `buckets`: the same in steps of 2 s.
    """
    names = ("now", "topic", "seconds", "partitions", "messages", "records", "unreadable", "lost", "behind", "trouble")
    return {
        **{name: getattr(flow, name) for name in names},
        flow.noun.plural: {
            name: {"records": sum(buckets), "per_second": sum(buckets) / flow.span, "buckets": list(buckets)}
            for name, buckets in flow.entities
        },
        "others": flow.others,
    }
