"""A view in plain lines."""

from __future__ import annotations

import threading

from hackwatch.store import Store
from hackwatch.top.plain import show_plain, snapshot_lines
from hackwatch.views.live import Note
from tests.top.support import NOW
from tests.views.test_live import an_alert, reader, status, store

__all__ = ["store"]


def test_lines_tell_new_alerts_and_notes_once(store: Store) -> None:
    store.statuses.write("main", status())
    store.checkpoints.log_batches("main", (), [an_alert(1, "before")])
    store.checkpoints.log_batches("main", (), [an_alert(2, "now\x1b[2J")])
    notes, lines, stop = [Note(NOW, "something begins")], list[str](), threading.Event()

    def write(line: str) -> None:
        lines.append(line)
        if "running" in line:
            stop.set()

    show_plain(reader(store, notes=lambda: notes), stop, write, after=1)
    assert [line for line in lines if "something begins" in line] == ["2026-01-31 18:04:10Z  something begins"]
    (told,) = [line for line in lines if "web-1:" in line]
    assert told == "2026-01-31 18:04:10Z  HIGH      web-1: now\\x1b[2J (sh) [00000000]"
    assert lines[2].startswith(
        "2026-01-31 18:04:10Z  running: 10 records/s from 2 machines, 2 suspects in 2 min, 2 late"
    )


def test_one_snapshot_in_lines(store: Store) -> None:
    store.statuses.write("main", status())
    lines = list(snapshot_lines(reader(store)()))
    assert lines[1] == "nothing suspicious on any machine in the last 10 minutes"
    assert lines[3].startswith("  web-1 ")
