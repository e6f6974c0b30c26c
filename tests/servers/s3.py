"""A real S3 server (versitygw over a folder) on loopback: start, stop, kill and start again with its data and port.

`s3` is the server that all tests of a run share, `own_s3` one that a test may break.
"""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.servers import process
from tests.servers.process import free_ports, parts, started

__all__ = ["KEY", "SECRET", "Server", "missing", "own_s3", "s3"]

READY_SECONDS = 60.0
KEY, SECRET = "hackwatch", "correct-horse-battery"
_NUMBERS = count(1)


def missing() -> str | None:
    """Why no server can run here; None if it can."""
    if not (parts("s3") / "version").exists():
        return "the S3 server is not here; tools/servers/s3 builds it"
    return None


class Server(process.Server):
    """One server with its data in `folder`; `start` after `stop` or `kill` finds the same data at the same port."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_ports(1)[0]
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
        command = [str(parts("s3") / "versitygw"), "--port", f"127.0.0.1:{self.port}", "--quiet", "posix"]
        environ = {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
        self._launch([*command, *self._metadata(), str(self.folder / "data")], env=environ)
        end = time.monotonic() + READY_SECONDS
        while not self._answers():
            assert time.monotonic() < end, self.log()
            assert self._runs(), self.log()
            time.sleep(0.02)

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


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that all tests of a run share: each takes a bucket of its own, and does not stop it."""
    if why := missing():
        pytest.skip(why)
    with started(Server(tmp_path_factory.mktemp("s3"))) as server:
        yield server


@pytest.fixture
def own_s3(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, to be broken."""
    if why := missing():
        pytest.skip(why)
    with started(Server(tmp_path / "own-s3")) as server:
        yield server
