"""Requests for the pages of a shop, as scored records that the policy is told of, by itself or through a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from hackwatch import streams
from hackwatch.alerts.observed import Records
from hackwatch.alerts.policy import AlertPolicy
from hackwatch.config import AlertSettings
from hackwatch.detect.rules import Rule, RuleSet
from hackwatch.pipeline.core import Batch, Now, Output, Pipeline
from hackwatch.pipeline.options import StreamOptions
from tests.third.days import START, scored

__all__ = ["INTERVAL", "LENGTH", "RULES", "Seen", "book", "hit", "observed", "pipeline", "raised", "step"]

LENGTH = AlertSettings().suppress_seconds
#: Where in its suppression interval START is, seconds.
INTERVAL = START % LENGTH

RULES = (
    Rule("probe", "a probe", "visit", "status = 404", "high", technique="T1595", tactic="reconnaissance"),
    Rule("storm", "a storm", "visit", "status = 403", "medium", at_least=3, within_seconds=10.0),
)


@dataclass(frozen=True)
class Seen:
    """One scored record of a client, by the clock of a server: `t` in seconds after START."""

    t: float
    client: str = "c1"
    server: str = "s1"
    subject: str = "/"
    suspect: bool = False
    rules: tuple[str, ...] = ()
    agent: str = "x"

    def row(self, stream: str = "visit") -> dict[str, Any]:
        own = {"server": self.server, "path": self.subject, "client_path": f"{self.client} {self.subject}"}
        return {
            **dict.fromkeys(streams.get(stream).schema),
            "client": self.client,
            "agent": self.agent,
            **(own if stream == "visit" else {"gate": self.server, "user": self.subject}),
            "event_time": round((START + self.t) * 1e6),
            "score": 0.9 if self.suspect else 0.1,
            "prediction": int(self.suspect),
            "rules": list(self.rules),
        }


def book(*rules: Rule) -> RuleSet:
    """Rules for the pages of the shop; they are said to match by the records themselves."""
    return RuleSet(rules, {"visit": streams.get("visit")})


def hit(t: float, rule: str = "probe", client: str = "c1", subject: str = "/.env") -> Seen:
    return Seen(t, client=client, subject=subject, suspect=True, rules=(rule,))


def observed(seen: Sequence[Seen], *, late: Iterable[int] = (), partition: int = 0, offset: int = 0) -> Records:
    """Records as the policy is told of them. `late`: which of them are."""
    stream, behind = streams.get("visit"), set(late)
    run = scored(stream, [one.row() for one in seen], partition=partition, offset=offset)
    flags = pl.Series("late", [number in behind for number in range(len(seen))], dtype=pl.Boolean)
    return Records(stream, run.topic, run.records.with_columns(flags))


def pipeline(
    options: StreamOptions | None = None, alerts: AlertSettings | None = None, rules: Sequence[Rule] = ()
) -> Pipeline:
    """The streams and correlations of the shop."""
    family, options = streams.family("shop"), options or StreamOptions()
    policy = AlertPolicy(alerts or AlertSettings(), book(*rules))
    return Pipeline({name: (streams.get(name), options) for name in family.streams}, family.correlations, policy)


def step(
    target: Pipeline, seen: Sequence[Seen], stream: str = "visit", *, offset: int = 0, elapsed: float = 0.0
) -> Output:
    run = scored(streams.get(stream), [one.row(stream) for one in seen], partition=0, offset=offset)
    return target.step(Batch([run]), Now(START + 9.0, elapsed))


def raised(target: Pipeline, seen: Sequence[Seen], *, offset: int = 0) -> list[str]:
    """The alerts of a step: the rule and whom it is about."""
    return [f"{alert.rule}@{alert.entity}" for alert in step(target, seen, offset=offset).alerts]
