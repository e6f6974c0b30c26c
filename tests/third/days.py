"""Made days of any family, as scored rows: out of order, late, with suspects that meet; and how they are cut."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from hackwatch import streams
from hackwatch.pipeline.core import Batch
from hackwatch.pipeline.detection import SCORED, Scored
from hackwatch.streams.declarations import Aggregate, Correlation
from hackwatch.streams.stream import POSITION, REJECTED_SCHEMA, Stream
from tests.third.oracle import Day, Place, Row

__all__ = ["FAMILIES", "PARTITIONS", "START", "Made", "cut", "made", "scored"]

#: A multiple of 120 s, Unix seconds.
START = 1_700_000_040.0
PARTITIONS = (0, 1)
_ALL = pl.Schema({**POSITION, **SCORED})

#: What the rows of a stream say beside their time: given chance and the source whose clock stamps them.
Tell = Callable[[random.Random, str], dict[str, Any]]


def _process(chance: random.Random, source: str) -> dict[str, Any]:
    program, number = chance.choice("ab"), chance.randint(1, 3)
    return {"machine": source, "CMD": program, "PID": number, "CMD_PID": f"{program}_{number}"}


def _visit(chance: random.Random, source: str) -> dict[str, Any]:
    client, path = f"10.0.0.{chance.randint(1, 6)}", chance.choice(("/", "/cart", "/.env"))
    return {
        "client": client, "server": source, "path": path, "client_path": f"{client} {path}",
        "agent": chance.choice("xyz"), "status": chance.choice((200, 200, 404, 500)),
        "bytes": float(chance.randint(0, 10_000)), "seconds": chance.choice((None, 0.1, 0.2, chance.random())),
    }  # fmt: skip


def _login(chance: random.Random, source: str) -> dict[str, Any]:
    return {
        "client": f"10.0.0.{chance.randint(1, 6)}", "gate": source, "user": chance.choice("uvw"),
        "agent": chance.choice("xyz"), "failed": chance.randint(0, 1), "waited": chance.choice((None, 1.5)),
    }  # fmt: skip


_TELL: Mapping[str, Tell] = {"process": _process, "memory": _process, "visit": _visit, "login": _login}
FAMILIES = ("host", "shop")


@dataclass(frozen=True)
class Made:
    """A day of some families, and what is declared about their streams."""

    streams: Mapping[str, Stream]
    correlations: Sequence[Correlation]
    aggregates: Sequence[Aggregate]
    day: Day

    @property
    def places(self) -> list[Place]:
        return list(self.day)


def made(
    families: Sequence[str],
    chance: random.Random,
    *,
    rows: int = 30,
    sources: int = 2,
    disorder: float = 15.0,
    late_share: float = 0.05,
    skew: float = 0.0,
) -> Made:
    """So many rows in each partition of each stream, over some minutes.

    `sources`: clocks in each partition; with 1 they are different ones in each. `skew`: by how many seconds, at the
    most, each of them is wrong.
    """
    found = [streams.family(name) for name in families]
    wrong = [chance.uniform(-skew, skew) for _ in range(max(sources, len(PARTITIONS)))]
    known = {name: streams.get(name) for family in found for name in family.streams}
    return Made(
        known,
        [correlation for family in found for correlation in family.correlations],
        [aggregate for family in found for aggregate in family.aggregates],
        {
            (name, partition): list(_rows(stream, partition, chance, rows, sources, disorder, late_share, wrong))
            for name, stream in known.items()
            for partition in PARTITIONS
        },
    )


def _rows(
    stream: Stream,
    partition: int,
    chance: random.Random,
    rows: int,
    sources: int,
    disorder: float,
    late_share: float,
    wrong: Sequence[float],
) -> Iterator[Row]:
    # Several clocks are all seen in both partitions, a single one in its own only.
    names = [f"s{number}" for number in range(sources)] if sources > 1 else [f"s{partition}"]
    clock = 0.0
    for number in range(rows):
        clock += chance.choice((0.0, 0.5, 2.5, 10.0, 25.0))
        behind = chance.uniform(20.5, 60.0) if chance.random() < late_share else chance.uniform(0, disorder)
        source = names[number] if number < len(names) else chance.choice(names)
        told = _TELL[stream.name](chance, source)
        suspect = chance.random() < 0.4
        yield {
            **dict.fromkeys(stream.schema),
            **told,
            "event_time": round((START + clock - behind + wrong[int(source[1:])]) * 1e6),
            "score": 0.9 if suspect else 0.1,
            "prediction": int(suspect),
            "rules": [],
        }


def scored(stream: Stream, rows: Sequence[Row], *, partition: int, offset: int) -> Scored:
    """Rows as a scored run of one partition; offsets count on from `offset`."""
    columns = {
        **{name: [row[name] for row in rows] for name in (*stream.schema, *SCORED)},
        "partition": [partition] * len(rows),
        "offset": list(range(offset, offset + len(rows))),
        "index": [0] * len(rows),
    }
    frame = pl.DataFrame(
        [
            pl.Series(name, columns[name], dtype=pl.Int64() if name == "event_time" else kind)
            for name, kind in {**stream.schema, **_ALL}.items()
        ]
    ).with_columns(pl.col("event_time").cast(stream.schema["event_time"]))
    rejected = pl.DataFrame(schema=REJECTED_SCHEMA)
    return Scored(stream.name, f"{stream.name}-topic", frame, rejected, {partition: len(rows)}, {})


def cut(one: Made, chance: random.Random, largest: int = 20) -> Iterator[Batch]:
    """A day in batches: any sizes, any interleaving of streams and partitions, offset order kept within each.

    Each says what waits unread, as the engine does.
    """
    position = dict.fromkeys(one.day, 0)
    while unread := [place for place in one.day if position[place] < len(one.day[place])]:
        chosen = [place for place in unread if chance.random() < 0.7] or [chance.choice(unread)]
        chance.shuffle(chosen)
        batch = []
        for place in chosen:
            name, partition = place
            at = position[place]
            rows = one.day[place][at : at + chance.randint(1, largest)]
            position[place] += len(rows)
            batch.append(scored(one.streams[name], rows, partition=partition, offset=at))
        waiting = [place for place in one.day if position[place] < len(one.day[place])]
        yield Batch(batch, one.places, waiting=waiting)
