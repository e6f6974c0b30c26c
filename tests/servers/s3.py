"""A real S3 server (versitygw over a folder) on loopback: start, stop, kill and start again with its data and port.

`s3` is the server that all tests of a run share; a test that breaks its server starts one of its own.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from tests.servers.kafka import free_ports

__all__ = ["KEY", "SECRET", "Server", "missing", "s3"]

READY_SECONDS = 60.0
KEY, SECRET = "hackwatch", "correct-horse-battery"
_NUMBERS = count(1)


def parts() -> Path:
    """Where tools/servers/s3 puts the server."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HACKWATCH_TEST_PARTS") or cache / "hackwatch-test-parts") / "s3"


def missing() -> str | None:
    """Why no server can run here; None if it can."""
    if not (parts() / "version").exists():
        return "the S3 server is not here; tools/servers/s3 builds it"
    return None


class Server:
    """One server with its data in `folder`; `start` after `stop` or `kill` finds the same data at the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir(parents=True, exist_ok=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, str]:
        """How `Lake` and `Bucket` get at it; tries are short, for a loopback answers at once."""
        return {
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "allow_http": "true",
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "connect_timeout": "2s",
            "timeout": "20s",
        }

    def settings(self) -> str:
        """The same as the table of a hackwatch.toml; the secret comes from the environment."""
        return (
            f'[lake.storage]\nendpoint = "{self.endpoint}"\nallow_http = true\n'
            f'access_key_id = "{KEY}"\nsecret_access_key_env = "S3_SECRET"\n'
        )

    def bucket(self) -> str:
        """Make a new bucket; its address."""
        name = f"bucket-{os.getpid()}-{next(_NUMBERS)}"
        (self.folder / "data" / name).mkdir()
        return f"s3://{name}"

    def files(self, url: str) -> set[str]:
        """What lies below an address, seen from behind."""
        root = self.folder / "data" / url.removeprefix("s3://")
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}

    def file(self, url: str) -> Path:
        return self.folder / "data" / url.removeprefix("s3://")

    def start(self) -> None:
        """Start and wait until it answers."""
        assert self._process is None, "it runs already"
        environ = {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
        command = [str(parts() / "versitygw"), "--port", f"127.0.0.1:{self.port}", "--quiet", "posix"]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._metadata(), str(self.folder / "data")],
                stdout=log,
                stderr=log,
                env=environ,
                start_new_session=True,
            )
        self._watchdog = _end_with_us(self._process.pid)
        end = time.monotonic() + READY_SECONDS
        while not self._answers():
            assert time.monotonic() < end, (self.folder / "server.log").read_text()[-3000:]
            assert self._process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
            time.sleep(0.02)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # until all of its threads stand still

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _metadata(self) -> list[str]:
        """Tags of objects are attributes of files where the disk has such, else files beside them."""
        try:
            os.setxattr(self.folder / "data", "user.hackwatch", b"1")
        except (OSError, AttributeError):
            (self.folder / "metadata").mkdir(exist_ok=True)
            return ["--sidecar", str(self.folder / "metadata")]
        return []

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=2).close()
        except urllib.error.HTTPError as refused:
            refused.close()
            return True  # it wants a login, so it is there
        except OSError:
            return False
        return True

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for one in (how, signal.SIGCONT):
            with suppress(ProcessLookupError):
                process.send_signal(one)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()


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


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that all tests of a run share: each takes a bucket of its own, and does not stop it."""
    if why := missing():
        pytest.skip(why)
    server = Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()
