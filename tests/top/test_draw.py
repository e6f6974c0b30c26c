"""The screen at 80 and 120 columns, and that nothing outside can write on it but in its own cells."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group

from hackwatch.alerts.alert import Severity
from hackwatch.top.draw import clocks, draw, headline
from hackwatch.top.figures import ASCII, UNICODE, Glyphs
from hackwatch.top.plain import snapshot_lines
from hackwatch.top.screen import Screen
from hackwatch.views.live import View
from tests.top.support import NOW, alert, entity, stream, view

GOLDEN = Path(__file__).parent / "golden"
EVIL = "\x1b[2J\x1b]0;owned\x07[bold red]:skull:\n\u202e"


def plain(shown: View, width: int = 80, height: int = 24, screen: Screen | None = None) -> list[str]:
    return [line.plain.rstrip() for line in draw(shown, screen or Screen(), width, height)]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 30), (140, 30)])
def test_the_screen_is_exactly_this(width: int, height: int) -> None:
    assert plain(view(), width, height) == (GOLDEN / f"{width}x{height}.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
@given(width=st.integers(40, 220), height=st.integers(8, 70), notes=st.booleans(), machines=st.integers(0, 200))
def test_every_line_fills_the_width_whatever_the_size(
    glyphs: Glyphs, width: int, height: int, notes: bool, machines: int
) -> None:
    shown = view(entities=tuple(entity(f"host-{n}") for n in range(machines)), notes=view().notes if notes else ())
    for screen in (Screen(), Screen(chosen=alert().id), Screen(opened=alert(), scroll=3)):
        lines = draw(shown, screen, width, height, glyphs)
        assert [line.cell_len for line in lines] == [width] * height
    if glyphs is ASCII:
        assert all(line.plain.isascii() for line in lines)


def test_what_is_cut_on_a_narrow_terminal_does_not_run_into_what_stays() -> None:
    lines = plain(view(), 40, 20)
    for cut in (lines[0], lines[1], lines[-1]):
        assert "… " in cut


@pytest.mark.parametrize("field", ["entity", "title", "subject", "technique", "rule"])
def test_what_attackers_write_is_escaped_and_no_markup(field: str) -> None:
    shown = view(alerts=(alert(**{field: EVIL, "drivers": {}}),), entities=(entity(EVIL),))
    output = io.StringIO()
    console = Console(file=output, width=120, height=30, force_terminal=True, color_system=None, markup=True)
    for screen in (Screen(), Screen(opened=shown.alerts[0])):
        console.print(Group(*draw(shown, screen, 120, 30)))
    written = output.getvalue()
    assert "\\x1b[2J" in written
    assert not {"\x1b[2J", "\x07", "\u202e", "\x1b]"} & {
        written[i : i + n] for n in (1, 2, 4) for i in range(len(written))
    }


def test_machines_in_trouble_stay_when_not_all_fit() -> None:
    shown = view(entities=(*(entity(f"host-{n:02}") for n in range(30)), entity("web-1")))
    lines = plain(shown)
    assert any(line.startswith(" web-1 ") for line in lines)
    assert any(line.strip().startswith("… and 2") for line in lines)


@pytest.mark.parametrize(
    ("changes", "expected", "severity"),
    [
        ({"updated": None}, "waiting for the engine", None),
        ({"alerts": ()}, "nothing suspicious on any machine in the last 10 minutes", None),
        ({"alerts": (alert(last_seen=NOW - 601, created=NOW - 601),)}, "nothing suspicious", None),
        ({"alerts": (alert(status="acknowledged"),)}, "nothing suspicious", None),
        ({"alerts": (alert(),)}, "look at web-1 (critical)", "critical"),
        ({"alerts": (alert(severity="low"), alert(entity="b", severity="high"))}, "look at b (high); lesser", "high"),
    ],
    ids=["no status yet", "no alerts", "old", "handled", "one", "worst first"],
)  # fmt: skip
def test_the_headline_says_whether_something_is_wrong_and_where(
    changes: dict[str, Any], expected: str, severity: Severity | None
) -> None:
    sentence, found = headline(view(**changes))
    assert sentence.startswith(expected)
    assert found == severity


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"updated": NOW - 9.9}, None),
        ({"updated": NOW - 10.1}, "engine not answering since 18:03:59 UTC"),
        ({"state": "stopped", "updated": NOW - 900}, "engine stopped at 17:49:10 UTC"),
        ({"state": "paused: no space left on device"}, "paused: no space left on device"),
    ],
    ids=["fresh", "silent", "stopped", "paused"],
)
def test_trouble_of_the_engine_comes_before_all_else(changes: dict[str, Any], expected: str | None) -> None:
    bar = plain(view(**changes))[2]
    assert bar == (f" ▲ {expected}" if expected else " ▲ look at web-1 (critical); lesser alerts on 1 more")


def test_an_alert_is_explained_and_scrolled_to_its_end() -> None:
    long = alert(evidence={f"column_{n:02}": n for n in range(60)})
    first = plain(view(), screen=Screen(opened=long))
    assert "CRITICAL  hping3 is suspect in process and memory on web-1" in first[1]
    assert any("CPU          98 %, usually 1 %" in line for line in first)
    last = plain(view(), screen=Screen(opened=long, scroll=10_000))
    assert last[-2].strip().startswith("id ")


def test_the_chosen_alert_is_in_sight() -> None:
    many = tuple(alert(id=f"{n:032x}", title=f"number {n}") for n in range(40))
    lines = plain(view(alerts=many), screen=Screen(chosen=many[33].id))
    assert any("number 33" in line for line in lines)
    assert not any("number 0" in line for line in lines)


def test_progress_is_the_last_note() -> None:
    lines = plain(replace(view(), progress="training 40 %"))
    assert lines[-2].endswith("training 40 %")


@pytest.mark.parametrize("width", [60, 80, 140])
def test_sources_that_are_late_or_whose_clocks_are_wrong_are_named(width: int) -> None:
    told = stream("process", late_sources={"web-9": 12}, skewed_sources={"liar": 3000.0, "slow\x1b[2J": -600.0})
    shown = view(streams=(told,), alerts=())
    assert clocks(shown) == "clocks: liar ahead 50 min, slow\\x1b[2J behind 10 min; late: web-9 (12)"
    lines = [line.plain for line in draw(shown, Screen(), width, 24)]
    assert any("clocks: liar" in line for line in lines)
    assert {len(line) for line in lines} == {width}
    assert clocks(shown) in list(snapshot_lines(shown))
