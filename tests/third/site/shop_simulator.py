"""The shop's simulated world: many clients browse and log in; some attack. The same arguments give the same bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.families.host.simulate import Faults, Payload
from hackwatch.families.host.simulate.messages import encode
from hackwatch.feeds.pace import OnProgress, Progress
from hackwatch.topics.topic import TopicWriter

__all__ = ["ATTACKS", "SIMULATOR", "Batch", "Simulator", "generate", "labelled"]

#: What attackers do: they try passwords, read the whole shop, or look for files that are none of their business.
ATTACKS = ("stuffing", "scraping", "traversal")
START = 1_700_006_400.0

_TOGETHER = 2_000
_LANES = 8
_ATTACKERS = 6
_PATHS = np.array([f"/item/{number}" for number in range(40)] + ["/", "/cart", "/account", "/login"])
_HIDDEN = np.array(["/../../etc/passwd", "/.env", "/admin/config.php", "/.git/HEAD"])
_AGENTS = np.array(["Firefox/128.0", "Chrome/126.0", "Safari/17.5", "Edge/126.0"])
_SERVERS, _GATES = np.array(["www-1", "www-2", "www-3"]), np.array(["gate-a", "gate-b"])


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A stretch of both streams, and the simulated time (Unix seconds) at its end."""

    now: float
    visit: Payload
    login: Payload


