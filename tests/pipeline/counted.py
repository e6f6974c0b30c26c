"""Requests counted by any aggregate, and the brute-force oracle of what has to come out."""

from __future__ import annotations

import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import polars as pl

from hackwatch.pipeline.aggregates import Aggregates
from hackwatch.pipeline.detection import SCORED
from hackwatch.streams.declarations import (
    Aggregate,
    Count,
    Distinct,
    Mean,
    Measure,
    Quantile,
    Share,
    Sum,
    Top,
)
from hackwatch.streams.stream import POSITION, Decoded, DecodeOptions, Features, Messages, Noun, Stream

__all__ = [
    "MEASURES", "SCHEMA", "SECOND", "START", "WEB", "Expected", "Request", "declared", "found", "frame", "new",
    "oracle", "reopened", "request", "stream", "values",
]  # fmt: skip

START = 1_700_000_640  # a multiple of 360 s: a boundary of all lengths here
SECOND = 1_000_000

SCHEMA = pl.Schema(
    {
        "client": pl.String(),
        "server": pl.String(),
        "path": pl.String(),
        "status": pl.Int64(),
        "bytes": pl.Float64(),
        "event_time": pl.Datetime("us", "UTC"),
    }
)
MEASURES: tuple[Measure, ...] = (
    Count("requests"),
    Count("suspects", "prediction = 1"),
    Sum("bytes", "bytes"),
    Mean("mean", "bytes", "status < 400"),
    Share("failed", "status >= 400"),
    Share("failed_suspects", "status >= 400", "prediction = 1"),
    Distinct("paths", "path"),
    Distinct("statuses", "status", "prediction = 1"),
    Top("top", "path", 2),
    Quantile("sizes", "bytes", (0.0, 0.5, 0.9, 1.0)),
)
#: A request: seconds after START, client, server, path, status, bytes, suspect.
Request = tuple[float, str, str, str | None, int, float | None, bool]


def _never_decoded(messages: Messages, options: DecodeOptions) -> Decoded:
    raise AssertionError("these tests hand over scored records")


def stream(source: str | None = "server") -> Stream:
    noun = Noun("client", "clients")
    features = Features((), (), ())
    return Stream("web", SCHEMA, "client", noun, "path", "path", source, (), features, {}, _never_decoded)


WEB = stream()


def declared(*measures: Measure, keys: tuple[str, ...] = ("client",), **options: Any) -> Aggregate:
    return Aggregate("requests", "web", keys, measures or MEASURES, **options)


def frame(requests: Sequence[Request], partition: int = 0) -> pl.DataFrame:
    """The scored records of some requests."""
    names = ["t", "client", "server", "path", "status", "bytes", "suspect"]
    columns = dict(zip(names, zip(*requests, strict=True), strict=True)) if requests else dict.fromkeys(names, ())
    times = pl.Series("event_time", [round((START + t) * 1e6) for t in columns["t"]], dtype=pl.Int64())
    known = [pl.Series(name, columns[name], dtype=SCHEMA[name]) for name in names[1:6]]
    place = {
        "partition": [partition] * len(requests),
        "offset": list(range(len(requests))),
        "index": [0] * len(requests),
    }
    scored: dict[str, list[Any]] = {
        "score": [0.9 if suspect else 0.1 for suspect in columns["suspect"]],
        "prediction": [int(suspect) for suspect in columns["suspect"]],
        "rules": [[] for _ in requests],
    }
    position = [pl.Series(name, place[name], dtype=POSITION[name]) for name in POSITION]
    flags = [pl.Series(name, scored[name], dtype=SCORED[name]) for name in SCORED]
    return pl.DataFrame([*known, times.cast(SCHEMA["event_time"]), *position, *flags])


def values(requests: Sequence[Request]) -> dict[str, Any]:
    """The values of MEASURES over some requests, computed record by record."""
    suspects = [r for r in requests if r[6]]
    sizes = sorted(r[5] for r in requests if r[5] is not None)
    fine = [r[5] for r in requests if r[4] < 400 and r[5] is not None]
    paths = Counter(r[3] for r in requests if r[3] is not None)
    shown: list[tuple[str | None, int]] = [*sorted(paths.items(), key=lambda each: (-each[1], each[0]))[:2]]
    if others := len(requests) - sum(count for _, count in shown):
        shown.append((None, others))
    return {
        "requests": len(requests),
        "suspects": len(suspects),
        "bytes": sum(sizes),
        "mean": sum(fine) / len(fine) if fine else None,
        "failed": sum(r[4] >= 400 for r in requests) / len(requests),
        "failed_suspects": sum(r[4] >= 400 for r in suspects) / len(suspects) if suspects else None,
        "paths": len(paths),
        "statuses": len({r[4] for r in suspects}),
        "top": [{"value": value, "count": count} for value, count in shown],
        "sizes": [sizes[max(0, math.ceil(q * len(sizes)) - 1)] for q in (0.0, 0.5, 0.9, 1.0)] if sizes else None,
    }


Expected = dict[tuple[str, str, int, int], dict[str, Any]]


def oracle(requests: Iterable[Request], length: Callable[[Request], int] = lambda _: 120) -> Expected:
    """(client, server, start, end) -> values. `length`: of the interval of a request, in seconds."""
    groups: dict[tuple[str, str, int, int], list[Request]] = defaultdict(list)
    for request in requests:
        seconds = length(request)
        start = math.floor(START + request[0]) // seconds * seconds
        groups[(request[1], request[2], start, start + seconds)].append(request)
    return {place: values(mine) for place, mine in groups.items()}


def found(changes: pl.DataFrame) -> Expected:
    """take_changes in the oracle's form: the last row of each interval."""
    names = [name for name in changes.columns if name not in ("client", "source", "start", "end", "final")]
    return {
        (row["client"], row["source"], row["start"], row["end"]): {name: row[name] for name in names}
        for row in changes.iter_rows(named=True)
    }


def reopened(snapshot: pl.DataFrame) -> pl.DataFrame:
    """A snapshot after a way through Arrow bytes."""
    buffer = io.BytesIO()
    snapshot.write_ipc_stream(buffer)
    return pl.read_ipc_stream(buffer.getvalue())


def new(aggregate: Aggregate | None = None, of: Stream = WEB) -> Aggregates:
    return Aggregates(aggregate or declared(), of)


def request(t: float, client: str = "a", server: str = "s1", path: str | None = "/", suspect: bool = False) -> Request:
    return (t, client, server, path, 200, 1.0, suspect)
