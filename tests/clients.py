"""A family as another package would bring it: the clients of a web server, who have neither a host nor a program."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hackwatch.feeds.pace import OnProgress, Progress
from hackwatch.streams.declarations import Correlation, Family
from hackwatch.streams.decode import Decoder
from hackwatch.streams.fields import LABELLED, Field, Kind
from hackwatch.streams.stream import EventFields, Features, Noun, Stream
from hackwatch.topics.topic import TopicWriter

__all__ = ["FAMILY", "LOGINS", "REQUESTS", "SIMULATOR", "install", "record"]

NAMES = ("requests", "logins")
START = 1_700_006_400
ENTRY = """[hackwatch.streams]
requests = tests.clients:REQUESTS
logins = tests.clients:LOGINS
[hackwatch.families]
web = tests.clients:FAMILY
"""

_FIELDS = (
    Field("client", Kind.TEXT, 1, 64),
    Field("server", Kind.TEXT, 1, 255),
    Field("path", Kind.TEXT, 1, 4096),
    Field("status", Kind.INTEGER, 100, 599),
    Field("seconds", Kind.FRACTION, 0, 3600),
    Field("at", Kind.TIME, 1, 2.0**33),
)
_SCHEMA = pl.Schema(
    {
        **{field.name: field.kind.dtype for field in _FIELDS},
        "visit": pl.String(),
        "event_time": pl.Datetime("us", "UTC"),
    }
)
_DERIVED = {
    "visit": pl.concat_str("client", "path", separator=" ").alias("visit"),
    "event_time": (pl.col("at") * 1e6).round().cast(pl.Int64).cast(pl.Datetime("us", "UTC")).alias("event_time"),
}


def _stream(name: str) -> Stream:
    return Stream(
        name=name,
        schema=_SCHEMA,
        entity="client",
        noun=Noun("client", "clients"),
        subject="path",
        identity="visit",
        source="server",
        identifiers=("client", "server", "visit", "at", "event_time"),
        features=Features(numeric=("status",), log=("seconds",), categorical=("path",)),
        units={"seconds": "seconds"},
        decode=Decoder(name, _SCHEMA, _FIELDS, _DERIVED, truth=LABELLED),
        bounded=("client", "path"),
        events=EventFields(
            ecs={"client": "source.ip", "path": "url.path", "status": "http.response.status_code"},
            ocsf={"client": "src_endpoint.ip", "path": "url.path", "status": "http_response.code"},
            resource="client",
        ),
    )


REQUESTS, LOGINS = _stream("requests"), _stream("logins")


def record(number: int, **changes: Any) -> dict[str, Any]:
    """A request of one of ten clients, a second after the one before it."""
    usual = {"client": f"192.0.2.{number % 10}", "server": "www", "path": f"/page/{number % 5}", "status": 200}
    return {**usual, "seconds": round(0.001 * (number % 997), 3), "at": START + number, **changes}


@dataclass(frozen=True)
class _Messages:
    data: bytes

    def write_to(self, writer: TopicWriter) -> None:
        writer.append(self.data.splitlines(), key="www")


class _Simulator:
    """The least that a simulator does."""

    entities = tuple(f"192.0.2.{number}" for number in range(10))

    def play(self, *, rate: float, **options: Any) -> _Simulator:
        return self

    def run(
        self, writers: Mapping[str, TopicWriter], stop: threading.Event, on_progress: OnProgress | None = None
    ) -> Progress:
        size = 0
        for name, writer in writers.items():
            payload = self.labelled(0, 600)[name]
            _Messages(payload).write_to(writer)
            size += len(payload)
        return Progress(1200, 1200, size)

    def batches(self, records: int, seed: int, **options: Any) -> Iterator[Mapping[str, _Messages]]:
        yield {name: _Messages(data) for name, data in self.labelled(seed, records // 2).items()}

    def labelled(self, seed: int, records: int) -> Mapping[str, bytes]:
        random = np.random.default_rng(seed)
        odd = random.random(records) < 0.1
        seen = [{"label": 0, "type": "normal"}, {"label": 1, "type": "scan", "status": 404, "path": "/.env"}]
        truth = [seen[int(bad)] for bad in odd]
        lines = b"".join(json.dumps(record(number, **truth[number])).encode() + b"\n" for number in range(records))
        return dict.fromkeys(NAMES, lines)


SIMULATOR = _Simulator()
FAMILY = Family(
    name="web",
    streams=NAMES,
    correlations=(
        Correlation(
            name="break_ins",
            left="logins",
            right="requests",
            keys=("client",),
            seconds=10.0,
            rule="break-in",
            title="{entity} broke in",
        ),
    ),
    simulator="tests.clients:SIMULATOR",
)


def install(site: Path) -> dict[str, str]:
    """Put the package into a folder as if it were installed there; the environment in which it is found."""
    (site / "clients-1.0.dist-info").mkdir(parents=True)
    (site / "clients-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: clients\nVersion: 1.0\n")
    (site / "clients-1.0.dist-info" / "entry_points.txt").write_text(ENTRY)
    root = str(Path(__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), root, *filter(None, sys.path)])}
