"""A stream and records made up for these tests: every kind of feature, nulls, and attacks of three types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from hackwatch.detect.bundle import Bundle
from hackwatch.detect.training import Options, train
from hackwatch.streams.base import Decoded, DecodeOptions, Features, Messages, Noun, Stream

SCHEMA = pl.Schema(
    {
        "machine": pl.String(),
        "PID": pl.Int64(),
        "CMD": pl.String(),
        "State": pl.String(),
        "NICE": pl.Int64(),
        "CPU": pl.Float64(),
        "RSIZE": pl.Float64(),
        "RGROW": pl.Float64(),
        "CMD_PID": pl.String(),
        "event_time": pl.Datetime("us", "UTC"),
    }
)


def _decode(messages: Messages, options: DecodeOptions) -> Decoded:
    raise NotImplementedError("these tests start from normalised records")


STREAM = Stream(
    name="process",
    schema=SCHEMA,
    entity="machine",
    noun=Noun("machine", "machines"),
    subject="CMD",
    identity="CMD_PID",
    source="machine",
    identifiers=("machine", "PID", "CMD_PID", "event_time"),
    features=Features(numeric=("NICE", "CPU"), log=("RSIZE", "RGROW"), categorical=("CMD", "State")),
    units={"CPU": "fraction", "RSIZE": "bytes", "RGROW": "bytes", "NICE": "niceness"},
    decode=_decode,
)

#: Type of attack -> what it changes in a record.
ATTACKS: dict[str, dict[str, object]] = {
    "dos": {"CPU": 0.97},
    "injection": {"RSIZE": 3e10},
    "scanning": {"CPU": 0.9, "State": "R"},
}


def records(rows: int = 3000, seed: int = 1, attacks: float = 0.1, machines: int = 2) -> pl.DataFrame:
    """Labelled records over one day; null NICE for finished processes (State E)."""
    random = np.random.default_rng(seed)
    state = random.choice(["S", "R", "E"], rows, p=[0.9, 0.06, 0.04])
    programs = random.zipf(1.5, rows) % 40
    size = np.exp(random.normal(16 + programs % 3, 0.5))
    frame = pl.DataFrame(
        {
            "machine": [f"host-{number}" for number in random.integers(0, machines, rows)],
            "PID": random.integers(1, 30_000, rows),
            "CMD": [f"program-{number}" for number in programs],
            "State": state,
            "NICE": np.where(programs % 7 == 0, -20, 0),
            "CPU": np.round(random.beta(1, 20, rows), 3),
            "RSIZE": np.round(size, -3),
            "RGROW": np.round(random.normal(0, 1, rows) * size * 0.01, -3),
            "event_time": np.linspace(1.7e15, 1.7e15 + 86_400e6, rows).astype(np.int64),
        }
    ).with_columns(
        pl.when(pl.col("State") != "E").then("NICE").alias("NICE"),
        (pl.col("CMD") + "_" + pl.col("PID").cast(pl.String)).alias("CMD_PID"),
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
