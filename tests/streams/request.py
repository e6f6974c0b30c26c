"""A stream unlike those of a host: lines of two formats and envelopes beside JSON, and every kind of field."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from hackwatch.streams.decode import Decoder
from hackwatch.streams.fields import Field, Kind, Truth
from hackwatch.streams.formats import CSV, JSON, matching
from hackwatch.streams.small import Columns
from hackwatch.streams.stream import Features, Noun, Stream

__all__ = ["REQUEST", "SHORT", "STREAM", "TABBED", "short", "wrapped"]

#: `192.0.2.1 [10/Oct/2000:13:55:36 -0700] F 512 /index`
SHORT = r"(?P<client>\S+) \[(?P<when>[^\]]+)\] (?P<bot>\S+) (?P<bytes>\S+) (?P<path>.+)"
#: The same in another order, whose lines begin as an array of JSON does: `[when\tclient\tbot\tbytes\tpath]`
TABBED = r"\[(?P<when>[^\t]+)\t(?P<client>[^\t]+)\t(?P<bot>[^\t]+)\t(?P<bytes>[^\t]+)\t(?P<path>[^\t]+)\]"

SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "client": pl.String(),
        "when": pl.Float64(),
        "bot": pl.Boolean(),
        "bytes": pl.Int64(),
        "path": pl.String(),
        "event_time": pl.Datetime("us", "UTC"),
    }
)
FIELDS = (
    Field("source", Kind.TEXT, 1, 255, strip=False, optional=True),
    Field("client", Kind.ADDRESS),
    Field("when", Kind.MOMENT, 1, 2.0**33),
    Field("bot", Kind.BOOLEAN),
    Field("bytes", Kind.INTEGER, 0, 2.0**53, nullable=True),
    Field("path", Kind.TEXT, 1, 4096, strip=False),
)


def _derive(columns: Columns) -> Columns:
    return {
        "source": ["here" if one is None else one for one in columns["source"]],
        "event_time": np.rint(np.array(columns["when"]) * 1e6).astype(np.int64).tolist(),
    }


STREAM = Stream(
    name="request",
    schema=SCHEMA,
    entity="client",
    noun=Noun("client", "clients"),
    subject="path",
    identity="path",
    source="source",
    identifiers=("source", "client", "when", "event_time"),
    features=Features((), ("bytes",), ()),
    units={"bytes": "bytes"},
    decode=Decoder(
        "request",
        SCHEMA,
        FIELDS,
        {
            "source": pl.col("source").fill_null("here"),
            "event_time": (pl.col("when") * 1e6)
            .round()
            .cast(pl.Int64)
            .cast(pl.Datetime("us", "UTC"))
            .alias("event_time"),
        },
        _derive,
        formats=(JSON, CSV, matching("short", SHORT), matching("tabbed", TABBED)),
        truth=Truth(
            (Field("verdict", Kind.TEXT, 1, 64, optional=True),),
            label=pl.col("verdict") != "normal",
            type=pl.col("verdict"),
        ),
    ),
    defaults={"client": lambda name, row: "192.0.2.7"},
)

#: A sound record.
REQUEST: dict[str, Any] = {
    "client": "192.0.2.1",
    "when": "2000-10-10T13:55:36-07:00",
    "bot": False,
    "bytes": 512,
    "path": "/index",
}


def short(**changes: Any) -> bytes:
    """A record as a line of the first format."""
    one = {**REQUEST, "when": "10/Oct/2000:13:55:36 -0700", "bot": "F", **changes}
    return f"{one['client']} [{one['when']}] {one['bot']} {one['bytes']} {one['path']}".encode()


def wrapped(line: str, form: str = "short", source: Any = "web-1", position: Any = 7) -> dict[str, Any]:
    """A line in an envelope."""
    return {"source": source, "position": position, "format": form, "line": line}
