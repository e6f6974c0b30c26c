"""How soon an engine that was killed with a full state works again.

Many machines (so many open windows) and many suspects (so a full correlation) are read; then records go on arriving,
and the engine is killed in the middle of an epoch. A record that raises an alert is appended, and the time from the
start of the new process to that alert in the store is what is measured: imports, recovery, repeated micro-batches.

    python -m bench.restart [--quick] [--json] [--restart-records N] [--rounds N]
"""

from __future__ import annotations

import contextlib
import io
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import polars as pl

from bench.latency import marker, wait_for_store
from bench.memory import records_committed
from bench.support import ROOT, STREAMS, Figure, Workspace, engine_command, main, say
from hackwatch import topics
from hackwatch.families.host.simulate import generate
from hackwatch.store import open_store
from hackwatch.topics.topic import TopicWriter

__all__ = ["measure"]

MACHINES, PROCESSES, ATTACKS = 1000, 50, 0.1
#: Records appended after the last commit and before the kill, in steps of this many.
AFTER, STEP = 40_000, 4_000
#: Seconds.
PATIENCE = 300.0


def measure(workspace: Workspace) -> list[Figure]:
    """Some kills, one after the other."""
    data, records, rounds = workspace.data("restart"), workspace.sizes.restart_records, workspace.sizes.rounds
    writers = [topics.open_writer(str(data / "spool" / name)) for name in STREAMS]
    batches = generate(
        records + 2 * rounds * AFTER, 9, machines=MACHINES, processes=PROCESSES, attack_share=ATTACKS,
        records_per_second=10_000.0,
    )  # fmt: skip
    made = iter(list(batches))
    sent, moment = 0, 0.0

    def append(wanted: int) -> None:
        nonlocal sent, moment
        target = sent + wanted
        while sent < target and (batch := next(made, None)) is not None:
            moment = batch.now
            for payload, writer in zip((batch.process, batch.memory), writers, strict=True):
                payload.write_to(writer)
                sent += len(payload)

    append(records)
    child = subprocess.Popen(engine_command(data), cwd=ROOT)
    times = []
    try:
        wait_for_store(data, child)
        _until(lambda: records_committed(data) >= sent, child)
        for number in range(rounds):
            for _ in range(AFTER // STEP):
                append(STEP)
                time.sleep(0.05)
            rows = _state(data)
            child.kill()
            child.wait()
            began = time.monotonic()
            child = subprocess.Popen(engine_command(data), cwd=ROOT)
            times.append(_until_alert(data, writers[0], f"restarted-{number}", moment, child) - began)
            say(f"restart {number + 1}: {times[-1]:.2f} s with {rows:,} rows of state")
        child.terminate()
        child.wait(60)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    return [Figure("restart to the first new alert", median(times), "s", 2.0),
            Figure("  rows of state in the snapshot", rows, "")]  # fmt: skip


def _until(done: Callable[[], bool], child: subprocess.Popen[bytes], pause: float = 0.1) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        if child.poll() is not None or time.monotonic() > end:
            raise RuntimeError("the engine ended or does not go on")
        time.sleep(pause)


def _until_alert(data: Path, writer: TopicWriter, name: str, moment: float, child: subprocess.Popen[bytes]) -> float:
    """Append a marked record; when (monotonic) its alert is in the store."""
    writer.append([marker(name, moment)], key=name)
    with contextlib.closing(sqlite3.connect(f"file:{data / 'store.sqlite'}?mode=ro", uri=True)) as store:
        _until(lambda: bool(store.execute("SELECT 1 FROM alerts WHERE entity = ?", (name,)).fetchall()), child, 0.002)
    return time.monotonic()


def _state(data: Path) -> int:
    """Rows of the committed state: open windows and suspects that wait for a partner."""
    with open_store(data / "store.sqlite", read_only=True) as store:
        checkpoint = store.checkpoints.latest("main")
    if checkpoint is None:
        return 0
    return sum(
        pl.read_ipc_stream(io.BytesIO(part)).height
        for name, part in checkpoint.states.items()
        if name.startswith(("aggregate.", "correlation."))
    )


if __name__ == "__main__":
    main(measure, __doc__)
