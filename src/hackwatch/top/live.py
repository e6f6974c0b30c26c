"""The live screen: reads, draws what has changed, listens for keys, and leaves the terminal as it was."""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from hackwatch.errors import HackwatchError
from hackwatch.top.draw import draw
from hackwatch.top.figures import ASCII, UNICODE
from hackwatch.top.plain import show_plain
from hackwatch.top.screen import KEYS, Screen, press
from hackwatch.views.live import Reader, View

__all__ = ["has_screen", "keyboard", "keys_in", "present", "screen_console", "show"]

#: Seconds between two looks at the store, and between two at keys and at the size of the terminal.
READ_SECONDS, LOOK_SECONDS = 0.5, 0.1

_KEY = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|[\x00-\xff]", re.DOTALL)


def screen_console() -> Console:
    """A console on standard output that keeps texts as they are: no markup, emoji codes or highlighting."""
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=False)


def has_screen(console: Console | None = None) -> bool:
    """Whether there is a terminal that a screen can be drawn on, and this process is in its foreground."""
    console = console or screen_console()
    if console.is_dumb_terminal or not (console.is_terminal and sys.stdout.isatty()):
        return False
    with suppress(OSError):
        return os.tcgetpgrp(sys.stdout.fileno()) == os.getpgrp()
    return False


def show(reader: Reader, stop: threading.Event, console: Console) -> None:
    """Show the live screen on the alternate screen until `stop` is set or a person quits."""
    glyphs = ASCII if console.options.ascii_only else UNICODE
    screen, view, due = Screen(), View(reader.clock()), 0.0
    drawn: tuple[View, Screen, tuple[int, int]] | None = None
    shown: list[Text] = []
    alternate = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    with keyboard() as keys, alternate as live:
        while not stop.is_set():
            if time.monotonic() >= due:
                due = time.monotonic() + READ_SECONDS
                view = _read(reader, view)
            size = console.size
            if drawn != (view, screen, size):
                drawn = (view, screen, size)
                lines = draw(view, screen, size.width, size.height, glyphs)
                if lines != shown:
                    live.update(Group(*lines), refresh=True)
                    shown = lines
            for key in keys(LOOK_SECONDS):
                pressed = press(screen, key, view)
                if pressed is None:
                    return
                screen = pressed
                if key == "redraw":
                    drawn, shown = None, []


def present(reader: Reader, stop: threading.Event, *, plain: bool, write: Callable[[str], None], after: int) -> None:
    """The live screen where there is a terminal for it and lines are not asked for; else lines, as `show_plain`."""
    console = screen_console()
    if has_screen(console) and not plain:
        show(reader, stop, console)
    else:
        show_plain(reader, stop, write, after=after)


def _read(reader: Reader, before: View) -> View:
    """A new view; when the store cannot be read just now, the one before, growing old."""
    try:
        return reader()
    except HackwatchError:
        return replace(before, now=reader.clock())


def keys_in(typed: bytes) -> list[str]:
    """The keys with a meaning in what a terminal sent; escape sequences of others are skipped whole."""
    return [KEYS[match] for match in _KEY.findall(typed) if match in KEYS]


@contextmanager
def keyboard() -> Iterator[Callable[[float], list[str]]]:
    """Keys as they are pressed, without echo; the terminal's settings are restored whatever happens.

    Gives a function that waits so many seconds at most and returns the keys pressed; the end of the input is `quit`.
    """
    if not sys.stdin.isatty():
        yield _wait
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSADRAIN)
        settings = termios.tcgetattr(terminal)
        # Stopped with Ctrl-Z, the alternate screen would be left to the shell.
        settings[6][termios.VSUSP] = b"\x00"
        termios.tcsetattr(terminal, termios.TCSADRAIN, settings)
        yield lambda seconds: _pressed(terminal, seconds)
    finally:
        with suppress(termios.error, OSError):
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _wait(seconds: float) -> list[str]:
    time.sleep(seconds)
    return []


def _pressed(terminal: int, seconds: float) -> list[str]:
    if not select.select([terminal], [], [], seconds)[0]:
        return []
    try:
        typed = os.read(terminal, 1024)
    except OSError:
        typed = b""
    return keys_in(typed) if typed else ["quit"]
