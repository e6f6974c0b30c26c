"""Data folders that version 0.1 left behind: where they are, how to unpack one, and what must come of it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tarfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from tests.engine.processes import NAMES, Folder, Outcome

__all__ = ["EXPECTED", "FIXTURES", "STOPS", "fingerprint", "query", "summary", "unpack"]

FIXTURES = Path(__file__).parent / "v0_1"
#: What an undisturbed run of version 0.1 made of the same topics.
EXPECTED = FIXTURES / "expected.json"
#: How an engine of version 0.1 ended, each an archive of what it left.
STOPS = ("embedded-killed", "embedded-stopped", "spark-killed")

#: What says which row of a lake table it is, and for records how it was judged.
_PLACE = ("topic", "partition", "offset", "index")
_ROWS = {
    **dict.fromkeys(NAMES, (*_PLACE, "late", "prediction")),
    "rejected": ("stream", *_PLACE),
    "attacks": ("machine", "CMD", "PID", *(f"{name}_{at}" for name in NAMES for at in _PLACE[1:])),
}
_WINDOW = ("stream", "entity", "start", "end", "records", "suspects", "count", "final")
_COUNTERS = ("messages", "records", "on_time", "late", "duplicate", "rejected", "suspects")


def unpack(stop: str, parent: Path, *, more: str = "") -> Folder:
    """A data folder as the engine left it, with the topics as they were some time later; `more` settings in front.

    The archives hold no path of the machine that made them: the folder may be anywhere.
    """
    folder = Folder(parent / stop)
    for private in (folder.path, folder.data):
        private.mkdir(mode=0o700)
    for archive in ("topics", stop):
        with tarfile.open(FIXTURES / f"{archive}.tar.xz") as tar:
            tar.extractall(folder.path, filter="data")
    folder.config.write_text(more + folder.config.read_text())
    return folder


def query(folder: Folder, sql: str) -> list[tuple[Any, ...]]:
    """Ask the store as version 0.1 left it, by its own tables: the present code may not read them before an engine has
    brought them up to date."""
    with closing(sqlite3.connect(f"file:{folder.data / 'store.sqlite'}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def fingerprint(frame: pl.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    """How many rows, and a hash of the set of them: a row that is lost, doubled or judged otherwise shows."""
    rows = sorted(map(json.dumps, frame.select(columns).rows()))
    return {"rows": len(rows), "sha256": hashlib.sha256("\n".join(rows).encode()).hexdigest()}


def summary(folder: Folder) -> dict[str, Any]:
    """What a run has left in lake and store, but for what depends on clock, cut of batches, or order of partitions."""
    outcome = Outcome.of(folder)
    windows = outcome.windows.select(_WINDOW)
    accounting = outcome.accounting.select("stream", "topic", "partition", *_COUNTERS)
    return {
        "tables": {name: fingerprint(outcome.tables[name], columns) for name, columns in _ROWS.items()},
        "windows": sorted(map(list, windows.rows())),
        "alerts": {id_: list(alert) for id_, alert in sorted(outcome.alerts.items())},
        "accounting": sorted(map(list, accounting.rows())),
    }
