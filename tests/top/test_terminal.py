"""`hackwatch top` in a real (pseudo) terminal, and where there is none."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hackwatch.config import Settings, prepare_data_folder
from hackwatch.store import open_store
from tests.views.test_live import an_alert, status

HACKWATCH = [sys.executable, "-m", "hackwatch"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of an engine that has just spoken."""
    settings = Settings(data=prepare_data_folder(tmp_path / "data"))
    settings.lock_file.touch()
    with open_store(settings.store_url) as store:
        store.statuses.write("main", status(updated=time.time()))
        store.checkpoints.log_batches("main", (), [an_alert(1, "A shell is odd")])
    return settings.data


class Terminal:
    """A command in a pseudo terminal of its own."""

    def __init__(self, *arguments: str, variables: dict[str, str] | None = None) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(80, 24)
        self.before = termios.tcgetattr(self.slave)
        self.written = b""
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [*HACKWATCH, *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={**environment, "TERM": "xterm-256color", "LANG": "C.UTF-8", **(variables or {})},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def expect(self, text: str, seconds: float = 30) -> None:
        """Read until the text is on what was written since the last call."""
        deadline = time.monotonic() + seconds
        since = b""
        while text.encode() not in since:
            assert time.monotonic() < deadline, f"{text!r} not in {since[-3000:]!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                since += os.read(self.master, 65536)
        self.written += since

    def end(self, seconds: float = 10) -> int:
        """Wait for the end; the exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.05)[0]:
                self.written += os.read(self.master, 65536)
        while select.select([self.master], [], [], 0)[0]:
            self.written += os.read(self.master, 65536)
        assert self.process.returncode is not None
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    @property
    def restored(self) -> bool:
        """Settings as before, alternate screen left, cursor shown."""
        left, entered = self.written.rfind(b"\x1b[?1049l"), self.written.rfind(b"\x1b[?1049h")
        shown, hidden = self.written.rfind(b"\x1b[?25h"), self.written.rfind(b"\x1b[?25l")
        return termios.tcgetattr(self.slave) == self.before and left > entered > -1 and shown > hidden > -1


@pytest.fixture
def open_terminal() -> Iterator[list[Terminal]]:
    terminals: list[Terminal] = []
    yield terminals
    for terminal in terminals:
        terminal.close()


@pytest.mark.slow
def test_it_draws_resizes_explains_and_leaves_the_terminal_as_it_was(
    folder: Path, open_terminal: list[Terminal]
) -> None:
    terminal = Terminal("--data", str(folder), "top")
    open_terminal.append(terminal)
    terminal.expect("A shell is odd")
    terminal.resize(120, 30)
    terminal.expect("newest first")
    terminal.type(b"\x1b[B")
    terminal.type(b"\r")
    terminal.expect("esc back")
    terminal.type(b"\x1a")  # Ctrl-Z must not leave the alternate screen to the shell
    terminal.type(b"q")
    assert terminal.end() == 0
    assert terminal.restored


@pytest.mark.slow
@pytest.mark.usefixtures("minds_hanging_up")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_signals_end_it_and_leave_the_terminal_as_it_was(
    folder: Path, open_terminal: list[Terminal], number: signal.Signals
) -> None:
    terminal = Terminal("--data", str(folder), "top")
    open_terminal.append(terminal)
    terminal.expect("A shell is odd")
    terminal.process.send_signal(number)
    assert terminal.end(30) == 0
    assert terminal.restored


@pytest.mark.slow
def test_no_color_is_respected(folder: Path, open_terminal: list[Terminal]) -> None:
    coloured = rb"\x1b\[[0-9;]*(?<![0-9])(?:3[0-7]|4[0-7]|[34]8;5)[0-9;]*m"
    for variables, expected in (({}, True), ({"NO_COLOR": "1"}, False)):
        terminal = Terminal("--data", str(folder), "top", variables=variables)
        open_terminal.append(terminal)
        terminal.expect("A shell is odd")
        terminal.type(b"q")
        assert terminal.end() == 0
        assert bool(re.search(coloured, terminal.written)) == expected


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HACKWATCH, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_lines_and_json_where_there_is_no_terminal(folder: Path) -> None:
    once = run("--data", str(folder), "top", "--once")
    assert "running: 10 records/s" in once.stdout
    assert "A shell is odd" in once.stdout
    assert json.loads(run("--data", str(folder), "top", "--json").stdout)["rate"] == 10.0
    lines = run("--data", str(folder), "top", "--duration", "1")
    assert (lines.returncode, "\x1b" in lines.stdout) == (0, False)
    assert "running: 10 records/s" in lines.stdout


@pytest.mark.slow
def test_no_engine_has_run(tmp_path: Path) -> None:
    for arguments in ((), ("--once",), ("--json",)):
        told = run("--data", str(tmp_path / "none"), "top", *arguments)
        assert told.returncode == 4
        assert "no engine has run in this data folder" in told.stderr
        assert "hackwatch watch" in told.stderr


@pytest.mark.slow
@pytest.mark.platform
@pytest.mark.skipif(sys.platform != "linux", reason="collects from /proc")
def test_watching_this_machine_draws_it_and_leaves_the_terminal_as_it_was(
    tmp_path: Path, open_terminal: list[Terminal]
) -> None:
    terminal = Terminal("--data", str(tmp_path / "data"), "watch", "--interval", "1")
    open_terminal.append(terminal)
    terminal.expect("learning what is normal", 60)
    terminal.expect(socket.gethostname()[:10], 60)
    terminal.type(b"q")
    assert terminal.end(30) == 0
    assert terminal.restored
