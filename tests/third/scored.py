"""Scored records of the shop as the tests of the pipeline write them down, and a pipeline that pairs its streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import polars as pl

from hackwatch.alerts.policy import AlertPolicy
from hackwatch.config import AlertSettings
from hackwatch.pipeline.core import Pipeline
from hackwatch.pipeline.detection import Scored
from hackwatch.pipeline.options import StreamOptions
from hackwatch.store.aggregates import window_rows as window_frame
from hackwatch.streams.declarations import Correlation
from hackwatch.streams.stream import Stream
from tests.third import shop
from tests.third.days import START, scored

__all__ = ["START", "TAKEOVERS", "Record", "WindowRow", "pipeline", "run", "window_rows"]


def _with_session(stream: Stream) -> Stream:
    """With a number by which its records are paired beside the client and the agent."""
    return replace(stream, schema=pl.Schema({**stream.schema, "session": pl.Int64()}))


_STREAMS = {"visit": _with_session(shop.VISIT), "login": _with_session(shop.LOGIN)}
TAKEOVERS = Correlation("takeovers", "visit", "login", ("client", "agent", "session"))


@dataclass(frozen=True)
class Record:
    """One scored record as the tests write it down: `t` in seconds after START; `server` is its source."""

    t: float
    client: str = "c1"
    agent: str = "curl"
    session: int = 1
    server: str = "s1"
    suspect: bool = False
    rules: tuple[str, ...] = ()
    key: str | None = None


#: What a record says beside its time, in the columns of its stream. The session tells suspects apart.
_TELL: Mapping[str, Callable[[Record], dict[str, Any]]] = {
    "visit": lambda r: {"server": r.server, "path": f"/{r.session}", "client_path": f"{r.client} /{r.session}"},
    "login": lambda r: {"gate": r.server, "user": f"user-{r.session}"},
}


def run(name: str, records: Sequence[Record], *, partition: int = 0, offset: int = 0, keyed: bool = False) -> Scored:
    """A scored run of one partition; offsets count on from `offset`."""
    stream = _STREAMS[name]
    rows = [{**dict.fromkeys(stream.schema), **_TELL[name](one), **_usual(one)} for one in records]
    found = scored(stream, rows, partition=partition, offset=offset)
    if not keyed:
        return found
    return replace(found, records=found.records.with_columns(key=pl.Series([r.key for r in records], dtype=pl.String)))


def _usual(one: Record) -> dict[str, Any]:
    return {
        "client": one.client, "agent": one.agent, "session": one.session,
        "event_time": round((START + one.t) * 1e6),
        "score": 0.9 if one.suspect else 0.1, "prediction": int(one.suspect), "rules": list(one.rules),
    }  # fmt: skip


def pipeline(options: StreamOptions | None = None) -> Pipeline:
    """Both streams with the same options; pairs are suspects of one client, agent and session within 30 s."""
    options = options or StreamOptions()
    return Pipeline(
        {name: (stream, options) for name, stream in _STREAMS.items()}, [TAKEOVERS], AlertPolicy(AlertSettings())
    )


class WindowRow(NamedTuple):
    """A window as the store has it, but for its source. `start`, `end`: Unix seconds. `distinct`: of its suspects."""

    stream: str
    entity: str
    start: int
    end: int
    records: int
    suspects: int
    distinct: int
    final: bool


def window_rows(target: Pipeline) -> list[WindowRow]:
    """The windows that have changed."""
    return [WindowRow(*row) for row in window_frame(target.take_aggregates()).drop("source").iter_rows()]
