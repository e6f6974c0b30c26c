"""What decoding and normalising costs: core microseconds a record, beside the bare JSON parse of the same payload.

    python -m bench.decode [--records 40000] [--rounds 7] [--json]

Best of some rounds of process time, so that other work on the machine disturbs little.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np
import polars as pl

from hackwatch import streams
from hackwatch.streams.stream import DecodeOptions, Messages

COMMANDS = ["apache2", "kworker/u8:2", "atop", "mysqld", "<grep>", "firefox", "vmtoolsd", "jbd2/sda1-8", "[kthreadd]"]


def common(count: int, chance: np.random.Generator) -> dict[str, object]:
    return {
        "sequence": np.arange(count),
        "machine": chance.integers(4, 9, count).astype(str),
        "PID": chance.integers(1, 30_000, count),
        "CMD": chance.choice(COMMANDS, count, p=[0.15, 0.3, 0.1, 0.1, 0.02, 0.15, 0.1, 0.07, 0.01]),
        "ts": 1.55e9 + np.arange(count) / 100,
    }


def process(count: int, chance: np.random.Generator) -> pl.DataFrame:
    counts = {name: chance.integers(0, 40, count) for name in ("TRUN", "TSLPI", "TSLPU")}
    priorities = {
        "NICE": np.zeros(count, int),
        "PRI": chance.choice([100, 120, 139], count),
        "RTPR": np.zeros(count, int),
    }
    return pl.DataFrame(
        common(count, chance)
        | counts
        | {"POLI": ["norm"] * count}
        | priorities
        | {"CPUNR": chance.integers(0, 4, count), "Status": ["-"] * count, "EXC": np.zeros(count, int)}
        | {"State": chance.choice(["S", "R"], count), "CPU": chance.integers(0, 20, count) / 100}
    )


def memory(count: int, chance: np.random.Generator) -> pl.DataFrame:
    def sizes() -> list[str]:
        kib = chance.lognormal(10, 3, count).tolist()
        return [f"{k:.0f}K" if k < 1e5 else f"{k / 1024:.1f}M" if k < 1e8 else f"{k / 1048576:.1f}G" for k in kib]

    faults = {"MINFLT": chance.integers(0, 3000, count), "MAJFLT": chance.integers(0, 10, count)}
    growth = {"VGROW": ["0K"] * count, "RGROW": chance.choice(["0K", "4K", "-12K"], count)}
    held = {name: sizes() for name in ("VSTEXT", "VSIZE", "RSIZE")}
    return pl.DataFrame(common(count, chance) | faults | held | growth | {"MEM": chance.integers(0, 20, count) / 100})


def messages(lines: list[bytes]) -> Messages:
    offsets = np.cumsum(np.array([0, *(len(line) + 1 for line in lines)], np.int64))
    return Messages("bench", 0, b"".join(line + b"\n" for line in lines), offsets[:-1], int(offsets[-1]))


def best(work: Callable[[], object], rounds: int) -> float:
    """Least process time in seconds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def payloads(frame: pl.DataFrame) -> dict[str, list[bytes]]:
    native = frame.write_ndjson().encode().splitlines()
    texts = frame.select(pl.all().cast(pl.String)).write_ndjson().encode().splitlines()
    broken = [line[:50] if position % 100 == 50 else line for position, line in enumerate(native)]
    arrays = [b"[" + b",".join(texts[start : start + 40]) + b"]" for start in range(0, len(texts), 40)]
    return {"native": native, "1 % broken": broken, "arrays of 40, texts": arrays, "20 records a call": native[:20]}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--records", type=int, default=40_000)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    results = []
    for name, make in (("process", process), ("memory", memory)):
        frame = make(options.records, np.random.default_rng(1))
        kinds = payloads(frame)
        bare = b"\n".join(kinds["native"])
        parse = best(lambda: pl.read_ndjson(bare, schema=frame.schema), options.rounds) / options.records  # noqa: B023  # called here
        for kind, lines in kinds.items():
            given = messages(lines)
            count = 20 if len(lines) == 20 else options.records
            rounds = options.rounds * (20 if count == 20 else 1)
            decode = streams.get(name).decode
            seconds = best(lambda: decode(given, DecodeOptions()), rounds) / count  # noqa: B023  # called here
            row = {"stream": name, "payload": kind, "microseconds": seconds * 1e6, "bare_parses": seconds / parse}
            results.append({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()})
    if options.json:
        print(json.dumps(results))
        return
    print(f"{'stream':8} {'payload':20} {'us/record':>10} {'x bare JSON parse':>18}")
    for row in results:
        print(f"{row['stream']:8} {row['payload']:20} {row['microseconds']:>10} {row['bare_parses']:>18}")


if __name__ == "__main__":
    main()
