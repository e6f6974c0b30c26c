"""What a person has chosen on the screen, and what a key changes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hackwatch.store import StoredAlert
from hackwatch.views.live import View

__all__ = ["KEYS", "Screen", "press"]

#: What terminals send for the keys that have a meaning here.
KEYS = {
    b"q": "quit", b"Q": "quit", b"\x03": "quit",
    b"\x1b[A": "up", b"\x1bOA": "up", b"k": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"j": "down",
    b"\x1b[5~": "page up", b"\x1b[6~": "page down", b" ": "page down",
    b"\r": "enter", b"\n": "enter", b"\x1b": "back", b"\x7f": "back", b"\x0c": "redraw",
}  # fmt: skip
PAGE = 10


@dataclass(frozen=True, slots=True)
class Screen:
    """`chosen`: id of the highlighted alert. `opened`: the alert being explained, from its line `scroll` on."""

    chosen: str | None = None
    opened: StoredAlert | None = None
    scroll: int = 0


def press(screen: Screen, key: str, view: View) -> Screen | None:
    """The screen after a key; None to quit."""
    steps = {"up": -1, "down": 1, "page up": -PAGE, "page down": PAGE}
    if key == "quit":
        return None
    if screen.opened is not None:
        if key in ("back", "enter"):
            return replace(screen, opened=None, scroll=0)
        return replace(screen, scroll=max(0, screen.scroll + steps.get(key, 0)))
    ids = [alert.id for alert in view.alerts]
    place = ids.index(screen.chosen) if screen.chosen in ids else -1
    if key in steps and ids:
        return replace(screen, chosen=ids[max(0, min(len(ids) - 1, place + steps[key]))])
    if key == "enter" and place >= 0:
        return replace(screen, opened=view.alerts[place], scroll=0)
    return replace(screen, chosen=None) if key == "back" else screen
