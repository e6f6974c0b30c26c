"""What a person is told: one alert, deduplicated and explained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hackwatch.detect.detector import Driver
from hackwatch.words import SEVERITIES, Severity

__all__ = ["SEVERITIES", "Alert", "AlertUpdate", "Cause", "Kind", "Severity", "alert_id"]

#: `attack` is a correlated pair: alerts have always said so, to people and to what reads them.
Kind = Literal["attack", "rule", "window", "anomaly", "system"]


@dataclass(frozen=True, slots=True)
class Cause:
    """The position of a record that caused an alert."""

    topic: str
    partition: int
    offset: int
    index: int = 0


def alert_id(stream: str, entity: str, rule: str, interval: int | str, site: str = "local") -> str:
    """The deterministic id of an alert (32 hex digits): the same occurrences give the same id after any crash.

    `interval`: number of the suppression interval of event time, or what else names the occurrence. `site`: entities
    of two sites that share a store may have the same name.
    """
    text = "\x1f".join((stream, entity, rule, str(interval), site))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as it is first raised.

    `kind`: attack (correlated pair), rule, window (count against history), anomaly (single suspect), system.
    `rule`: id of the rule, or `correlated-suspects`, `anomalous-window`, `suspect`; with `entity` it is the
    suppression key: later occurrences within the suppression time only raise `count` and `last_seen`.
    `subject`: what it is about within the entity (a program, a path). `risk`: 0..100.
    `technique`: ATT&CK technique id (`T1496`) or None. `first_seen`/`last_seen`: event time, Unix seconds UTC.
    `created`: processing time, Unix seconds UTC. `drivers` per stream name. `evidence`: the causing record(s),
    column -> value. `causes`: their positions. `models`: version of each detector involved.
    """

    id: str
    kind: Kind
    stream: str
    entity: str
    rule: str
    title: str
    severity: Severity
    risk: int
    subject: str
    first_seen: float
    last_seen: float
    created: float
    site: str = "local"
    technique: str | None = None
    tactic: str | None = None
    count: int = 1
    drivers: Mapping[str, tuple[Driver, ...]] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertUpdate:
    """What happened to an alert since: absolute values, so that writing it twice changes nothing.

    `first_seen` is the least event time that counts; None where only the alert itself knows it.
    `subjects`: up to 10 distinct subjects seen, first ones first.
    """

    id: str
    count: int
    first_seen: float | None
    last_seen: float
    subjects: tuple[str, ...]
