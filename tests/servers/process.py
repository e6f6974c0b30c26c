"""What the servers of tests share: where their parts lie, free ports, and a process that ends with the tests."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["Server", "free_ports", "parts", "started"]


def parts(name: str) -> Path:
    """Where tools/servers/NAME puts what it fetches."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HACKWATCH_TEST_PARTS") or cache / "hackwatch-test-parts") / name


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Server:
    """A server with its files in `folder`; `start` after `stop` or `kill` finds the same data and address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until clients can connect."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ask it to end, as an administrator does; it is killed if it will not."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """It is not needed any more."""
        self.stop()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)  # until all of its threads stand still

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        """The end of what it has written."""
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def _launch(self, command: list[str], **options: Any) -> None:
        """Run it in a session of its own; `options` as for `subprocess.Popen`."""
        assert self._process is None, "it runs already"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **options)
        self._watchdog = _end_with_us(self._process.pid)

    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for one in (how, signal.SIGCONT):
            with suppress(ProcessLookupError):
                process.send_signal(one)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()


AnyServer = TypeVar("AnyServer", bound=Server)


@contextmanager
def started(server: AnyServer) -> Iterator[AnyServer]:
    """A server that runs as long as the context lasts, unless the test ends it."""
    try:
        server.start()
        yield server
    finally:
        server.close()


def _end_with_us(pid: int) -> subprocess.Popen[bytes]:
    """A process that kills `pid` when this one ends in any way: the pipe between them closes then."""
    watchdog = subprocess.Popen(
        ["sh", "-c", f"cat >/dev/null; kill -9 {pid}"], stdin=subprocess.PIPE, start_new_session=True
    )
    atexit.register(_quietly_close, watchdog)
    return watchdog


def _quietly_close(watchdog: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if watchdog.poll() is None and watchdog.stdin is not None:
            watchdog.stdin.close()
