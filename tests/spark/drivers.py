"""Real drivers of Spark as processes of their own, and how far they are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from hackwatch.errors import ResourceError
from tests.engine.processes import NAMES, Folder, Program, until

__all__ = ["Driver", "batches", "command", "commits", "logged", "read"]


def command(folder: Folder, *options: str) -> list[str]:
    """`hackwatch run --engine spark` on a data folder."""
    start = [sys.executable, "-m", "hackwatch", "--config", str(folder.config), "--data", str(folder.data)]
    return [*start, "run", "--engine", "spark", *options]


class Driver(Program):
    """A driver with its JVM and its workers."""

    patience = 300.0

    def __init__(self, folder: Folder, arguments: Sequence[str]) -> None:
        super().__init__(arguments, folder.path, folder.path)

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        until(lambda: condition() or not self.alive, what, seconds=self.patience)
        assert self.alive, self.log[-4000:]


def commits(folder: Folder) -> int:
    """How many entries the logs of the lake's tables have."""
    return len(list((folder.data / "lake").glob("*/_delta_log/*.json")))


def batches(folder: Folder) -> int:
    """How many batches of all queries are committed in the store."""
    queries = (*NAMES, "correlation-attacks")
    try:
        with folder.store() as store:
            return sum(found.epoch for query in queries if (found := store.checkpoints.latest(f"main/{query}")))
    except ResourceError:  # there is none yet, or it is being made
        return 0


def logged(folder: Folder) -> int:
    """How many batches of messages have begun and are not committed."""
    with folder.store() as store:
        return sum(len(found.batches) for name in NAMES if (found := store.checkpoints.latest(f"main/{name}")))


def read(folder: Folder) -> bool:
    """Whether all that is in the topics is in the lake."""
    try:
        with folder.store() as store:
            rows = store.accounting.totals().select("stream", "partition", "next_offset").iter_rows()
            positions = {(stream, partition): offset for stream, partition, offset in rows}
    except ResourceError:  # there is none yet, or it is being made
        return False
    return all(positions.get(place, 0) == end for place, end in folder.ends().items())
