"""Output of `atop -P PRG,PRC,PRM` of several versions, as files and pipes, and what hostile names do to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from hackwatch.errors import DataError, ResourceError
from hackwatch.families.host.collect import AtopFeed
from hackwatch.families.host.collect.atop import AtopParser
from hackwatch.feeds.pace import Progress
from hackwatch.streams import get
from hackwatch.streams.stream import DecodeOptions, Messages
from hackwatch.testing import MemoryTopic

Row = dict[str, Any]
EPOCH, INTERVAL = 1_700_000_000, 10

#: What follows the fields that all versions have in PRG, PRC and PRM.
VERSIONS = {
    "2.4": ("", "", " 0"),
    "2.7": (" 0 0 -", " 12345 () 0", " 0 0"),
    "2.8": (" 0 0 - {new} ()", " 12345 (do_wait) 0 -3 -3", " 0 100 -3 -3 -3 -3"),
    "2.11": (" 0 0 web_pod {new} (/user.slice/a b.scope) - 0", " 12345 (do wait) 0 -1 -2", " 0 100 -1 -1 -1 -1 7"),
}


def process_lines(
    pid: int = 7,
    name: str = "bash",
    state: str = "S",
    *,
    version: str = "2.8",
    arguments: str = "bash -l",
    host: str = "web-1",
    threads: str = "3 1 2 0",
    exit_code: int = 0,
    begin: int = EPOCH - 500,
    new: str = "-",
    scheduling: str = "150 50 0 120 0 0 1",
    memory: str = "530000 162000 900 -1200 12 17 2",
    kind: str = "y",
) -> dict[str, str]:
    """The three lines of a process by label; `threads` = all, running, sleeping, uninterruptible."""
    head = f"{host} {EPOCH} 2023/11/14 22:13:20 {INTERVAL} {pid} ({name}) {state}"
    ids = f"0 0 0 0 0 0 0 {kind}"
    general, cpu, sizes = (tail.format(new=new) for tail in VERSIONS[version])
    total, states = threads.split(" ", 1)
    return {
        "PRG": f"PRG {head} 0 0 {pid} {total} {exit_code} {begin} ({arguments}) 1 {states} {ids}{general}",
        "PRC": f"PRC {head} 100 {scheduling} 0 {pid} {kind}{cpu}",
        "PRM": f"PRM {head} 4096 {memory} 1 2 3 4 {pid} {kind}{sizes}",
    }


def interval(*processes: dict[str, str], reset: bool = False, before: str = "") -> bytes:
    lines = [process[label] for label in ("PRG", "PRC", "PRM") for process in processes]
    return ("RESET\n" * reset + before + "\n".join(lines) + "\nSEP\n").encode("utf-8", "surrogateescape")


def parse(text: bytes, parser: AtopParser | None = None) -> tuple[list[Row], list[Row]]:
    found = (parser or AtopParser()).parse(text)
    rows = [[json.loads(line) for pair in found.payloads.values() for line in pair[at].splitlines()] for at in (0, 1)]
    return rows[0], rows[1]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_read(version: str) -> None:
    [process], [memory] = parse(interval(process_lines(version=version)))
    assert process == {
        "sequence": 0, "machine": "web-1", "PID": 7, "TRUN": 1, "TSLPI": 2, "TSLPU": 0, "POLI": "norm", "NICE": "0",
        "PRI": "120", "RTPR": "0", "CPUNR": "1", "Status": "-", "EXC": 0, "State": "S", "CPU": 0.2, "CMD": "bash",
        "ts": EPOCH,
    }  # fmt: skip
    assert memory == {
        "sequence": 0, "machine": "web-1", "PID": 7, "MINFLT": 17, "MAJFLT": 2, "VSTEXT": "900K", "VSIZE": "517.6M",
        "RSIZE": "158.2M", "VGROW": "-1200K", "RGROW": "12K", "MEM": 0.0, "CMD": "bash", "ts": EPOCH,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"new": "N"}, {"Status": "N"}, id="marked new"),
        pytest.param({"version": "2.4", "begin": EPOCH - 3}, {"Status": "N"}, id="new by its begin"),
        pytest.param({"version": "2.4", "begin": EPOCH - 10}, {"Status": "-"}, id="begun with the last sample"),
        pytest.param(
            {"state": "E", "exit_code": 3, "scheduling": "0 1 0 0 0 0 -1", "threads": "1 0 0 0"},
            {"Status": "-E", "EXC": 3, "CMD": "<bash>", "POLI": "-", "NICE": "-", "PRI": "-", "CPUNR": "-"},
            id="ended with a code",
        ),
        pytest.param(
            {"state": "E", "exit_code": 256 + 9, "new": "N"}, {"Status": "NS", "EXC": 9, "State": "E"}, id="killed"
        ),
        pytest.param({"state": "I", "threads": "1 0 0 1"}, {"TSLPI": 1, "TSLPU": 0}, id="idle kernel thread"),
        pytest.param({"scheduling": "0 0 0 -1 0 6 0"}, {"PRI": "0", "POLI": "dead"}, id="deadline"),
        pytest.param({"scheduling": "2900 0 0 49 50 1 0"}, {"PRI": "49", "RTPR": "50", "POLI": "fifo", "CPU": 2.9}),
        pytest.param({"name": "a) S 0 (b"}, {"CMD": "a) S 0 (b"}, id="brackets in the name"),
        pytest.param({"name": "Web Content"}, {"CMD": "Web Content"}, id="space in the name"),
        pytest.param({"name": "NetworkManager1"}, {"CMD": "NetworkManager"}, id="long name"),
        pytest.param({"name": ""}, {"CMD": "?"}, id="no name"),
        pytest.param({"name": "<x>"}, {"CMD": "<x"}, id="plays finished"),
        pytest.param({"name": "\udcff\u2028"}, {"CMD": "\\xff\u2028"}, id="not UTF-8 and a line separator"),
        pytest.param(
            {"arguments": "x) 1 9 9 9 0 0 0 0 0 0 0 y 0 0 - N () (z) S 0 0 7 1 0 5 (q"}, {"TRUN": 1, "Status": "-"},
            id="a command line that plays fields",
        ),
    ],
)  # fmt: skip
def test_how_a_process_is_printed(changes: Row, expected: Row) -> None:
    [process], _ = parse(interval(process_lines(**changes)))
    assert {name: process[name] for name in expected} == expected


def test_a_sample_since_boot_is_all_new() -> None:
    process, _ = parse(interval(process_lines(), reset=True) + interval(process_lines()))
    assert [row["Status"] for row in process] == ["N", "-"]


def test_threads_are_left_out_and_incomplete_processes_counted() -> None:
    lonely = process_lines(8)
    del lonely["PRM"]
    lonely["PRM"] = "PRM something else"
    text = interval(process_lines(), process_lines(7, "worker", kind="n"), lonely)
    found = AtopParser().parse(text)
    assert (found.records, found.intervals, found.unreadable, found.incomplete) == (1, 1, 1, 1)


def test_a_number_used_twice_in_an_interval_stays_apart() -> None:
    process, memory = parse(
        interval(process_lines(name="nc"), process_lines(name="sed", state="E", memory="0 0 0 0 0 9 0"))
    )
    assert [row["CMD"] for row in process] == [row["CMD"] for row in memory] == ["nc", "<sed>"]


def test_memory_share_comes_from_a_mem_line_else_from_the_option() -> None:
    line = f"MEM web-1 {EPOCH} 2023/11/14 22:13:20 10 4096 81000 5 5 5\n"
    parser = AtopParser(memory_bytes=1_620_000 << 10)
    shares = [parse(text, parser)[1][0]["MEM"] for text in (
        interval(process_lines()), interval(process_lines(), before=line), interval(process_lines()),
    )]  # fmt: skip
    assert shares == [0.1, 0.5, 0.5]


def test_each_machine_has_its_own_sequence() -> None:
    parser = AtopParser()
    text = interval(process_lines(1), process_lines(2), process_lines(1, host="db-1"))
    assert [(row["machine"], row["sequence"]) for row in parse(text, parser)[0]] == [
        ("web-1", 0), ("web-1", 1), ("db-1", 0),
    ]  # fmt: skip
    assert [row["sequence"] for row in parse(text, parser)[0]] == [2, 3, 1]
    assert {row["machine"] for row in parse(text, AtopParser(machine="x"))[0]} == {"x"}


def run(source: str, **options: Any) -> tuple[list[Row], list[Row], list[Progress]]:
    process, memory, heard = MemoryTopic(), MemoryTopic(), list[Progress]()
    AtopFeed(source, **options).run(process, memory, threading.Event(), heard.append)
    rows = [[json.loads(line) for line in decoded(topic)] for topic in (process, memory)]
    return rows[0], rows[1], heard


def messages(topic: MemoryTopic) -> list[Messages]:
    found = (topic.read(partition, 0, max_bytes=1 << 30) for partition in topic.partitions())
    return [one for one in found if one is not None]


def decoded(topic: MemoryTopic) -> list[bytes]:
    return [line for one in messages(topic) for line in one.payload.splitlines()]


def test_a_file_is_fed_to_its_end_also_without_the_last_separator(tmp_path: Path) -> None:
    file = tmp_path / "atop.txt"
    file.write_bytes(interval(process_lines()) * 2 + interval(process_lines(8))[: -len(b"SEP\n")])
    process, memory, heard = run(str(file))
    assert [row["PID"] for row in process] == [row["PID"] for row in memory] == [7, 7, 8]
    assert heard[-1].records == 6


@pytest.mark.parametrize("piece", [1, 37, 4096])
def test_a_pipe_is_fed_interval_by_interval(piece: int) -> None:
    text = interval(process_lines()) + interval(process_lines(8)) + interval(process_lines(9))
    reading, writing = os.pipe()

    def write() -> None:
        for at in range(0, len(text), piece):
            os.write(writing, text[at : at + piece])
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    process, _, heard = run(f"/dev/fd/{reading}")
    writer.join()
    os.close(reading)
    assert [row["PID"] for row in process] == [7, 8, 9]
    assert 1 <= len(heard) <= 3


def test_a_named_pipe_waits_for_its_writer_and_ends_with_stop(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    stop, topic, done = threading.Event(), MemoryTopic(), list[Progress]()
    reader = threading.Thread(target=lambda: done.append(AtopFeed(str(fifo)).run(topic, MemoryTopic(), stop)))
    reader.start()
    with fifo.open("wb") as pipe:
        pipe.write(interval(process_lines()))
        pipe.flush()
        for _ in range(100):
            if decoded(topic):
                break
            threading.Event().wait(0.02)
        stop.set()
        reader.join(5)
    assert not reader.is_alive()
    assert [progress.records for progress in done] == [2]


def test_standard_input_of_this_machine_knows_its_memory() -> None:
    code = (
        "import socket,sys,threading\n"
        "from hackwatch.families.host.collect import AtopFeed\nfrom hackwatch.testing import MemoryTopic\n"
        "topic = MemoryTopic(partitions=1)\n"
        "AtopFeed().run(MemoryTopic(), topic, threading.Event())\n"
        "sys.stdout.buffer.write(topic.read(0, 0, max_bytes=1 << 20).payload)\n"
    )
    half = os.sysconf("SC_PHYS_PAGES") * (os.sysconf("SC_PAGE_SIZE") >> 10) // 2
    text = interval(process_lines(memory=f"{half} {half} 1 1 1 1 1"))
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout)["MEM"] == 0.5


@pytest.mark.parametrize("text", [b"", b"hello\n", b"SEP\nSEP\n", b"CPU x 1 2 3\n"], ids=repr)
def test_what_is_not_of_atop_is_said(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "file").write_bytes(text)
    with pytest.raises(DataError, match="no process of atop -P"):
        run(str(tmp_path / "file"))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot read it"):
        run(str(tmp_path / "none"))


def test_lines_left_out_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(interval(process_lines(), process_lines(8, "two\nlines")))
    _, _, heard = run(str(tmp_path / "file"))
    assert heard[-1].note is not None
    assert "3 lines" in heard[-1].note


def accepted(topic: MemoryTopic, stream: str) -> int:
    """How many records the stream's decoder takes of what was written; none may be rejected."""
    results = [get(stream).decode(one, DecodeOptions()) for one in messages(topic)]
    assert [row for result in results for row in result.rejected.to_dicts()] == []
    return sum(result.records.height for result in results)


@pytest.mark.platform
@pytest.mark.skipif(shutil.which("atop") is None, reason="atop is not installed")
def test_what_the_installed_atop_prints_is_taken_whole(tmp_path: Path) -> None:
    file = tmp_path / "atop.txt"
    file.write_bytes(
        subprocess.run(["atop", "-P", "MEM,PRG,PRC,PRM", "1", "2"], capture_output=True, check=True).stdout
    )
    process, memory = MemoryTopic(), MemoryTopic()
    progress = AtopFeed(str(file)).run(process, memory, threading.Event())
    assert accepted(process, "process") == accepted(memory, "memory") == progress.records // 2
    assert progress.records > 4
    assert progress.note is None
    assert os.getpid() in {json.loads(line)["PID"] for line in decoded(process)}
