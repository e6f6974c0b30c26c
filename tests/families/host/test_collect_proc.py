"""Reading /proc: a tree of our own, in which processes are called anything, vanish, hide and come back as others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hackwatch.errors import ResourceError
from hackwatch.families.host.collect import proc
from hackwatch.families.host.collect.proc import ProcReader, Threads, parse_stat

pytestmark = pytest.mark.skipif(not hasattr(os, "O_DIRECTORY"), reason="folders are not files here")


def stat_line(
    pid: int = 7,
    name: bytes = b"bash",
    state: str = "S",
    *,
    ticks: int = 0,
    threads: int = 1,
    start: int = 100,
    priority: int = 20,
    code: tuple[int, int] = (4096, 12288),
) -> bytes:
    """A line of /proc/PID/stat as Linux 6 prints it (52 fields)."""
    fields = ["0"] * 50
    fields[0] = state
    fields[7], fields[9], fields[11], fields[15], fields[17] = "11", "2", str(ticks), str(priority), str(threads)
    fields[19], fields[20], fields[21], fields[36] = str(start), str(8 << 20), "300", "1"
    fields[23], fields[24] = map(str, code)
    return b"%d (%s) %s\n" % (pid, name, " ".join(fields).encode())


class Tree:
    """A /proc to read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "self").mkdir()
        (root / "self" / "stat").write_bytes(stat_line())
        (root / "sys").mkdir()

    def put(self, line: bytes, threads: str = "", statm: bytes = b"2048 300 50 9 0 80 0\n") -> Path:
        folder = self.root / line.split(b" ")[0].decode()
        folder.mkdir(exist_ok=True)
        (folder / "stat").write_bytes(line)
        (folder / "statm").write_bytes(statm)
        shutil.rmtree(folder / "task", ignore_errors=True)
        for number, state in enumerate(threads):
            (folder / "task" / str(1000 + number)).mkdir(parents=True)
            (folder / "task" / str(1000 + number) / "stat").write_bytes(stat_line(1000 + number, b"a) R (b", state))
        return folder


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"bash", id="plain"),
        pytest.param(b"Web Content", id="space"),
        pytest.param(b"a) R 1 1 1", id="bracket and fields"),
        pytest.param(b"((", id="opening brackets"),
        pytest.param(b"))", id="closing brackets"),
        pytest.param(b"two\nlines", id="newline"),
        pytest.param(b"\xff\xfe\x80", id="not UTF-8"),
        pytest.param(b"\x1b[2J", id="terminal escape"),
        pytest.param(b"", id="empty"),
    ],
)
def test_any_name_is_read(name: bytes) -> None:
    process = parse_stat(stat_line(42, name, "R", ticks=5))
    assert process is not None
    assert (process.pid, process.name, process.state, process.ticks) == (42, name, "R", 5)
    assert (process.minor_faults, process.major_faults, process.cpu) == (11, 2, 1)
    assert (process.virtual_kib, process.resident_kib, process.text_kib) == (8192, 1200, 8)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\n", b"7", b"7 (bash", b"7 (bash) ", b"7 (bash) S 1 2 3", b"x" + stat_line(), b") ("],
    ids=["empty", "newline", "pid", "no end of name", "no fields", "cut", "no number", "brackets the wrong way"],
)
def test_a_broken_line_is_no_process(raw: bytes) -> None:
    assert parse_stat(raw) is None


def test_what_vanishes_or_is_broken_or_no_process_is_left_out(tree: Tree) -> None:
    tree.put(stat_line(1, b"init"))
    (tree.put(stat_line(2)) / "stat").unlink()
    tree.put(b"3 (torn")
    with ProcReader(str(tree.root)) as reader:
        assert list(reader.snapshot().processes) == [1]
        shutil.rmtree(tree.root / "1")
        assert list(reader.snapshot().processes) == []


def test_hidden_processes_are_left_out(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.put(stat_line(1))
    tree.put(stat_line(2))
    really = os.open

    def guarded(path: str, flags: int, *, dir_fd: int | None = None) -> int:
        if path == "2/stat":
            raise PermissionError(13, "Permission denied")
        return really(path, flags, dir_fd=dir_fd)

    with ProcReader(str(tree.root)) as reader:
        monkeypatch.setattr(os, "open", guarded)
        assert list(reader.snapshot().processes) == [1]


def test_running_out_of_files_is_an_error_and_not_the_end_of_all_processes(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.put(stat_line(1))

    def exhausted(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    with ProcReader(str(tree.root)) as reader, monkeypatch.context() as patch:
        patch.setattr(os, "open", exhausted)
        with pytest.raises(ResourceError, match="Too many open files"):
            reader.snapshot()


def test_without_proc_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="needs Linux /proc"):
        ProcReader(str(tmp_path))
    with pytest.raises(ResourceError, match="needs Linux /proc"):
        ProcReader(str(tmp_path / "none"))


def test_text_size_comes_from_statm_where_addresses_are_hidden(tree: Tree) -> None:
    hidden = {"code": (1, 1)}
    tree.put(stat_line(5, **hidden))  # type: ignore[arg-type]  # one keyword in a table
    with ProcReader(str(tree.root), page_kib=4) as reader:
        assert reader.snapshot().processes[5].text_kib == 36
        tree.put(stat_line(5, ticks=9, **hidden), statm=b"gone")  # type: ignore[arg-type]  # as above
        assert reader.snapshot().processes[5].text_kib == 36, "the same program keeps its size"
        tree.put(stat_line(5, b"other", **hidden), statm=b"gone")  # type: ignore[arg-type]  # as above
        assert reader.snapshot().processes[5].text_kib == 0


@pytest.mark.parametrize(
    ("states", "expected"),
    [("RSSD", (1, 2, 1)), ("SSI", (0, 3, 0)), ("RRRR", (4, 0, 0)), ("TZtS", (0, 1, 0))],
)
def test_threads_are_counted_by_state(tree: Tree, states: str, expected: tuple[int, int, int]) -> None:
    tree.put(stat_line(9, threads=len(states)), threads=states)
    with ProcReader(str(tree.root)) as reader:
        assert reader.snapshot().threads == {9: Threads(*expected)}


def test_a_process_of_one_thread_is_not_looked_into(tree: Tree) -> None:
    tree.put(stat_line(9), threads="R")
    with ProcReader(str(tree.root)) as reader:
        assert reader.snapshot().threads == {}


def test_of_very_many_threads_a_selection_is_scaled_up(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "THREAD_BUDGET", 10)
    tree.put(stat_line(9, threads=40), threads="S" * 40)
    with ProcReader(str(tree.root)) as reader:
        assert reader.snapshot().threads == {9: Threads(0, 40, 0)}


def test_beyond_the_budget_changed_processes_go_first_and_the_others_take_turns(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proc, "THREAD_BUDGET", 4)
    for pid in (1, 2, 3):
        tree.put(stat_line(pid, threads=4), threads="SSSS")
    with ProcReader(str(tree.root)) as reader:
        assert reader.snapshot().threads == dict.fromkeys((1, 2, 3), Threads(0, 4, 0)), "new ones are looked at"
        for pid in (1, 2):
            tree.put(stat_line(pid, threads=4), threads="RRRR")
        tree.put(stat_line(3, threads=4, ticks=1), threads="RRRR")
        running = []
        for _ in range(3):
            threads = reader.snapshot().threads
            running.append({pid for pid, count in threads.items() if count.running})
    assert running[0] == {3}
    assert len(running[1]) == 2
    assert running[2] == {1, 2, 3}