def generate(
    records: int,
    seed: int = 0,
    *,
    clients: int = 5_000,
    attack_share: float = 0.05,
    start: float = START,
    records_per_second: float = 100.0,
    labels: bool = False,
    identified: bool = False,
    faults: Faults | None = None,
    stretch: float = 10.0,
) -> Iterator[Batch]:
    """`records` records, half of them visits and half logins, as payloads in stretches of so many seconds at the most.

    Keys are lanes, into which clients are dealt, so that each server's and each gate's records are in all partitions.
    `identified` adds a field `uuid`, unique in its stream. `faults`: as of the simulated hosts; repeated messages come
    on top.
    """
    world = _World(seed, clients, attack_share)
    random = np.random.default_rng([seed, 2])
    left, now, number = records // 2, start, 0
    while left > 0:
        rows = min(left, _TOGETHER // 2, max(1, int(stretch * records_per_second / 2)))
        length = 2 * rows / records_per_second
        visits, logins = (
            _written(frame, random, faults, labels, number if identified else None)
            for frame in (world.visits(rows, now, length), world.logins(rows, now, length))
        )
        left, now, number = left - rows, now + length, number + rows
        yield Batch(now, visits, logins)


def labelled(seed: int, records: int = 4_000, attack_share: float = 0.1) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Labelled (visit, login) frames in message shape over one day, `records` rows each."""
    world = _World(seed, 500, attack_share)
    frames = world.visits(records, START, 86_400.0), world.logins(records, START, 86_400.0)
    visits, logins = (frame.drop("lane") for frame in frames)
    return visits, logins


@dataclass(frozen=True, slots=True)
class Playing:
    """So many clients in real time, a second after the other; attacks are among what they do."""

    rate: float
    seed: int
    attack_share: float
    labels: bool
    entities: tuple[str, ...]

    def run(
        self, writers: Mapping[str, TopicWriter], stop: threading.Event, on_progress: OnProgress | None = None
    ) -> Progress:
        sent = Progress(0, 0, 0)
        options: dict[str, Any] = {"attack_share": self.attack_share, "labels": self.labels, "start": time.time()}
        a_second = round(self.rate)
        for batch in generate(3600 * a_second, self.seed, records_per_second=a_second, stretch=1.0, **options):
            for name, writer in writers.items():
                payload: Payload = getattr(batch, name)
                payload.write_to(writer)
                count = len(payload)
                sent = Progress(sent.messages + count, sent.records + count, sent.bytes + len(payload.data))
            if on_progress is not None:
                on_progress(sent)
            if stop.wait(1.0):
                break
        return sent


class Simulator:
    """See `hackwatch.feeds.simulator.Simulator`."""

    def play(self, *, rate: float, entities: int, seed: int, quiet: bool, labels: bool, **_attacks: Any) -> Playing:
        names = tuple(f"client {number}" for number in range(entities))
        return Playing(rate, seed, 0.0 if quiet else 0.05, labels, names)

    def batches(
        self, records: int, seed: int, *, clients: int = 100, attack_share: float = 0.2,
        records_per_second: float = 8.0, faults: Faults | None = None,
    ) -> Iterator[Mapping[str, Payload]]:  # fmt: skip
        for batch in generate(
            records, seed, clients=clients, attack_share=attack_share, records_per_second=records_per_second,
            faults=faults,
        ):  # fmt: skip
            yield {"visit": batch.visit, "login": batch.login}

    def labelled(self, seed: int, records: int) -> Mapping[str, bytes]:
        visits, logins = labelled(seed, records)
        return {"visit": visits.write_ndjson().encode(), "login": logins.write_ndjson().encode()}


SIMULATOR = Simulator()


class _World:
    """Who comes, and what comes of it; drawn row by row from one random stream."""

    def __init__(self, seed: int, clients: int, attack_share: float) -> None:
        self._random = np.random.default_rng([seed, 1])
        numbers = self._random.integers(0, 1 << 24, clients)
        self._clients = np.array([f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in numbers.tolist()])
        self._attackers = np.array([f"203.0.113.{number}" for number in range(_ATTACKERS)])
        self._tools = np.array([f"tool-{seed % 97}-{number % 3}" for number in range(_ATTACKERS)])
        self._share = attack_share

    def visits(self, rows: int, start: float, length: float) -> pl.DataFrame:
        """Requests in order of time: message columns, `lane`, truth."""
        random, frame = self._random, self._who(rows, start, length)
        kind = frame["type"].to_numpy()
        traversal, scraping = kind == "traversal", kind == "scraping"
        path = np.where(traversal, random.choice(_HIDDEN, rows), random.choice(_PATHS, rows))
        status = np.where(traversal, 404, random.choice([200, 200, 200, 304, 404, 500], rows))
        size = np.round(np.exp(random.normal(9, 1, rows)) * np.where(scraping, 200, 1))
        seconds = np.round(random.gamma(2, 0.05, rows) * np.where(scraping, 30, 1), 4)
        return frame.with_columns(
            pl.Series("server", _SERVERS[random.integers(0, len(_SERVERS), rows)]),
            pl.Series("path", path),
            pl.Series("status", status),
            pl.Series("bytes", size),
            pl.Series("seconds", seconds),
        ).select("client", "server", "path", "agent", "status", "bytes", "seconds", "ts", "lane", "label", "type")

    def logins(self, rows: int, start: float, length: float) -> pl.DataFrame:
        """Attempts in order of time: message columns, `lane`, truth."""
        random, frame = self._random, self._who(rows, start, length)
        attack = frame["label"].to_numpy() == 1
        failed = (random.random(rows) < np.where(attack, 0.97, 0.05)).astype(np.int64)
        waited = np.round(np.where(attack, random.random(rows) * 0.2, random.gamma(2, 20, rows)), 3)
        first = pl.Series(random.random(rows) < 0.2)
        return frame.with_columns(
            pl.Series("gate", _GATES[random.integers(0, len(_GATES), rows)]),
            pl.Series("user", np.char.add("user-", random.integers(0, 20_000, rows).astype(str))),
            pl.Series("failed", failed),
            pl.when(~first).then(pl.Series(waited)).alias("waited"),
        ).select("client", "gate", "user", "agent", "failed", "waited", "ts", "lane", "label", "type")

    def _who(self, rows: int, start: float, length: float) -> pl.DataFrame:
        """Clients in order of time. Attackers come from few places, and each with a tool of its own."""
        random = self._random
        attack = random.random(rows) < self._share
        usual, attacker = random.integers(0, len(self._clients), rows), random.integers(0, _ATTACKERS, rows)
        # Half of the attackers hide behind what everybody uses.
        agent = np.where(attack & (attacker % 2 == 0), self._tools[attacker], _AGENTS[usual % len(_AGENTS)])
        kinds = np.array(ATTACKS)[(attacker + random.integers(0, 2, rows)) % len(ATTACKS)]
        return pl.DataFrame(
            {
                "client": np.where(attack, self._attackers[attacker], self._clients[usual]),
                "agent": agent,
                "ts": np.round(start + np.sort(random.random(rows)) * length, 3),
                "lane": np.where(attack, attacker, usual) % _LANES,
                "label": attack.astype(np.int8),
                "type": np.where(attack, kinds, "normal"),
            }
        )


def _written(
    frame: pl.DataFrame, random: np.random.Generator, faults: Faults | None, labels: bool, number: int | None
) -> Payload:
    """Messages, lane after lane and within a lane in order of time, with what goes wrong on their way."""
    if number is not None:
        frame = frame.with_columns(
            pl.format("{}-{}", pl.lit("r"), pl.int_range(number, number + len(frame))).alias("uuid")
        )
    frame = frame.sort("lane", maintain_order=True)
    if faults is not None:
        frame = _disturbed(frame, random, faults)
    counts = np.bincount(frame["lane"].to_numpy(), minlength=_LANES)
    lanes = [f"lane-{lane}" for lane in range(_LANES)]
    payload = encode(frame.drop("lane", *(() if labels else ("label", "type"))), lanes, counts)
    return _broken(payload, random, faults.malformed_share) if faults is not None else payload


def _disturbed(frame: pl.DataFrame, random: np.random.Generator, faults: Faults) -> pl.DataFrame:
    rows = len(frame)
    late = random.random(rows) < faults.late_share
    older = random.random(rows) * faults.disorder_seconds + late * random.uniform(*faults.late_seconds, rows)
    times = 1 + (random.random(rows) < faults.duplicate_share).astype(np.int64)
    return frame.with_columns((pl.col("ts") - pl.Series(older)).round(3))[np.repeat(np.arange(rows), times)]


def _broken(payload: Payload, random: np.random.Generator, share: float) -> Payload:
    lines = np.array(payload.data.split(b"\n")[:-1], object)
    hit: npt.NDArray[np.bool_] = random.random(len(lines)) < share
    lines[hit] = b'{"client": "10.0.0.1", "path": 5'
    return Payload(b"".join(line + b"\n" for line in lines.tolist()), payload.keys, payload.counts)
