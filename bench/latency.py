"""From the return of an append to the alert in the store, while records arrive at a steady rate.

A writer in a process of its own appends what 125 machines of 40 processes show, both streams, a machine's sample every
few milliseconds. Every 50 ms it appends one record that a shipped rule fires on, from a machine never seen before, so
that each of them raises an alert at once. A poller in another process looks into the store every half millisecond.
Both use CLOCK_MONOTONIC, which is one for all processes. Alerts of the warm-up are left out.

    python -m bench.latency [--quick] [--json] [--latency-seconds S] [--latency-rate N]
"""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import orjson

from bench.support import STREAMS, Figure, Sizes, Workspace, engine, main, memory_mib, say
from hackwatch import topics
from hackwatch.families.host.simulate import generate

__all__ = ["marker", "measure", "run", "wait_for_store"]

MACHINES, PROCESSES = 125, 40
MARK_SECONDS = 0.05
POLL_SECONDS = 0.0005
#: Alerts are waited for this long after the last append.
AFTER_SECONDS = 5.0
MARKED = "probe-"


def marker(machine: str, moment: float) -> bytes:
    """A process record of that event time that the rule `reverse-shell-tool` fires on."""
    record = {
        "sequence": 0, "machine": machine, "PID": 4242, "TRUN": 1, "TSLPI": 0, "TSLPU": 0, "POLI": "norm",
        "NICE": 0, "PRI": 120, "RTPR": 0, "CPUNR": 0, "Status": "N", "EXC": 0, "State": "S", "CPU": 0.01, "CMD": "nc",
        "ts": round(moment, 3),
    }  # fmt: skip
    return orjson.dumps(record)


def appends(sizes: Sizes, start: float, seconds: float) -> Iterator[tuple[float, int, str, bytes]]:
    """(seconds from the start, stream number, machine, its messages) in time order, alternating between streams."""
    done = 0
    records = int(sizes.latency_rate * seconds)
    for batch in generate(
        records, 5, machines=MACHINES, processes=PROCESSES, start=start, records_per_second=sizes.latency_rate
    ):
        pairs = zip(batch.process.parts(), batch.memory.parts(), strict=True)
        for parts in pairs:
            for stream, (machine, payload) in enumerate(parts):
                yield done / sizes.latency_rate, stream, machine, payload
                done += payload.count(b"\n")


def write(addresses: Sequence[str], sizes: Sizes, marks: Queue[Any]) -> None:
    """The writer's process: puts the time at which each marked record's append returned."""
    writers = [topics.open_writer(address) for address in addresses]
    seconds = sizes.latency_warm_up + sizes.latency_seconds
    start = time.time() + 2 + seconds / 30
    planned = list(appends(sizes, start, seconds))
    time.sleep(max(0.0, start - time.time()))
    began, marked, sent, late = time.monotonic(), 0, {}, 0.0
    for due, stream, machine, payload in planned:
        while began + marked * MARK_SECONDS <= time.monotonic():
            name = f"{MARKED}{marked}"
            writers[0].append([marker(name, time.time())], key=name)
            sent[marked] = time.monotonic()
            marked += 1
        wait = began + due - time.monotonic()
        late = max(late, -wait)
        if wait > 0:
            time.sleep(wait)
        writers[stream].append_payload(payload, key=machine)
    took = time.monotonic() - began
    records = sum(payload.count(b"\n") for _, _, _, payload in planned)
    marks.put({"began": began, "sent": sent, "rate": records / took, "behind": late})


def poll(data: Path, until: Any, seen: Queue[Any]) -> None:
    """The poller's process: puts the time at which each marked record's alert was first visible."""
    store = sqlite3.connect(f"file:{data / 'store.sqlite'}?mode=ro", uri=True, isolation_level=None)
    last, found = 0, {}
    while not until.is_set():
        rows = store.execute("SELECT sequence, entity FROM alerts WHERE sequence > ? ORDER BY 1", (last,)).fetchall()
        now = time.monotonic()
        for last, entity in rows:  # noqa: B007  # the last one is where the next look begins
            if entity.startswith(MARKED):
                found[int(entity.removeprefix(MARKED))] = now
        time.sleep(POLL_SECONDS)
    seen.put(found)


