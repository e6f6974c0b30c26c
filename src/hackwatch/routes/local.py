"""Routes that stay on the machine: standard output and a file, one JSON line for each alert."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from hackwatch.alerts.alert import Alert
from hackwatch.alerts.forms import encode
from hackwatch.config import FileRouteSettings, StdoutRouteSettings
from hackwatch.routes.route import DeliveryError

__all__ = ["FileRoute", "StdoutRoute"]


class StdoutRoute:
    """Alerts on standard output, or another text stream."""

    def __init__(self, settings: StdoutRouteSettings, stream: TextIO | None = None) -> None:
        self.name, self._form, self._stream = settings.name, settings.form, stream

    def send(self, alerts: Sequence[Alert]) -> None:
        stream = sys.stdout if self._stream is None else self._stream
        try:
            stream.write("".join(f"{encode(alert, self._form)}\n" for alert in alerts))
            stream.flush()
        except (OSError, ValueError) as error:
            raise DeliveryError(f"cannot write: {error}", where=f"route {self.name}") from error

    def close(self) -> None:
        """Standard output belongs to the program."""


class FileRoute:
    """Alerts appended to a file, private to its owner, on disk when `send` returns.

    A file that was moved away or deleted (log rotation) is made again. A line that a crash or a full disk cut
    short is never glued to the next one.
    """

    def __init__(self, settings: FileRouteSettings) -> None:
        self.name, self._path, self._form = settings.name, settings.path.expanduser(), settings.form
        self._file: int | None = None

    def send(self, alerts: Sequence[Alert]) -> None:
        payload = "".join(f"{encode(alert, self._form)}\n" for alert in alerts).encode()
        try:
            self._append(self._current(), payload)
        except OSError as error:
            self.close()
            raise DeliveryError(
                f"cannot append: {error.strerror or error}",
                where=f"route {self.name}: {self._path}",
                next_step="make room or correct the permissions; the alerts wait in the outbox",
            ) from error

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _current(self) -> int:
        if self._file is not None:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self._path), os.fstat(self._file)):
                    return self._file
            self.close()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Non-blocking, so that a pipe without a reader is an error and not a wait for ever.
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o600)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise OSError(None, "not a regular file")
        return self._file

    @staticmethod
    def _append(file: int, payload: bytes) -> None:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            payload = b"\n" + payload
        written = os.write(file, payload)
        if written < len(payload):
            os.ftruncate(file, size)
            raise OSError(None, "no space left for a whole line")
        os.fsync(file)
