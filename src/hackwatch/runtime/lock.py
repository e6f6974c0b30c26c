"""One engine a data folder.

This is about a folder of this machine: spools, tables' copies and a lake in it have one writer. That a pipeline has one
engine, wherever that runs, is about the store, and held there (`store.hold`).
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from hackwatch.errors import ResourceError

__all__ = ["EngineLock"]


class EngineLock:
    """Held while an engine works in a data folder; the kernel lets go of it when the process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def __enter__(self) -> EngineLock:
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ResourceError(
                f"cannot work in this data folder: {error.strerror}",
                where=str(self._path),
                next_step="let the user that runs hackwatch write there, or choose another folder with --data",
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 32).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise ResourceError(
                f"another engine (process {holder}) works in this data folder",
                where=str(self._path.parent),
                next_step="stop it, or give this one a folder of its own with --data",
            ) from None
        self._file = file
        with suppress(OSError):  # for people alone: a full disk must not keep an engine from reading on
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
