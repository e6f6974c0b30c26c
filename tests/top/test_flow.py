"""What the plain consumer shows: exact screens and lines, and that names from outside stay in their cells."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group

from hackwatch.streams.stream import Noun
from hackwatch.top.consumer import Flow
from hackwatch.top.figures import ASCII, UNICODE, Glyphs
from hackwatch.top.flow import draw_flow, flow_lines, flow_values
from tests.top.support import NOW
from tests.top.test_draw import EVIL

GOLDEN = Path(__file__).parent / "golden"


def machine(name: str, every: int = 5, many: int = 30) -> tuple[str, tuple[int, ...]]:
    """So many records in every n-th bucket of 2 s."""
    return name, tuple(many if place % every == 0 else 0 for place in range(60))


def flow(**changes: object) -> Flow:
    values: dict[str, object] = {
        "now": NOW, "topic": "process_stream", "seconds": 300.0, "partitions": 2, "messages": 1234, "records": 34567,
        "unreadable": 3, "noun": Noun("machine", "machines"),
        "entities": (machine("4"), machine("5", many=12), machine("web-1", every=15, many=50)),
    }  # fmt: skip
    return Flow(**{**values, **changes})  # type: ignore[arg-type]  # the names are those of the class


@pytest.mark.parametrize(("width", "height"), [(80, 12), (120, 12)])
def test_the_screen_is_exactly_this(width: int, height: int) -> None:
    drawn = [line.plain.rstrip() for line in draw_flow(flow(), width, height)]
    assert drawn == (GOLDEN / f"flow-{width}x{height}.txt").read_text(encoding="utf-8").splitlines()


def test_the_lines_are_exactly_these() -> None:
    assert list(flow_lines(flow(others=7, lost=1))) == (GOLDEN / "flow.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
@given(width=st.integers(40, 220), height=st.integers(4, 70), machines=st.integers(0, 100), others=st.integers(0, 9))
def test_every_line_fills_the_width_whatever_the_size(
    glyphs: Glyphs, width: int, height: int, machines: int, others: int
) -> None:
    shown = flow(entities=tuple(machine(f"host-{n:03}") for n in range(machines)), others=others)
    lines = draw_flow(shown, width, height, glyphs)
    assert [line.cell_len for line in lines] == [width] * height
    if glyphs is ASCII:
        assert all(line.plain.isascii() for line in lines)
    assert all(len(line) <= 80 for line in flow_lines(shown, glyphs))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"behind": True}, "catching up"),
        ({"partitions": 0}, "waiting for the topic"),
        ({"trouble": "no broker\x1b[2J answers"}, "cannot read: no broker\\x1b[2J answers"),
        ({"lost": 2}, "gaps 2"),
    ],
    ids=["behind", "no topic", "trouble", "lost"],
)
def test_the_state_is_said(changes: dict[str, object], said: str) -> None:
    shown = flow(**changes)
    assert said in draw_flow(shown, 120, 10)[0].plain
    assert said in "".join(flow_lines(shown))


@pytest.mark.parametrize("field", ["machine", "topic", "trouble"])
def test_what_attackers_write_is_escaped_and_no_markup(field: str) -> None:
    shown = flow(entities=(machine(EVIL),)) if field == "machine" else flow(**{field: EVIL})
    output = io.StringIO()
    console = Console(file=output, width=120, height=12, force_terminal=True, color_system=None, markup=True)
    console.print(Group(*draw_flow(shown, 120, 12)))
    written = output.getvalue() + "\n".join(flow_lines(shown))
    assert "\\x1b[2J" in written
    assert not any(part in written for part in ("\x1b[2J", "\x07", "\u202e", "\x1b]"))


def test_machines_that_do_not_fit_are_counted_together() -> None:
    shown = flow(entities=tuple(machine(f"host-{n:02}", many=n) for n in range(30)))
    lines = [line.plain for line in draw_flow(shown, 80, 10)]
    assert "host-29" in "".join(lines)
    assert "and others with" in lines[8]
    drawn = sum(int(line.split()[-2].replace(",", "")) for line in lines[3:8])
    assert f"with {shown.recent - drawn:,} records" in lines[8]


def test_scripts_get_all_numbers() -> None:
    told = flow_values(flow(others=7))
    assert told["machines"]["5"]["records"] == sum(told["machines"]["5"]["buckets"]) == 144
    assert told["machines"]["5"]["per_second"] == 144 / 120
    assert (told["messages"], told["unreadable"], told["others"], told["trouble"]) == (1234, 3, 7, None)
