"""What alerts say: title, severity, drivers and evidence of a rule, a single suspect, a pair or an outlier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from hackwatch.alerts.alert import Alert, Cause, Kind, alert_id
from hackwatch.alerts.observed import Detectors, Outlier, Pairs, Records, Row
from hackwatch.alerts.occurrences import Occurrences
from hackwatch.alerts.risk import risk_of, severity_of
from hackwatch.detect.detector import Driver
from hackwatch.detect.rules import Rule
from hackwatch.streams.stream import Stream
from hackwatch.words import Severity

__all__ = ["Drivers", "Finding", "drivers_of", "of_outlier", "of_pair", "of_rule", "of_suspect", "versions_of"]

Drivers = tuple[Driver, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What an alert says of what occurred; its fields are those of Alert."""

    kind: Kind
    title: str
    severity: Severity
    risk: int
    subject: str
    technique: str | None = None
    tactic: str | None = None
    drivers: Mapping[str, Drivers] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)

    def alert(self, seen: Occurrences, wall: float, site: str) -> Alert:
        """The alert of some occurrences. `wall`: processing time, Unix seconds UTC."""
        key, times = seen.key, seen.counted
        return Alert(
            id=alert_id(*key, site),
            kind=self.kind,
            stream=key.stream,
            entity=key.entity,
            rule=key.rule,
            title=self.title,
            severity=self.severity,
            risk=self.risk,
            subject=self.subject,
            first_seen=min(times) / 1e6,
            last_seen=max(times) / 1e6,
            created=wall,
            site=site,
            technique=self.technique,
            tactic=self.tactic,
            count=len(times),
            drivers=self.drivers,
            evidence=self.evidence,
            causes=self.causes,
            models=self.models,
        )


def of_rule(rule: Rule, records: Records, row: Row, why: Drivers, models: Mapping[str, str]) -> Finding:
    """A record has matched a rule. `why`: the drivers of its score, if it was suspect to the model too."""
    stream = records.stream
    return Finding(
        "rule",
        rule.title,
        rule.severity,
        risk_of(rule.severity),
        row[stream.subject],
        technique=rule.technique,
        tactic=rule.tactic,
        drivers={stream.name: why} if why else {},
        evidence=_evidence({**row, "rules": rule.id}),
        causes=(_cause(records.topic, row),),
        models=models,
    )


def of_suspect(records: Records, row: Row, why: Drivers, models: Mapping[str, str]) -> Finding:
    """A record is suspect to the model."""
    stream = records.stream
    risk, subject = round(30 + 30 * row["score"]), row[stream.subject]
    return Finding(
        "anomaly",
        f"Anomalous {stream.name} record of {subject} on {row[stream.entity]}",
        severity_of(risk),
        risk,
        subject,
        drivers={stream.name: why} if why else {},
        evidence=_evidence(row),
        causes=(_cause(records.topic, row),),
        models=models,
    )


def of_pair(
    pairs: Pairs, row: Row, matched: Sequence[Rule | None], why: Mapping[str, Drivers], models: Mapping[str, str]
) -> Finding:
    """Suspects of two streams belong together. `matched`: the rules that one of them matches; None for one of before.

    `why`: the drivers of both, by stream.
    """
    rule = next(filter(None, matched), None)
    left, right = (pairs.side(stream, row) for stream in (pairs.left, pairs.right))
    score = (left["score"] + right["score"]) / 2
    risk, subject = round(70 + 18 * score + (10 if matched else 0)), left[pairs.left.subject]
    names = {"left": pairs.left.name, "right": pairs.right.name, "entity": left[pairs.left.entity]}
    return Finding(
        "attack",
        pairs.correlation.title.format(subject=subject, **names),
        severity_of(risk),
        risk,
        subject,
        technique=rule.technique if rule else None,
        tactic=rule.tactic if rule else None,
        drivers=why,
        evidence=_evidence(row),
        causes=tuple(_cause(pairs.topics[s.name], row, f"{s.name}_") for s in (pairs.left, pairs.right)),
        models=models,
    )


def of_outlier(stream: Stream, outlier: Outlier) -> Finding:
    """A value of an aggregate stands out against its key's own history."""
    declared, usual = outlier.declared, outlier.usual
    value = outlier.values[declared.measure]
    risk = min(69, round(45 + value / (usual + 1)))
    title = declared.title.format(value=value, entity=outlier.entity, seconds=outlier.end - outlier.start, usual=usual)
    return Finding(
        "window",
        title,
        severity_of(risk),
        risk,
        outlier.entity,
        drivers={stream.name: (Driver(declared.measure, f"{value:g}", f"{usual:g}", float(value - usual)),)},
        evidence={"start": outlier.start, "end": outlier.end, **outlier.values},
    )


def drivers_of(stream: Stream, rows: Sequence[Row], detectors: Detectors) -> list[Drivers]:
    """Why the model found each record suspect, all in one call; nothing where it did not (a rule alone matched)."""
    detector = detectors.get(stream.name)
    if detector is None:
        return [()] * len(rows)
    places = [place for place, row in enumerate(rows) if row["score"] >= detector.threshold]
    if not places:
        return [()] * len(rows)
    frame = pl.DataFrame([{name: rows[p][name] for name in stream.schema} for p in places], schema=stream.schema)
    found = dict(zip(places, map(tuple, detector.explain(frame)), strict=True))
    return [found.get(place, ()) for place in range(len(rows))]


def versions_of(detectors: Detectors, *streams: Stream) -> dict[str, str]:
    """The version of each stream's detector, where it has one."""
    return {one.name: found.version for one in streams if (found := detectors.get(one.name)) is not None}


def _cause(topic: str, row: Row, prefix: str = "") -> Cause:
    return Cause(topic, row[f"{prefix}partition"], row[f"{prefix}offset"], row[f"{prefix}index"])


def _evidence(row: Row) -> dict[str, Any]:
    """The record as plain JSON values; times as Unix seconds."""
    return {
        name: value.timestamp() if isinstance(value, datetime) else value
        for name, value in row.items()
        if value is not None and not name.startswith("_")
    }
