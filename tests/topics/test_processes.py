"""Many real writer processes at once, some of them killed in the middle."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hackwatch.topics.spool import SpoolReader
from tests.topics.support import everything

# Appends numbered messages with a checksum, in appends of random size, and tells each one that was acknowledged.
WRITER = """
import json, random, sys, zlib
from pathlib import Path
from hackwatch.topics.spool import SpoolWriter
folder, who, durability = sys.argv[1:]
out = SpoolWriter(Path(folder), partitions=2, segment_bytes=20_000, durability=durability)
draw, number = random.Random(who), 0
while True:
    batch = []
    for _ in range(draw.choice([1, 1, 5, 40])):
        text = draw.choice("abc") * draw.randint(0, 400)
        batch.append(json.dumps({"id": f"{who}-{number}", "text": text, "check": zlib.crc32(text.encode())}).encode())
        number += 1
    out.append(batch)
    print(number, flush=True)
"""


@contextmanager
def writers(folder: Path, count: int, durability: str) -> Iterator[dict[str, subprocess.Popen[str]]]:
    started = {
        f"w{number}": subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), f"w{number}", durability], stdout=subprocess.PIPE, text=True
        )
        for number in range(count)
    }
    try:
        yield started
    finally:
        for process in started.values():
            process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()


def acknowledged(process: subprocess.Popen[str]) -> int:
    """How many messages the process was told are kept."""
    assert process.stdout
    whole = [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    return int(whole[-1]) if whole else 0


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["none", "always"])
def test_what_was_acknowledged_is_there_once_and_whole_though_writers_are_killed(
    tmp_path: Path, durability: str
) -> None:
    draw, told = random.Random(7), dict[str, int]()
    with writers(tmp_path, 4, durability) as running:
        for process in running.values():
            assert process.stdout
            process.stdout.readline()  # it writes
        for name, process in running.items():
            time.sleep(draw.uniform(0.02, 0.1))
            process.send_signal(signal.SIGKILL)
            process.wait()
            told[name] = acknowledged(process)
    found, torn = dict[str, int](), 0
    for line in everything(SpoolReader(tmp_path)):
        try:
            message = json.loads(line)
        except ValueError:
            torn += 1
            continue
        assert message["check"] == zlib.crc32(message["text"].encode()), "two appends were mixed"
        found[message["id"]] = found.get(message["id"], 0) + 1
    assert min(told.values()) > 0
    assert [
        f"{name}-{number}" for name, count in told.items() for number in range(count) if f"{name}-{number}" not in found
    ] == []
    assert set(found.values()) == {1}
    assert torn <= len(running)


def test_a_writer_that_sleeps_within_its_append_blocks_no_reader(tmp_path: Path) -> None:
    with writers(tmp_path, 1, "none") as running:
        process = running["w0"]
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        for _ in range(20):
            assert everything(SpoolReader(tmp_path)) != []
        assert time.monotonic() - started < 5
