"""Maintenance beside a running engine: a process of its own at the lowest priority.

Joining files takes both processor time and memory; within the engine's process it would share its threads and its
interpreter lock. The log protocol lets any process compact and vacuum while another appends, and a process that
is killed half way leaves only files that the next vacuum deletes.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from typing import IO, Protocol

import orjson

from hackwatch.errors import HackwatchError
from hackwatch.lake import Lake

__all__ = ["Maintenance", "MaintenanceSettings", "maintain"]

_LOGGER = logging.getLogger(__name__)

_VACUUM_SECONDS = 6 * 3600.0
# Fewer new files in a table than this are not worth a process.
_WORTHWHILE = 16
_STOP_SECONDS = 5.0


class MaintenanceSettings(Protocol):
    """Of the settings `[lake]`: minutes between two compactions (0: none)."""

    @property
    def compact_minutes(self) -> float: ...


class Maintenance:
    """Starts maintenance when it is due. `run_due` returns at once; call it every few seconds, and `close` at the end.

    Times are seconds of any clock that does not go back.
    """

    def __init__(self, lake: Lake, settings: MaintenanceSettings, site: str | None = None) -> None:
        self._lake, self._seconds = lake, settings.compact_minutes * 60
        # A folder has a lock. In a bucket each site joins its own files, so that none does the other's work again.
        self._site = site if lake.remote else None
        self._process: subprocess.Popen[bytes] | None = None
        self._started: float | None = None
        self._vacuumed: float | None = None
        self._counts: Counter[object] = Counter()

    @property
    def running(self) -> bool:
        """Whether maintenance is at work now."""
        if self._process is not None and self._process.poll() is not None:
            if self._process.returncode:
                _LOGGER.warning("maintenance of the lake ended with code %s", self._process.returncode)
            self._process = None
        return self._process is not None

    def run_due(self, now: float) -> bool:
        """Start maintenance if its time has come and there is work; True if it was started."""
        self._started = now if self._started is None else self._started
        self._vacuumed = now if self._vacuumed is None else self._vacuumed
        if not self._seconds or self.running or now - self._started < self._seconds:
            return False
        vacuum = now - self._vacuumed >= _VACUUM_SECONDS
        self._started = now
        if not vacuum and not self._worthwhile():
            return False
        self._vacuumed = now if vacuum else self._vacuumed
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hackwatch.lake.background"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # An interrupt from the terminal is the engine's to handle: it closes this.
            start_new_session=True,
        )
        self._tell(self._process.stdin, vacuum)
        return True

    def close(self) -> None:
        """Stop maintenance; what it had not finished is done again the next time."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _tell(self, channel: IO[bytes] | None, vacuum: bool) -> None:
        """What to do, and the keys of the lake's server: everybody can read the arguments of a process."""
        work = {
            "location": self._lake.location,
            "options": self._lake.options,
            "target_file_mib": self._lake.target_bytes >> 20,
            "retention_hours": self._lake.retention_hours,
            "site": self._site,
            "vacuum": vacuum,
        }
        assert channel is not None
        with suppress(BrokenPipeError), channel:
            channel.write(orjson.dumps(work))

    def _worthwhile(self) -> bool:
        """Whether some partition (in a bucket: some table) has much that was not there before."""
        counts: Counter[object] = Counter()
        if self._lake.remote:
            counts.update(self._lake.versions())  # of the log: as good as a count of files, and asks the server nothing
        else:
            counts.update(file.parent for file in self._lake.path.glob("*/date=*/site=*/*.parquet"))
        if any(number - self._counts[place] >= _WORTHWHILE for place, number in counts.items()):
            self._counts = counts
            return True
        return False


def maintain(lake: Lake, *, vacuum: bool, site: str | None = None) -> int:
    """Compact, and vacuum, every table; the number of tables that could not be maintained."""
    failed = 0
    for table in lake.tables():
        try:
            lake.compact(table, site=site)
            if vacuum:
                lake.vacuum(table)
        except HackwatchError as error:
            failed += 1
            print(error, file=sys.stderr)
    return failed


def main() -> int:
    """What to do comes as JSON on standard input."""
    work = orjson.loads(sys.stdin.buffer.read())
    os.nice(19)
    lake = Lake(
        work["location"],
        options=work["options"],
        target_file_mib=work["target_file_mib"],
        retention_hours=work["retention_hours"],
    )
    try:
        return 1 if maintain(lake, vacuum=work["vacuum"], site=work["site"]) else 0
    except HackwatchError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
