"""Memory over ten million records with ever-new PIDs: it must not grow with what has passed.

The records are made while the engine runs and never run far ahead of it, and the spool keeps only what is not yet
committed, so little is on disk. Resident memory is read every second against the records committed so far.

    python -m bench.memory [--quick] [--json] [--memory-records N]
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.latency import wait_for_store
from bench.support import EVENT_RATE, STREAMS, Figure, Workspace, engine, main, memory_mib, say
from hackwatch import topics
from hackwatch.families.host.simulate import generate

__all__ = ["measure", "records_committed"]

#: The writer waits while the engine is this many records behind.
AHEAD = 800_000
SEGMENT = 8 << 20
#: Of the processes of each sample this share is replaced by ones with new PIDs.
CHURN = 0.5
STEPS = 5
SPOOL = {"segment_mib": SEGMENT >> 20, "retention_gib": 0.05}


def records_committed(data: Path) -> int:
    """How many records the last committed epoch accounts for."""
    with sqlite3.connect(f"file:{data / 'store.sqlite'}?mode=ro", uri=True) as store:
        return int(store.execute("SELECT COALESCE(SUM(records), 0) FROM accounting").fetchone()[0])


def write(data: Path, records: int) -> None:
    """The writer's process."""
    writers = [topics.open_writer(str(data / "spool" / name), segment_bytes=SEGMENT) for name in STREAMS]
    sent = 0
    for batch in generate(records, 7, churn=CHURN, records_per_second=EVENT_RATE):
        batch.process.write_to(writers[0])
        batch.memory.write_to(writers[1])
        sent += len(batch.process) + len(batch.memory)
        while sent - records_committed(data) > AHEAD:
            time.sleep(0.05)
    for writer in writers:
        writer.close()


def measure(workspace: Workspace) -> list[Figure]:
    """One run."""
    data, records = workspace.data("memory"), workspace.sizes.memory_records
    context = multiprocessing.get_context("spawn")
    samples: list[tuple[int, float]] = []
    with engine(data, settings={"spool": SPOOL}) as child:
        wait_for_store(data, child)
        writer = context.Process(target=write, args=(data, records))
        writer.start()
        done, told = 0, 0
        while done < records:
            time.sleep(1.0)
            done = records_committed(data)
            samples.append((done, memory_mib(child.pid)))
            if done - told >= records / 10:
                told = done
                say(f"{done:,} of {records:,} records, {samples[-1][1]:.0f} MiB")
            _check(child, writer, done, records)
        writer.join()
        peak = memory_mib(child.pid, "VmHWM")
    return _figures(samples, records, peak)


def _check(child: Any, writer: Any, done: int, records: int) -> None:
    if child.poll() is not None:
        raise RuntimeError("the engine ended")
    if not writer.is_alive() and writer.exitcode:
        raise RuntimeError(f"the writer failed after {done:,} of {records:,} records")


def _figures(samples: Sequence[tuple[int, float]], records: int, peak: float) -> list[Figure]:
    done, resident = np.array(samples).T
    steps = [records * (step + 1) // STEPS for step in range(STEPS)]
    found = []
    for before, step in zip([0, *steps], steps, strict=False):
        within = resident[(done > before) & (done <= step)]
        if len(within):
            name = f"  memory, median up to {step:,} records"
            found.append(Figure(name, float(np.median(within)), "MiB"))
    later = done >= steps[0]
    slope = float(np.polyfit(done[later] / 1e6, resident[later], 1)[0]) if later.sum() > 2 else 0.0
    growth = found[-1].value / found[0].value if found else 0.0
    return [
        Figure("memory, last fifth of the records / first", growth, "", 1.1),
        Figure("  growth after the first fifth", slope, "MiB a million records"),
        Figure("  peak memory", peak, "MiB", 500),
        *found,
    ]


if __name__ == "__main__":
    main(measure, __doc__)
