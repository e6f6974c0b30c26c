"""A stream and records made up for these tests: every kind of feature, nulls, and attacks of three types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from hackwatch.detect.bundle import Bundle
from hackwatch.detect.training import Options, train
from hackwatch.streams.stream import Decoded, DecodeOptions, Features, Messages, Noun, Stream

SCHEMA = pl.Schema(
    {
        "client": pl.String(),
        "session": pl.Int64(),
        "path": pl.String(),
        "method": pl.String(),
        "status": pl.Int64(),
        "load": pl.Float64(),
        "bytes": pl.Float64(),
        "growth": pl.Float64(),
        "path_session": pl.String(),
        "event_time": pl.Datetime("us", "UTC"),
    }
)


def _decode(messages: Messages, options: DecodeOptions) -> Decoded:
    raise NotImplementedError("these tests start from normalised records")


STREAM = Stream(
    name="visit",
    schema=SCHEMA,
    entity="client",
    noun=Noun("client", "clients"),
    subject="path",
    identity="path_session",
    source="client",
    identifiers=("client", "session", "path_session", "event_time"),
    features=Features(numeric=("status", "load"), log=("bytes", "growth"), categorical=("path", "method")),
    units={"load": "fraction", "bytes": "bytes", "growth": "bytes", "status": "HTTP status"},
    decode=_decode,
)

#: Type of attack -> what it changes in a record.
ATTACKS: dict[str, dict[str, object]] = {
    "dos": {"load": 0.97},
    "injection": {"bytes": 3e10},
    "scanning": {"load": 0.9, "method": "POST"},
}


def records(rows: int = 3000, seed: int = 1, attacks: float = 0.1, clients: int = 2) -> pl.DataFrame:
    """Labelled records over one day; null status where only the head was asked for."""
    random = np.random.default_rng(seed)
    method = random.choice(["GET", "POST", "HEAD"], rows, p=[0.9, 0.06, 0.04])
    pages = random.zipf(1.5, rows) % 40
    size = np.exp(random.normal(16 + pages % 3, 0.5))
    frame = pl.DataFrame(
        {
            "client": [f"192.0.2.{number}" for number in random.integers(0, clients, rows)],
            "session": random.integers(1, 30_000, rows),
            "path": [f"/page/{number}" for number in pages],
            "method": method,
            "status": np.where(pages % 7 == 0, 200, 304),
            "load": np.round(random.beta(1, 20, rows), 3),
            "bytes": np.round(size, -3),
            "growth": np.round(random.normal(0, 1, rows) * size * 0.01, -3),
            "event_time": np.linspace(1.7e15, 1.7e15 + 86_400e6, rows).astype(np.int64),
        }
    ).with_columns(
        pl.when(pl.col("method") != "HEAD").then("status").alias("status"),
        (pl.col("path") + "_" + pl.col("session").cast(pl.String)).alias("path_session"),
        pl.col("event_time").cast(pl.Datetime("us", "UTC")),
    )
    kind = np.where(random.random(rows) < attacks, random.choice(list(ATTACKS), rows), "normal")
    frame = frame.select(list(SCHEMA)).with_columns(pl.Series("type", kind))
    for name, changes in ATTACKS.items():
        chosen = pl.col("type") == name
        frame = frame.with_columns(
            pl.when(chosen).then(pl.lit(value)).otherwise(column).alias(column) for column, value in changes.items()
        )
    return frame.with_columns((pl.col("type") != "normal").cast(pl.Int8).alias("label"))


#: Of small bundles.
OPTIONS = Options(seed=1, trees=20, depth=4, alert_budget=0.01)


def trained(method: str, seed: int = 1, rows: int = 3000) -> Bundle:
    """A small bundle of any method."""
    return train(records(rows), STREAM, method, replace(OPTIONS, seed=seed))
