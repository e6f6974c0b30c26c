"""Draws docs/images/top.svg from a demo at work: `python tools/picture.py [seed] [seconds]`."""

from __future__ import annotations

import io
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console, Group
from rich.terminal_theme import TerminalTheme

from hackwatch.clock import SystemClock
from hackwatch.config import prepare_data_folder
from hackwatch.demo import Demo, demo_settings
from hackwatch.store import open_store
from hackwatch.threads import ThreadGroup
from hackwatch.top.draw import draw
from hackwatch.top.screen import Screen
from hackwatch.top.story import Story
from hackwatch.views.live import Reader, View

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "top.svg"
WIDTH, HEIGHT = 106, 30
THEME = TerminalTheme(
    (16, 20, 28),
    (214, 220, 228),
    [(16, 20, 28), (229, 83, 75), (80, 190, 120), (229, 178, 70), (88, 148, 240), (190, 130, 230), (80, 190, 200),
     (214, 220, 228)],
    [(110, 120, 135), (255, 110, 100), (120, 220, 150), (250, 205, 110), (130, 180, 255), (215, 165, 250),
     (120, 220, 225), (255, 255, 255)],
)  # fmt: skip


def view_of_a_demo(seed: int, seconds: float) -> View:
    """What the screen shows after so many seconds of a demo with trained detectors."""
    clock, stop = SystemClock(), threading.Event()
    story, threads = Story(clock.wall), ThreadGroup(stop)
    with tempfile.TemporaryDirectory() as folder:
        settings = demo_settings(prepare_data_folder(Path(folder) / "data"))
        with open_store(settings.store_url, site=settings.site) as store:
            demo = Demo(settings, seed, 500.0, story, threads, clock)
            demo.start()
            reader = Reader(
                store, settings.pipeline, clock.wall, lambda: demo.evaluator.look(store.triage), story.progress,
                "the simulation, which no detector is told of",
            )  # fmt: skip
            due = time.monotonic() + seconds
            while time.monotonic() < due:
                view = reader()
                time.sleep(0.5)
            stop.set()
            threads.join()
    return view


def main() -> None:
    seed, seconds = (int(text) for text in sys.argv[1:3]) if len(sys.argv) == 3 else (1, 100)
    console = Console(
        record=True, width=WIDTH, height=HEIGHT, force_terminal=True, color_system="truecolor", file=io.StringIO()
    )
    console.print(Group(*draw(view_of_a_demo(seed, seconds), Screen(), WIDTH, HEIGHT)))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(standing_alone(console.export_svg(title="hackwatch demo", theme=THEME)), encoding="utf-8")


def standing_alone(svg: str) -> str:
    """The picture with the fonts of whoever looks at it, and without addresses of other hosts."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    fonts = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
    svg = re.sub(r"font-family: Fira Code, monospace", f"font-family: {fonts}", svg)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


if __name__ == "__main__":
    main()
