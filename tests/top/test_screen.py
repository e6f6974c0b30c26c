"""Keys and what they do."""

from __future__ import annotations

import pytest

from hackwatch.top.live import keys_in
from hackwatch.top.screen import Screen, press
from tests.top.support import view

FIRST, SECOND, THIRD = (alert.id for alert in view().alerts)


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        ([], None),
        (["down"], FIRST),
        (["up"], FIRST),
        (["down", "down"], SECOND),
        (["down", "down", "up"], FIRST),
        (["page down"], THIRD),
        (["page down", "page up"], FIRST),
        (["down", "back"], None),
        (["enter"], None),
    ],
    ids=str,
)
def test_arrows_choose_an_alert(keys: list[str], chosen: str | None) -> None:
    assert run(keys) == Screen(chosen=chosen)


def test_enter_explains_the_chosen_alert_and_esc_goes_back() -> None:
    opened = run(["down", "enter", "down", "down", "up"])
    assert opened == Screen(chosen=FIRST, opened=view().alerts[0], scroll=1)
    assert run(["down", "enter", "down", "back"]) == Screen(chosen=FIRST)


@pytest.mark.parametrize("keys", [["quit"], ["down", "enter", "quit"]], ids=str)
def test_q_quits_everywhere(keys: list[str]) -> None:
    assert run(keys) is None


def test_no_alert_no_choice() -> None:
    empty = view(alerts=())
    assert press(press(Screen(), "down", empty) or Screen(), "enter", empty) == Screen()


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (b"q", ["quit"]),
        (b"\x1b[A\x1b[B\x1bOB", ["up", "down", "down"]),
        (b"jk\r", ["down", "up", "enter"]),
        (b"\x1b", ["back"]),
        (b"\x1b[5~\x1b[1;5Cx\x1b[24~", ["page up"]),
        (b"\xff\x00", []),
    ],
    ids=repr,
)
def test_what_terminals_send(typed: bytes, keys: list[str]) -> None:
    assert keys_in(typed) == keys


def run(keys: list[str]) -> Screen | None:
    screen: Screen | None = Screen()
    for key in keys:
        assert screen is not None
        screen = press(screen, key, view())
    return screen
