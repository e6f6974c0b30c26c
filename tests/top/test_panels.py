"""What families declare to be shown: on the screen in its place, and in lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.top.draw import draw
from hackwatch.top.figures import ASCII, UNICODE, Glyphs
from hackwatch.top.panels import panel_lines
from hackwatch.top.plain import snapshot_lines
from hackwatch.top.screen import Screen
from hackwatch.views import PanelView, Ranked, View
from tests.third.shop import shop_all_along
from tests.top.support import NOW, alert, entity, stream, view

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")

GOLDEN = Path(__file__).parent / "golden"
START = int(NOW) // 60 * 60
BUSIEST = PanelView(
    "busiest", "the busiest servers", "visit", "servers", "visits", START, START + 60,
    (Ranked({"server": "web-2"}, 12_034), Ranked({"server": "web-1"}, 6_000), Ranked({"server": "\x1b[2Jodd"}, 3)),
)  # fmt: skip
SLOWEST = PanelView("slowest", "seconds of each gate", "login", "gates", "seconds", START, START + 60,
    (Ranked({"gate": "north", "failed": None}, 1.25),), whole=False)  # fmt: skip
EMPTY = PanelView("quiet", "nobody yet", "login", "gates", "attempts")
LINES = [
    "the busiest servers (visits, 60 s from 18:04:00): web-2 12,034, web-1 6,000, \\x1b[2Jodd 3",
    "seconds of each gate (seconds of 20,000 rows, 60 s from 18:04:00): north - 1.2",
    "nobody yet (attempts): nothing so far",
]


def shop(*panels: PanelView) -> View:
    clients = tuple(
        replace(entity(f"203.0.113.{n}"), windows={"visit": (n, 0), "login": (0, 0)}, streams=("visit", "login"))
        for n in range(1, 4)
    )
    seen = alert(stream="visit+login", entity="203.0.113.2", title="203.0.113.2 is suspect in visit and login")
    return view(
        streams=(stream("visit"), stream("login")), entities=clients, alerts=(seen,), notes=(), panels=panels
    )  # fmt: skip


def plain(shown: View, width: int, height: int) -> list[str]:
    return [line.plain.rstrip() for line in draw(shown, Screen(), width, height)]


def test_the_screen_is_exactly_this() -> None:
    expected = (GOLDEN / "panels-80x24.txt").read_text(encoding="utf-8").splitlines()
    assert plain(shop(BUSIEST, SLOWEST, EMPTY), 80, 24) == expected


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
@given(width=st.integers(40, 220), height=st.integers(8, 70), many=st.integers(0, 6))
def test_every_line_fills_the_width_whatever_the_size(glyphs: Glyphs, width: int, height: int, many: int) -> None:
    lines = draw(shop(*[BUSIEST, SLOWEST, EMPTY] * many), Screen(), width, height, glyphs)
    assert [line.cell_len for line in lines] == [width] * height
    if glyphs is ASCII:
        assert all(line.plain.isascii() for line in lines)


@pytest.mark.parametrize("height", range(16, 40))
def test_alerts_are_in_sight_beside_them(height: int) -> None:
    lines = plain(shop(*[BUSIEST] * 6), 80, height)
    assert any("203.0.113.2 is suspect" in line or "CRITICAL" in line for line in lines)
    assert any("the busiest servers" in line for line in lines)


def test_without_any_the_screen_is_as_before() -> None:
    assert not list(panel_lines(shop()))
    assert plain(shop(), 80, 24)[-2] == ""


def test_in_lines() -> None:
    assert [line for line in snapshot_lines(shop(BUSIEST, SLOWEST, EMPTY)) if line in LINES] == LINES
