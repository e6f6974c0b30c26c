"""A family of another kind, as a third party would write it: clients of a web shop, no machines and no programs.

    [project.entry-points."hackwatch.families"]
    shop = "shop_family:FAMILY"

    [project.entry-points."hackwatch.streams"]
    visit = "shop_family:VISIT"
    login = "shop_family:LOGIN"

Nothing in it is called as in the streams of a host: a record is about a client, of which there are many; its clock is
that of a server, or of a gate; the two streams share a client and its agent, and no source.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from hackwatch.streams.declarations import (
    Aggregate,
    Correlation,
    Count,
    Distinct,
    Family,
    Mean,
    Panel,
    Quantile,
    Share,
    Sum,
    Top,
)
from hackwatch.streams.decode import Decoder
from hackwatch.streams.fields import LABELLED, Field, Kind, Option
from hackwatch.streams.stream import EventFields, Features, Noun, Stream

__all__ = ["FAMILY", "LOGIN", "SERVERS", "VISIT"]

_TIME = pl.Datetime("us", "UTC")
_EVENT_TIME = (pl.col("ts") * 1e6).round().cast(pl.Int64).cast(_TIME).alias("event_time")
_CLIENT = Field("client", Kind.TEXT, 1, 64)
_AGENT = Field("agent", Kind.TEXT, 1, 256)
_TS = Field("ts", Kind.TIME, 1, 2.0**33)


def _in_mib(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    return tuple(replace(field, letterless=2.0**20) if field.kind is Kind.SIZE else field for field in fields)


def _event_times(columns: dict[str, list[Any]]) -> list[int]:
    times: list[int] = np.rint(np.array(columns["ts"]) * 1e6).astype(np.int64).tolist()
    return times


def _derive(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    pairs = zip(columns["client"], columns["path"], strict=True)
    return {"client_path": [f"{client} {path}" for client, path in pairs], "event_time": _event_times(columns)}


_VISIT_SCHEMA = pl.Schema(
    {
        "client": pl.String(),
        "server": pl.String(),
        "path": pl.String(),
        "agent": pl.String(),
        "status": pl.Int64(),
        "bytes": pl.Float64(),
        "seconds": pl.Float64(),
        "ts": pl.Float64(),
        "client_path": pl.String(),
        "event_time": _TIME,
    }
)

#: One request for a page of the shop.
VISIT = Stream(
    name="visit",
    schema=_VISIT_SCHEMA,
    entity="client",
    noun=Noun("client", "clients"),
    subject="path",
    identity="client_path",
    source="server",
    identifiers=("client", "server", "client_path", "ts", "event_time"),
    features=Features(numeric=("status",), log=("bytes", "seconds"), categorical=("path", "agent")),
    units={"status": "HTTP status", "bytes": "bytes", "seconds": "seconds", "ts": "seconds"},
    bounded=("client", "server"),
    events=EventFields(
        ecs={"client": "client.ip", "server": "server.address", "path": "url.path", "agent": "user_agent.original"},
        ocsf={"client": "src_endpoint.ip", "server": "dst_endpoint.hostname", "path": "url.path"},
        resource="client",
    ),
    decode=Decoder(
        "visit",
        _VISIT_SCHEMA,
        (
            _CLIENT,
            Field("server", Kind.TEXT, 1, 255),
            Field("path", Kind.TEXT, 1, 4096, strip=False),
            _AGENT,
            Field("status", Kind.INTEGER, 100, 599),
            Field("bytes", Kind.SIZE, 0, 2.0**50),
            Field("seconds", Kind.FRACTION, 0, 86_400),
            _TS,
        ),
        {
            "client_path": pl.concat_str("client", "path", separator=" ").alias("client_path"),
            "event_time": _EVENT_TIME,
        },
        _derive,
        truth=LABELLED,
        options=(Option("letterless_mib", "Sizes without a unit letter are MiB instead of bytes.", _in_mib),),
    ),
)

_LOGIN_SCHEMA = pl.Schema(
    {
        "client": pl.String(),
        "gate": pl.String(),
        "user": pl.String(),
        "agent": pl.String(),
        "failed": pl.Int64(),
        "waited": pl.Float64(),
        "ts": pl.Float64(),
        "event_time": _TIME,
    }
)

#: One attempt to log in to the shop; what the client waited before is null at its first.
LOGIN = Stream(
    name="login",
    schema=_LOGIN_SCHEMA,
    entity="client",
    noun=Noun("client", "clients"),
    subject="user",
    identity="user",
    source="gate",
    identifiers=("client", "gate", "user", "ts", "event_time"),
    features=Features(numeric=("failed",), log=("waited",), categorical=("agent",)),
    units={"failed": "0 or 1", "waited": "seconds", "ts": "seconds"},
    bounded=("client",),
    events=EventFields(
        ecs={"client": "client.ip", "gate": "server.address", "user": "user.name"},
        ocsf={"client": "src_endpoint.ip", "user": "user.name"},
        resource="client",
    ),
    decode=Decoder(
        "login",
        _LOGIN_SCHEMA,
        (
            _CLIENT,
            Field("gate", Kind.TEXT, 1, 255),
            Field("user", Kind.TEXT, 1, 255),
            _AGENT,
            Field("failed", Kind.INTEGER, 0, 1),
            Field("waited", Kind.FRACTION, 0, 86_400, nullable=True),
            _TS,
        ),
        {"event_time": _EVENT_TIME},
        truth=LABELLED,
    ),
)

#: What a minute was like on each server, whoever came.
SERVERS = Aggregate(
    "servers",
    "visit",
    ("server",),
    (
        Count("visits"),
        Count("suspects", "prediction = 1"),
        Sum("bytes", "bytes"),
        Mean("seconds", "seconds", "status < 400"),
        Share("errors", "status >= 400"),
        Distinct("clients", "client"),
        Top("paths", "path", most=3),
        Quantile("slowness", "seconds"),
    ),
    seconds=60,
)

FAMILY = Family(
    name="shop",
    streams=("visit", "login"),
    correlations=(
        Correlation(
            name="takeovers",
            left="visit",
            right="login",
            keys=("client",),
            seconds=20.0,
            rule="account-takeover",
            title="{entity} is suspect in {left} ({subject}) and {right}",
        ),
        # The other way round, and by the tool whoever uses it: neither entity nor source are among the keys.
        Correlation(
            name="sprees",
            left="login",
            right="visit",
            keys=("agent",),
            seconds=5.0,
            rule="tool-spree",
            title="one tool logs in as {subject} and is suspect in {right} within seconds",
        ),
    ),
    aggregates=(
        SERVERS,
        Aggregate(
            "gates", "login", ("gate", "failed"), (Count("attempts"), Distinct("users", "user")), seconds=60,
            where="waited IS NOT NULL",
        ),
    ),
    panels=(Panel("busiest", "the busiest servers", "visit", "servers", "visits", top=3),),
    simulator="shop_simulator:SIMULATOR",
)  # fmt: skip