def wait_for_store(data: Path, child: subprocess.Popen[bytes], seconds: float = 60.0) -> None:
    """Until the engine runs; RuntimeError if it does not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and child.poll() is None:
        try:
            with sqlite3.connect(f"file:{data / 'store.sqlite'}?mode=ro", uri=True) as store:
                row = store.execute("SELECT status FROM status").fetchone()
            if row and json.loads(row[0])["state"] == "running":
                return
        except sqlite3.OperationalError:
            pass
        time.sleep(0.05)
    raise RuntimeError("the engine did not start")


def measure(workspace: Workspace) -> list[Figure]:
    """One run over spools."""
    data = workspace.data("latency")
    return run(data, [str(data / "spool" / name) for name in STREAMS], workspace.sizes, targets=(15, 50))


def run(
    data: Path,
    addresses: Sequence[str],
    sizes: Sizes,
    *,
    settings: Mapping[str, Any] | None = None,
    targets: tuple[float | None, float],
) -> list[Figure]:
    """One run over the topics of both streams. `targets`: p50 and p99 to reach, milliseconds."""
    for address in addresses:
        topics.open_writer(address).close()
    context = multiprocessing.get_context("spawn")
    marks, seen, until = context.Queue(), context.Queue(), context.Event()
    with engine(data, settings=settings) as child:
        wait_for_store(data, child)
        writer = context.Process(target=write, args=(addresses, sizes, marks))
        poller = context.Process(target=poll, args=(data, until, seen))
        say(f"{sizes.latency_rate:,.0f} records/s for {sizes.latency_warm_up + sizes.latency_seconds:.0f} s")
        poller.start()
        writer.start()
        before = _cpu(child.pid)
        written = marks.get(timeout=sizes.latency_warm_up + sizes.latency_seconds + 120)
        cpu = _cpu(child.pid) - before
        time.sleep(AFTER_SECONDS)
        until.set()
        found = seen.get(timeout=60)
        writer.join()
        poller.join()
        peak = memory_mib(child.pid, "VmHWM")
    return _figures(data, sizes, written, found, cpu, peak, targets)


def _figures(
    data: Path,
    sizes: Sizes,
    written: dict[str, Any],
    found: dict[int, float],
    cpu: float,
    peak: float,
    targets: tuple[float | None, float],
) -> list[Figure]:
    after = written["began"] + sizes.latency_warm_up
    sent = {number: at for number, at in written["sent"].items() if at >= after}
    lost = [number for number in sent if number not in found]
    if lost or not sent:
        raise ValueError(f"the run is void: {len(lost)} of {len(sent)} alerts never came")
    waits = np.array([found[number] - at for number, at in sent.items()]) * 1e3
    with sqlite3.connect(f"file:{data / 'store.sqlite'}?mode=ro", uri=True) as store:
        epochs = store.execute("SELECT epoch FROM pipeline").fetchone()[0]
    say(f"{len(waits)} alerts; the writer was at most {written['behind'] * 1e3:.0f} ms behind")
    return [
        Figure("append to alert in the store, p50", float(np.percentile(waits, 50)), "ms", targets[0]),
        Figure("append to alert in the store, p99", float(np.percentile(waits, 99)), "ms", targets[1]),
        Figure("  longest", float(waits.max()), "ms"),
        Figure("  records/s meanwhile", written["rate"], ""),
        Figure("  epochs committed meanwhile", epochs, ""),
        Figure("  CPUs in use by the engine", cpu / (sizes.latency_seconds + sizes.latency_warm_up), ""),
        Figure("  peak memory", peak, "MiB"),
    ]


def _cpu(process: int) -> float:
    """CPU seconds of a process so far."""
    field = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(field[11]) + int(field[12])) / 100


if __name__ == "__main__":
    main(measure, __doc__)
