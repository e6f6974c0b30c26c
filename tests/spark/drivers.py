"""Real drivers of Spark as processes of their own, and how far they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from hackwatch.store.schema import NoStore
from tests.engine.processes import NAMES, Folder, until

__all__ = ["Driver", "batches", "command", "commits", "logged", "read"]

PATIENCE = 300.0


def command(folder: Folder, *options: str) -> list[str]:
    """`hackwatch run --engine spark` on a data folder."""
    start = [sys.executable, "-m", "hackwatch", "--config", str(folder.config), "--data", str(folder.data)]
    return [*start, "run", "--engine", "spark", *options]


class Driver:
    """A driver in a process group of its own, which a kill takes as a whole: driver, JVM and workers."""

    def __init__(self, folder: Folder, arguments: Sequence[str]) -> None:
        self._log = folder.path / f"log-{time.monotonic_ns()}.txt"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder.path
            )

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL to all of them at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        until(lambda: condition() or self.process.poll() is not None, what, seconds=PATIENCE)
        assert self.process.poll() is None, self.log[-4000:]

    def ended(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE)


def commits(folder: Folder) -> int:
    """How many entries the logs of the lake's tables have."""
    return len(list((folder.data / "lake").glob("*/_delta_log/*.json")))


def batches(folder: Folder) -> int:
    """How many batches of all queries are committed in the store."""
    queries = (*NAMES, *(f"windows-{name}" for name in NAMES), "attacks")
    try:
        with folder.store() as store:
            return sum(found.epoch for query in queries if (found := store.checkpoint(f"main/{query}")))
    except NoStore:
        return 0


def logged(folder: Folder) -> int:
    """How many batches of messages have begun and are not committed."""
    with folder.store() as store:
        return sum(len(found.batches) for name in NAMES if (found := store.checkpoint(f"main/{name}")))


def read(folder: Folder) -> bool:
    """Whether all that is in the topics is in the lake."""
    try:
        with folder.store() as store:
            rows = store.accounting().select("stream", "partition", "next_offset").iter_rows()
            positions = {(stream, partition): offset for stream, partition, offset in rows}
    except NoStore:
        return False
    return all(positions.get(place, 0) == end for place, end in folder.ends().items())
