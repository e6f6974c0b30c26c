"""Two small streams as those of a host and a way to cut generated records into batches, for tests of the pure core."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from hackwatch.alerts.policy import AlertPolicy
from hackwatch.config import AlertSettings
from hackwatch.pipeline.core import Batch, Now, Output, Pipeline
from hackwatch.pipeline.detection import SCORED, Scored
from hackwatch.pipeline.options import StreamOptions
from hackwatch.streams.declarations import Correlation
from hackwatch.streams.stream import POSITION, REJECTED_SCHEMA, Decoded, DecodeOptions, Features, Messages, Noun, Stream
from tests.third.days import START

__all__ = [
    "MEMORY", "PROCESS", "START", "Collected", "Day", "Record", "cut", "feed", "microseconds", "pipeline", "random_day",
    "run",
]  # fmt: skip

SCHEMA = pl.Schema(
    {
        "machine": pl.String(),
        "PID": pl.Int64(),
        "CMD": pl.String(),
        "CMD_PID": pl.String(),
        "event_time": pl.Datetime("us", "UTC"),
    }
)


def _never_decoded(messages: Messages, options: DecodeOptions) -> Decoded:
    raise AssertionError("these tests hand over scored records")


def stream(name: str) -> Stream:
    noun = Noun("machine", "machines")
    return Stream(
        name, SCHEMA, "machine", noun, "CMD", "CMD_PID", "machine", (), Features((), (), ()), {}, _never_decoded
    )


PROCESS, MEMORY = stream("process"), stream("memory")
ATTACKS = Correlation("attacks", "process", "memory", ("machine", "CMD", "PID", "CMD_PID"))


@dataclass(frozen=True)
class Record:
    """One scored record as the tests write it down: `t` in seconds after START."""

    t: float
    machine: str = "m1"
    cmd: str = "cmd"
    pid: int = 1
    suspect: bool = False
    rules: tuple[str, ...] = ()
    key: str | None = None


def run(name: str, records: Sequence[Record], *, partition: int = 0, offset: int = 0, keyed: bool = False) -> Scored:
    """A scored run of one partition; offsets count on from `offset`."""
    columns: dict[str, list[object]] = {
        "machine": [r.machine for r in records],
        "PID": [r.pid for r in records],
        "CMD": [r.cmd for r in records],
        "CMD_PID": [f"{r.cmd}_{r.pid}" for r in records],
        "event_time": [round((START + r.t) * 1e6) for r in records],
        "partition": [partition] * len(records),
        "offset": list(range(offset, offset + len(records))),
        "index": [0] * len(records),
        "score": [0.9 if r.suspect else 0.1 for r in records],
        "prediction": [int(r.suspect) for r in records],
        "rules": [list(r.rules) for r in records],
    }
    schema = {**SCHEMA, **POSITION, **SCORED}
    if keyed:
        columns["key"], schema["key"] = [r.key for r in records], pl.String()
    frame = pl.DataFrame(
        [pl.Series(n, columns[n], dtype=pl.Int64() if n == "event_time" else t) for n, t in schema.items()]
    ).with_columns(pl.col("event_time").cast(SCHEMA["event_time"]))
    return Scored(name, f"{name}-topic", frame, pl.DataFrame(schema=REJECTED_SCHEMA), {partition: len(records)}, {})


def pipeline(options: StreamOptions | None = None) -> Pipeline:
    options = options or StreamOptions()
    policy = AlertPolicy(AlertSettings())
    return Pipeline({"process": (PROCESS, options), "memory": (MEMORY, options)}, [ATTACKS], policy)


@dataclass
class Collected:
    """Everything that a sequence of steps gave."""

    outputs: list[Output] = field(default_factory=list)

    def table(self, name: str) -> pl.DataFrame:
        frames = [frame for output in self.outputs for frame in output.rows.get(name, [])]
        return pl.concat(frames) if frames else pl.DataFrame()

    @property
    def alerts(self) -> list[str]:
        return [alert.id for output in self.outputs for alert in output.alerts if alert.kind != "system"]


#: One partition's records in offset order, by (stream, partition).
Day = dict[tuple[str, int], list[Record]]


def cut(day: Day, rng: random.Random, largest: int = 20) -> Iterator[list[Scored]]:
    """Cut a day into batches: any sizes, any interleaving of partitions, offset order kept within each."""
    position = dict.fromkeys(day, 0)
    while open_places := [place for place in day if position[place] < len(day[place])]:
        chosen = [place for place in open_places if rng.random() < 0.7] or [rng.choice(open_places)]
        rng.shuffle(chosen)
        batch = []
        for place in chosen:
            at = position[place]
            size = rng.randint(1, largest)
            records = day[place][at : at + size]
            position[place] = at + len(records)
            batch.append(run(place[0], records, partition=place[1], offset=at))
        yield batch


def feed(target: Pipeline, batches: Iterator[list[Scored]], partitions: list[tuple[str, int]]) -> Collected:
    """Step a pipeline through batches, so far apart in engine time that each lets go of what is over."""
    collected = Collected()
    for number, batch in enumerate(batches):
        now = Now(wall=START + 1e6, elapsed=number * 0.3)
        collected.outputs.append(target.step(Batch(batch, partitions, waiting=partitions), now))
    return collected


def random_day(rng: random.Random, *, records: int = 120, disorder: float = 15.0, late_share: float = 0.05) -> Day:
    """Records over five minutes in 2 partitions a stream, out of order, some later than the allowed 20 s."""
    day: Day = {(name, partition): [] for name in ("process", "memory") for partition in (0, 1)}
    for (_, partition), kept in day.items():
        clock = 0.0
        for _ in range(records // 4):
            clock += rng.choice((0.0, 0.5, 2.5, 10.0, 25.0))
            behind = rng.uniform(20.5, 60.0) if rng.random() < late_share else rng.uniform(0, disorder)
            machine = f"m{partition}{rng.randint(0, 1)}"
            kept.append(
                Record(
                    t=round(clock - behind, 3),
                    machine=machine,
                    cmd=rng.choice("ab"),
                    pid=rng.randint(1, 3),
                    suspect=rng.random() < 0.4,
                )
            )
    return day


def microseconds(record: Record) -> int:
    return int(np.round((START + record.t) * 1e6))
