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
from pathlib import Path
from typing import Protocol

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

    def __init__(self, lake: Lake, settings: MaintenanceSettings) -> None:
        self._lake, self._seconds = lake, settings.compact_minutes * 60
        self._process: subprocess.Popen[bytes] | None = None
        self._started: float | None = None
        self._vacuumed: float | None = None
        self._counts: Counter[Path] = Counter()

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
            [
                *(sys.executable, "-m", "hackwatch.lake.background", str(self._lake.path)),
                *(
                    str(self._lake.target_bytes >> 20),
                    str(self._lake.retention_hours),
                    "vacuum" if vacuum else "compact",
                ),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # An interrupt from the terminal is the engine's to handle: it closes this.
            start_new_session=True,
        )
        return True

    def close(self) -> None:
        """Stop maintenance; what it had not finished is done anew the next time."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _worthwhile(self) -> bool:
        """Whether some partition has many files that were not there before; looks at folders only."""
        counts = Counter(file.parent for file in self._lake.path.glob("*/date=*/site=*/*.parquet"))
        if any(number - self._counts[folder] >= _WORTHWHILE for folder, number in counts.items()):
            self._counts = counts
            return True
        return False


def maintain(lake: Lake, *, vacuum: bool) -> int:
    """Compact, and vacuum, every table; the number of tables that could not be maintained."""
    failed = 0
    for table in lake.tables():
        try:
            lake.compact(table)
            if vacuum:
                lake.vacuum(table)
        except HackwatchError as error:
            failed += 1
            print(error, file=sys.stderr)
    return failed


def main(arguments: list[str]) -> int:
    """Arguments: folder of the lake, size of files in MiB, retention in hours, `compact` or `vacuum`."""
    path, target, retention, what = arguments
    os.nice(19)
    lake = Lake(Path(path), target_file_mib=int(target), retention_hours=float(retention))
    return 1 if maintain(lake, vacuum=what == "vacuum") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
