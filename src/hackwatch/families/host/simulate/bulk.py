"""Simulated records as fast as they can be made, in simulated time, with faults on demand: benchmarks, oracles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hackwatch.families.host.simulate.messages import Payload, encode
from hackwatch.families.host.simulate.schedule import ByShare
from hackwatch.families.host.simulate.world import Sample, World

__all__ = ["Batch", "Faults", "generate"]

_BATCH_RECORDS = 50_000
_BROKEN: tuple[bytes, ...] = (
    b"not json",
    b"[]",
    b'{"PID": 1',
    b'{"machine": "web-1", "PID": "x", "CMD": "sh", "ts": "yesterday"}',
    b"null",
    b"\xff\xfe{}",
    b"17",
)


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong on the way, as shares (0..1) of the records of each stream.

    `disorder_seconds`: event times are up to this much older than their place in the stream says. `late_share`
    records are older by `late_seconds` (least, most); whether that makes them late is the watermark's business.
    `duplicate_share` messages come twice in a row; `malformed_share` are replaced by something that no decoder takes.
    """

    disorder_seconds: float = 0.0
    late_share: float = 0.0
    late_seconds: tuple[float, float] = (25.0, 120.0)
    duplicate_share: float = 0.0
    malformed_share: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A stretch of both streams, and the simulated time (Unix seconds) at its end."""

    now: float
    process: Payload
    memory: Payload


def generate(
    records: int,
    seed: int = 0,
    *,
    machines: int = 50,
    processes: int = 200,
    attack_share: float = 0.01,
    start: float = 1_700_006_400.0,
    records_per_second: float = 10_000.0,
    churn: float = 0.0,
    labels: bool = False,
    identified: bool = False,
    faults: Faults | None = None,
) -> Iterator[Batch]:
    """About `records` records, half of them in each stream, as payloads; the same arguments give the same bytes.

    Event time rises by one second every `records_per_second` records. `attack_share` of the records belong to attacks.
    `churn`: as for World, for ever-new PIDs. `identified` adds a field `uuid`, unique in its stream. Exactly
    `records` // 2 in each stream, and the repeated ones on top if `faults` asks for duplicates.
    """
    world = World(seed, machines, processes=processes, churn=churn)
    schedule = ByShare(attack_share, seed)
    random = np.random.default_rng([seed, 4 << 31])
    together = max(1, _BATCH_RECORDS // (2 * processes))
    left, first, now = records // 2, 0, start
    sample: Sample | None = None
    while left > 0:
        schedule.step(world, now, sample)
        last = min(first + together, machines)
        step = 2 * (last - first) * processes / records_per_second
        now += step
        sample = world.observe(now, first, last, spread=step).head(left)
        left -= len(sample)
        names = world.names[first:last]
        process, memory = (
            _disturb(frame, names, sample, random, faults, identified) for frame in world.frames(sample, labels=labels)
        )
        yield Batch(now, process, memory)
        first = last % machines


def _disturb(
    frame: pl.DataFrame,
    names: Sequence[str],
    sample: Sample,
    random: np.random.Generator,
    faults: Faults | None,
    identified: bool,
) -> Payload:
    if identified:
        frame = frame.with_columns(pl.format("{}-{}", "machine", "sequence").alias("uuid"))
    if faults is None:
        return encode(frame, names, sample.counts)
    rows = len(frame)
    late = random.random(rows) < faults.late_share
    older = random.random(rows) * faults.disorder_seconds + late * random.uniform(*faults.late_seconds, rows)
    frame = frame.with_columns((pl.col("ts") - pl.Series(older)).round(3))
    times = 1 + (random.random(rows) < faults.duplicate_share).astype(np.int64)
    home = np.repeat(np.repeat(np.arange(len(names)), sample.counts), times)
    payload = encode(frame[np.repeat(np.arange(rows), times)], names, np.bincount(home, minlength=len(names)))
    return _break(payload, random, faults.malformed_share) if faults.malformed_share else payload


def _break(payload: Payload, random: np.random.Generator, share: float) -> Payload:
    lines = payload.data.split(b"\n")
    for index in np.flatnonzero(random.random(len(lines) - 1) < share).tolist():
        lines[index] = _BROKEN[int(random.integers(len(_BROKEN)))]
    return Payload(b"\n".join(lines), payload.keys, payload.counts)
