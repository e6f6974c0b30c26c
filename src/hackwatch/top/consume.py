"""The plain consumer at work: on the screen, in lines, or once for a script."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from hackwatch.top.consumer import Consumer, Flow
from hackwatch.top.figures import ASCII, UNICODE
from hackwatch.top.flow import draw_flow, flow_lines
from hackwatch.top.live import has_screen, keyboard, screen_console
from hackwatch.top.story import Story

__all__ = ["DRAW_SECONDS", "LINES_SECONDS", "SAVE_SECONDS", "consume", "consume_once"]

#: Seconds between two looks at the topic, two screens, two groups of lines, and two charts.
LOOK_SECONDS, DRAW_SECONDS, LINES_SECONDS, SAVE_SECONDS = 0.1, 0.5, 10.0, 5.0

Save = Callable[[Flow], None]


def consume(
    consumer: Consumer, stop: threading.Event, *, plain: bool, write: Callable[[str], None], save: Save | None = None
) -> None:
    """Count until `stop` is set or a person quits; a screen where there is one and lines are not asked for.

    `save` writes the chart every few seconds and at the end.
    """
    console = screen_console()
    saved = _Every(SAVE_SECONDS, save)
    if has_screen(console) and not plain:
        _show(consumer, stop, console, saved)
    else:
        _tell(consumer, stop, write, saved)
    saved(consumer, now=True)


def consume_once(consumer: Consumer, stop: threading.Event, *, until_read: bool, save: Save | None = None) -> Flow:
    """Count until `stop` is set, or with `until_read` until all is read that is there now; then what has arrived.

    A topic that cannot be read ends it too with `until_read`: `Flow.trouble` says why.
    """
    while not stop.is_set():
        counted = consumer.look()
        if until_read and (consumer.read or consumer.flow().trouble is not None):
            break
        if not counted:
            stop.wait(LOOK_SECONDS / 2)
    flow = consumer.flow()
    if save is not None:
        save(flow)
    return flow


class _Every:
    """Hands on what has arrived: at once, and then every so many seconds."""

    def __init__(self, seconds: float, action: Save | None) -> None:
        self._seconds, self._action, self._due = seconds, action, float("-inf")

    def __call__(self, consumer: Consumer, *, now: bool = False) -> None:
        if self._action is not None and (now or time.monotonic() >= self._due):
            self._action(consumer.flow())
            self._due = time.monotonic() + self._seconds


def _show(consumer: Consumer, stop: threading.Event, console: Console, saved: _Every) -> None:
    glyphs = ASCII if console.options.ascii_only else UNICODE
    shown: list[Text] = []
    due = float("-inf")
    alternate = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    # What the log would write over the screen is in the headline.
    with Story(time.time).instead_of_the_log(), keyboard() as keys, alternate as live:
        while not stop.is_set():
            busy = consumer.look(LOOK_SECONDS)
            if time.monotonic() >= due:
                due = time.monotonic() + DRAW_SECONDS
                lines = draw_flow(consumer.flow(), console.size.width, console.size.height, glyphs)
                if lines != shown:
                    live.update(Group(*lines), refresh=True)
                    shown = lines
                saved(consumer)
            if "quit" in keys(0.0 if busy else LOOK_SECONDS):
                return


def _tell(consumer: Consumer, stop: threading.Event, write: Callable[[str], None], saved: _Every) -> None:
    due = time.monotonic() + LINES_SECONDS
    while True:
        last = stop.is_set()
        busy = consumer.look()
        if last or time.monotonic() >= due:
            due = time.monotonic() + LINES_SECONDS
            for line in flow_lines(consumer.flow()):
                write(line)
        if last:
            return
        saved(consumer)
        if not busy:
            stop.wait(LOOK_SECONDS)
