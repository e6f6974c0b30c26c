"""What watching this machine costs: CPU time and memory of the collector, beside a plain loop over the same files.

Fills the machine up to a number of sleeping processes, then samples it as `hackwatch feed collect` does and
compares with code that opens each file again with Python's own file objects, splits and prints records.

    python -m bench.collect [--processes 350] [--samples 12] [--interval 5]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from bench.support import Figure, Workspace, say
from hackwatch.families.host.collect import CollectFeed, blind_spots

LIMIT = 0.005


class Sink:
    """A topic that counts."""

    topic = "sink"

    def __init__(self) -> None:
        self.written = 0

    def append(self, messages: Sequence[bytes], *, key: str | None = None) -> None:
        self.written += sum(map(len, messages))

    def append_payload(self, payload: bytes, *, key: str | None = None) -> None:
        self.written += len(payload)

    def flush(self) -> None: ...

    def close(self) -> None: ...


def processes() -> list[str]:
    """PIDs as /proc lists them."""
    return [name for name in os.listdir("/proc") if name.isdigit()]


def naive() -> bytes:
    """The same figures the obvious way: stat, statm and the thread states of every process, read again each time."""
    lines = []
    for pid in processes():
        try:
            with open(f"/proc/{pid}/stat", errors="replace") as stat, open(f"/proc/{pid}/statm") as statm:
                raw, pages = stat.read(), statm.read().split()
            states = []
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/stat", errors="replace") as one:
                    states.append(one.read().rpartition(")")[2].split()[0])
        except OSError:
            continue
        field = raw.rpartition(")")[2].split()
        record = {
            "PID": int(pid), "CMD": raw.partition("(")[2].rpartition(")")[0][:14], "State": field[0],
            "TRUN": states.count("R"), "TSLPI": states.count("S"), "TSLPU": states.count("D"),
            "MINFLT": int(field[7]), "MAJFLT": int(field[9]), "CPU": (int(field[11]) + int(field[12])) / 100,
            "PRI": int(field[15]) + 100, "NICE": int(field[16]), "VSIZE": int(field[20]), "RSIZE": int(field[21]),
            "VSTEXT": int(pages[3]), "CPUNR": int(field[36]), "RTPR": int(field[37]), "POLI": int(field[38]),
        }  # fmt: skip
        lines += [json.dumps(record), json.dumps(record)]
    return "\n".join(lines).encode()


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process, user and system, while `work` runs."""
    before = time.process_time()
    work()
    return time.process_time() - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=350)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--interval", type=float, default=5.0)
    options = parser.parse_args()
    filled(options.processes, options.samples, options.interval)


def figures(workspace: Workspace) -> list[Figure]:
    """The share of a core, as `python -m bench` shows it."""
    share = filled(350, workspace.sizes.collect_samples, workspace.sizes.collect_interval)
    return [Figure("collecting 350 processes, share of a core", share * 100, "%", LIMIT * 100)]


def filled(wanted: int, samples: int, interval: float) -> float:
    """Measure on a machine with at least `wanted` processes; the collector's share of a core."""
    fillers = [
        subprocess.Popen(["sleep", "infinity"], stdin=subprocess.DEVNULL)
        for _ in range(max(0, wanted - len(processes())))
    ]
    try:
        return measure(samples, interval)
    finally:
        for filler in fillers:
            filler.kill()
        for filler in fillers:
            filler.wait()


def measure(samples: int, interval: float) -> float:
    """Tell the share of a core that collecting and that the plain loop takes, pauses included; return the first."""
    sink, running = Sink(), len(processes())
    for sentence in blind_spots():
        say(f"note: {sentence}")
    feed = CollectFeed(machine="bench", interval=interval, samples=samples)
    started = time.monotonic()
    mine = cpu_seconds(lambda: feed.run(sink, sink, threading.Event()))
    # The last sample is not followed by a pause; it must count as if it were.
    elapsed = time.monotonic() - started + interval
    plain = 0.0
    for _ in range(samples):
        time.sleep(min(interval, 1.0))
        plain += cpu_seconds(naive)
    share = mine / elapsed
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = sink.written / samples / 1024
    say(f"{running} processes, a sample every {interval:g} s, {samples} samples, {size:.0f} KiB each")
    say(f"collect     {mine / samples * 1e3:6.2f} ms CPU a sample = {share:.3%} of a core (limit {LIMIT:.1%})")
    say(f"plain loop  {plain / samples * 1e3:6.2f} ms CPU a sample = {plain / samples / interval:.3%} of a core")
    say(f"ratio       {plain / mine:6.1f} times less CPU; greatest memory {memory:.0f} MiB")
    return share


if __name__ == "__main__":
    main()
