"""A real PostgreSQL server on loopback: start, stop, kill and start again with its data and port; databases on demand.

`postgres` is the server that all tests of a run share, `own_postgres` one that a test may break. Run by root, the
server runs as another user, as it insists to.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.servers import process
from tests.servers.process import free_ports, started

__all__ = ["PASSWORD", "USER", "Server", "missing", "own_postgres", "postgres", "postgres_url"]

READY_SECONDS = 60.0
#: Who may do everything; the password has what has to be escaped in an address.
USER, PASSWORD = "hackwatch", "p@ss:w/rd%41 ?"
_ESCAPED = "p%40ss%3Aw%2Frd%2541%20%3F"

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "autovacuum_naptime": "10s",
    "log_min_messages": "warning",
}


def programs() -> Path | None:
    """The folder of the server's programs, of the newest version; None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    anywhere = shutil.which("initdb")
    return found[-1].parent if found else Path(anywhere).parent if anywhere else None


def missing() -> str | None:
    """Why no PostgreSQL can run here; None if it can."""
    if programs() is None:
        return "no PostgreSQL server is installed; tools/servers/postgres installs it"
    return None


class Server(process.Server):
    """One server with its data in a folder of its own; `start` after `stop` or `kill` finds the same data and port.

    `durable`: whether commits are forced to disk (fsync); few tests need it.
    """

    def __init__(self, *, durable: bool = False, **settings: str) -> None:
        self._user = None if os.geteuid() else _unprivileged()
        super().__init__(Path(tempfile.mkdtemp(prefix="hackwatch-postgres-")))
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        (self.port,) = free_ports(1)
        self._settings = {**_SETTINGS, "fsync": "on" if durable else "off", **settings}
        self._numbers = count(1)

    def url(self, database: str = "postgres", *, user: str = USER, password: str | None = _ESCAPED) -> str:
        """The address of a database, the password (as an address needs it) in it."""
        secret = "" if password is None else f":{password}"
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and wait until clients can connect."""
        if not (self.folder / "data").exists():
            self._initialise()
        settings = {**self._settings, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        command = [self._program("postgres"), "-D", str(self.folder / "data")]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        end = time.monotonic() + READY_SECONDS
        while not self._came_up(command, end):
            assert time.monotonic() < end, self.log()

    def stop(self) -> None:
        """Ask it to end at once, as an administrator does: connections are closed, transactions undone."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the server and all its processes."""
        family = _children(self.pid) if self._runs() else []
        super().kill()
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def connected(self, database: str = "postgres") -> Iterator[Any]:
        """A connection of the administrator, each statement a transaction."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            yield connection

    def create(self, *, options: str = "") -> str:
        """A new empty database; its name."""
        name = f"test{next(self._numbers)}"
        with self.connected() as connection:
            connection.execute(f"CREATE DATABASE {name} {options}".encode())
        return name

    def drop(self, name: str) -> None:
        with self.connected() as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        command = [self._program("initdb"), "-D", str(self.folder / "data"), "-U", USER, "--pwfile", str(secret)]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as())

    def _came_up(self, command: list[str], end: float) -> bool:
        """Whether it runs and answers now. After a kill its last processes may hold the data for a moment."""
        self._launch(command, cwd=self.folder, **self._as())
        while self._runs() and time.monotonic() < end:
            if self._answers():
                return True
            time.sleep(0.02)
        self.kill()
        time.sleep(0.1)
        return False

    def _answers(self) -> bool:
        import psycopg

        with suppress(psycopg.OperationalError), psycopg.connect(self.url(), connect_timeout=5):
            return True
        return False

    def _program(self, name: str) -> str:
        folder = programs()
        assert folder is not None
        return str(folder / name)

    def _as(self) -> dict[str, Any]:
        """The user and the environment that it runs with, for `subprocess`."""
        environ = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        user = self._user
        if user is None:
            return {"env": environ}
        return {"env": environ, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("no user other than root")


def _children(pid: int) -> list[int]:
    """The processes that a process has started (Linux; elsewhere they notice its end themselves)."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The server that all tests of a run share: do not stop it."""
    if why := missing():
        pytest.skip(why)
    with started(Server()) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Server]:
    """A server of the test's own, to be broken."""
    if why := missing():
        pytest.skip(why)
    with started(Server()) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Server) -> Iterator[str]:
    """The address of a new, empty database."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)
