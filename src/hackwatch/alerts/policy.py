"""When a person is told, and what: alerts from rules, single suspects, attacks and anomalous windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.alerts.alert import SEVERITIES, Alert, AlertUpdate, Cause, Kind, Severity, alert_id
from hackwatch.alerts.options import AlertOptions
from hackwatch.alerts.suppression import SUBJECTS_KEPT, Occurrences, Suppressor
from hackwatch.detect.base import Detector, Driver
from hackwatch.pipeline.aggregates import Closed
from hackwatch.pipeline.detection import with_rules
from hackwatch.pipeline.skew import Skew
from hackwatch.streams.base import Stream, microseconds
from hackwatch.streams.declarations import Correlation, Outliers

__all__ = ["CLOCK_SKEW", "MANY_SOURCES", "SUSPECT", "AlertPolicy", "Rule", "RuleBook", "system_alert"]

SUSPECT, CLOCK_SKEW, MANY_SOURCES = "suspect", "clock-skew", "too-many-sources"
RISK: dict[str, int] = {"informational": 10, "low": 30, "medium": 55, "high": 80, "critical": 95}
RISK_FLOOR: tuple[tuple[int, Severity], ...] = (
    (90, "critical"), (70, "high"), (40, "medium"), (20, "low"), (0, "informational"),
)  # fmt: skip
#: How long after an interval has ended (watermark) its count is kept, beyond the longest rule: microseconds.
KEEP = 60_000_000

Detectors = Mapping[str, Detector | None]
Drivers = tuple[Driver, ...]
Row = Mapping[str, Any]


class Rule(Protocol):
    """What alerting needs to know of a rule."""

    @property
    def title(self) -> str: ...
    @property
    def severity(self) -> Severity: ...
    @property
    def technique(self) -> str | None: ...
    @property
    def tactic(self) -> str | None: ...
    @property
    def at_least(self) -> int: ...
    @property
    def within_seconds(self) -> float: ...


class RuleBook(Protocol):
    """Rules by id."""

    def __getitem__(self, rule_id: str, /) -> Rule: ...
    def __contains__(self, rule_id: object, /) -> bool: ...


class AlertPolicy:
    """Turns what the pipeline found into alerts, one per entity, rule and suppression interval."""

    def __init__(self, options: AlertOptions, rules: RuleBook | None) -> None:
        self.options, self.rules = options, rules
        self.suppressor = Suppressor(options.suppress_seconds, options.site)
        self._reach = KEEP

    def records(
        self,
        stream: Stream,
        topic: str,
        records: pl.DataFrame,
        detectors: Detectors,
        wall: float,
        *,
        on_suspect: bool,
    ) -> list[Alert]:
        """Alerts of rules and, if asked for, of single suspects. `records`: scored, with `late`."""
        raised: list[tuple[Occurrences, int, Row]] = []
        matched = with_rules(records["rules"])
        if self.rules is not None and len(matched):
            raised += self._raised(stream, records, matched, records["rules"][matched].to_list())
        if on_suspect:
            suspect = records["prediction"].to_numpy() == 1
            suspect[matched] = False
            rows = np.flatnonzero(suspect)
            raised += self._raised(stream, records, rows, [[SUSPECT]] * len(rows))
        if not raised:
            return []
        drivers = _drivers(stream, [row for _, _, row in raised], detectors)
        models = _models(detectors, stream.name)
        return [
            self._from_record(stream, topic, seen, interval, row, why, models, wall)
            for (seen, interval, row), why in zip(raised, drivers, strict=True)
        ]

    def _raised(
        self, stream: Stream, records: pl.DataFrame, rows: npt.NDArray[np.intp], rules: Sequence[Sequence[str]]
    ) -> Iterator[tuple[Occurrences, int, Row]]:
        """What is to be raised now, per interval, with the first record that showed it. `rules`: of each of `rows`."""
        names = (stream.entity, "event_time", stream.subject, "late")
        entities, times, subjects, late = (records[name][rows] for name in names)
        for seen, first in self._groups(stream.name, entities, rules, microseconds(times), subjects, late):
            if seen.rule == SUSPECT or (self.rules is not None and seen.rule in self.rules):
                for interval in self.suppressor.add(seen):
                    record = records.row(int(rows[first]), named=True)
                    yield seen, interval, record if seen.rule == SUSPECT else record | {"rules": seen.rule}

    def pairs(
        self, declared: Correlation, left: Stream, right: Stream, topics: Mapping[str, str], pairs: pl.DataFrame,
        detectors: Detectors, wall: float,
    ) -> list[Alert]:  # fmt: skip
        """Alerts of correlated pairs (columns of the correlator's schema)."""
        name = f"{left.name}+{right.name}"
        times = np.maximum(*(microseconds(pairs[f"{stream.name}_event_time"]) for stream in (left, right)))
        entities, subjects = (_of_pair(pairs, left, column) for column in (left.entity, left.subject))
        groups = self._groups(name, entities, [[declared.rule]] * len(pairs), times, subjects)
        raised = [(seen, pairs.row(row, named=True)) for seen, row in groups if self.suppressor.add(seen)]
        sides = [{stream.name: _side(stream, row) for stream in (left, right)} for _, row in raised]
        why = [_drivers(stream, [side[stream.name] for side in sides], detectors) for stream in (left, right)]
        return [
            self._pair(
                declared, left, right, topics, seen, row, side, {left.name: w_left, right.name: w_right}, detectors,
                wall,
            )
            for (seen, row), side, w_left, w_right in zip(raised, sides, *why, strict=True)
        ]  # fmt: skip

    def outliers(
        self, stream: Stream, outliers: Outliers, found: Sequence[tuple[Closed, float]], wall: float
    ) -> list[Alert]:
        """Alerts of final intervals of an aggregate that stand out, each with the usual value."""
        return [self._outlier(stream, outliers, closed, usual, wall) for closed, usual in found]

    def skewed(self, stream: Stream, skews: Sequence[Skew], wall: float) -> list[Alert]:
        """Alerts of hackwatch about sources whose clocks are wrong."""
        return [self._skewed(stream, skew, wall) for skew in skews]

    def crowded(self, stream: Stream, most: int, wall: float) -> Alert:
        """The alert that there are more sources than are told apart."""
        title = f"{stream.name}: more than {most:,} sources; those beyond share one clock"
        detail = "names come from messages: look at who sends them; max_sources says how many are told apart"
        return system_alert(stream.name, "hackwatch", MANY_SOURCES, str(most), title, detail, wall, self.options.site)

    def _skewed(self, stream: Stream, skew: Skew, wall: float) -> Alert:
        way = "ahead of" if skew.seconds > 0 else "behind"
        title = f"The clock of {skew.source} is {abs(skew.seconds):,.0f} s {way} the others in {stream.name}"
        detail = "its own records are judged by its own clock; correct the clock: its times do not fit those of others"
        entity = skew.source if stream.source == stream.entity else "hackwatch"
        return system_alert(
            stream.name, entity, CLOCK_SKEW, skew.source, title, detail, wall, self.options.site, severity="low"
        )

    def take_updates(self) -> list[AlertUpdate]:
        return self.suppressor.take_updates()

    def evict(self, mark: Callable[[str, str], int]) -> None:
        """Forget what is over. `mark`: the watermark that decides for (stream, entity), microseconds."""
        self.suppressor.evict(mark, self._reach)

    # -- occurrences ---------------------------------------------------------------------------------------------

    def _groups(
        self, name: str, entities: pl.Series, rules: Sequence[Sequence[str]], times: npt.NDArray[np.int64],
        subjects: pl.Series, late: pl.Series | None = None,
    ) -> Iterator[tuple[Occurrences, int]]:  # fmt: skip
        """Occurrences per entity, rule and interval, each with its first row; those of late records by themselves,
        behind the others. `rules`: those that each row shows."""
        groups: dict[tuple[bool, str, str, int], tuple[int, list[int], set[str]]] = {}
        behind = [False] * len(entities) if late is None else late.to_list()
        rows = zip(behind, entities.to_list(), rules, times.tolist(), subjects.to_list(), strict=True)
        for row, (is_late, who, shown, time, what) in enumerate(rows):
            for rule in shown:
                key = (is_late, who, rule, time // self.suppressor.length)
                _, when, what_all = groups.setdefault(key, (row, [], set()))
                when.append(time)
                what_all.add(what)
        for (is_late, who, rule, interval), (row, when, what_all) in sorted(groups.items(), key=lambda one: one[0][0]):
            few = sorted(what_all)[:SUBJECTS_KEPT]
            yield Occurrences(name, who, rule, interval, when, few, *self._storm(rule), is_late), row

    def _storm(self, rule_id: str) -> tuple[int, int]:
        if self.rules is None or rule_id not in self.rules:
            return 1, 0
        rule = self.rules[rule_id]
        within = round(rule.within_seconds * 1e6)
        self._reach = max(self._reach, KEEP + within)
        return rule.at_least, within

    # -- the alerts themselves -----------------------------------------------------------------------------------

    def _from_record(
        self, stream: Stream, topic: str, seen: Occurrences, interval: int, row: Row, why: Drivers,
        models: Mapping[str, str], wall: float,
    ) -> Alert:  # fmt: skip
        """The alert of a rule, or of a single suspect."""
        subject = row[stream.subject]
        causes, evidence = (_cause(topic, row, ""),), _evidence(row)
        drivers = {stream.name: why} if why else {}
        if self.rules is not None and seen.rule in self.rules:
            rule = self.rules[seen.rule]
            return self._alert(
                "rule", seen, rule.title, rule.severity, RISK[rule.severity], subject, wall, interval=interval,
                technique=rule.technique, tactic=rule.tactic, drivers=drivers, evidence=evidence, causes=causes,
                models=models,
            )  # fmt: skip
        risk = round(30 + 30 * row["score"])
        title = f"Anomalous {stream.name} record of {subject} on {seen.entity}"
        return self._alert(
            "anomaly", seen, title, _severity(risk), risk, subject, wall, interval=interval, drivers=drivers,
            evidence=evidence, causes=causes, models=models,
        )  # fmt: skip

    def _pair(
        self, declared: Correlation, left: Stream, right: Stream, topics: Mapping[str, str], seen: Occurrences,
        row: Row, sides: Mapping[str, Row], drivers: Mapping[str, Drivers], detectors: Detectors, wall: float,
    ) -> Alert:  # fmt: skip
        matched = [rule for side in sides.values() for rule in side["rules"] or [] if self._storm(rule)[0] <= 1]
        rule = next((self.rules[r] for r in matched if self.rules is not None and r in self.rules), None)
        score = sum(side["score"] for side in sides.values()) / 2
        risk = round(70 + 18 * score + (10 if matched else 0))
        subject = sides[left.name][left.subject]
        title = declared.title.format(subject=subject, left=left.name, right=right.name, entity=seen.entity)
        return self._alert(
            "attack", seen, title, _severity(risk), risk, subject, wall,
            technique=rule.technique if rule else None, tactic=rule.tactic if rule else None,
            drivers=drivers, evidence=_evidence(row),
            causes=tuple(_cause(topics[s.name], row, f"{s.name}_") for s in (left, right)),
            models=_models(detectors, left.name, right.name),
        )  # fmt: skip

    def _outlier(self, stream: Stream, outliers: Outliers, closed: Closed, usual: float, wall: float) -> Alert:
        value, entity = closed.values[outliers.measure], "-" if closed.keys[0] is None else str(closed.keys[0])
        seconds = closed.end - closed.start
        seen = Occurrences(stream.name, entity, outliers.rule, closed.start, [closed.end * 1_000_000], [entity])
        risk = min(69, round(45 + value / (usual + 1)))
        driver = Driver(outliers.measure, f"{value:g}", f"{usual:g}", float(value - usual))
        return self._alert(
            "window", seen, outliers.title.format(value=value, entity=entity, seconds=seconds, usual=usual),
            _severity(risk), risk, entity, wall,
            drivers={stream.name: (driver,)},
            evidence={"start": closed.start, "end": closed.end, **closed.values},
        )  # fmt: skip

    def _alert(
        self, kind: Kind, seen: Occurrences, title: str, severity: Severity, risk: int, subject: str, wall: float,
        *, interval: int | None = None, technique: str | None = None, tactic: str | None = None,
        drivers: Mapping[str, tuple[Driver, ...]] | None = None, evidence: Mapping[str, Any] | None = None,
        causes: tuple[Cause, ...] = (), models: Mapping[str, str] | None = None,
    ) -> Alert:  # fmt: skip
        interval = seen.interval if interval is None else interval
        times = seen.times[:1] if seen.late else seen.times
        return Alert(
            id=self.suppressor.id(seen.stream, seen.entity, seen.rule, interval),
            kind=kind, stream=seen.stream, entity=seen.entity, rule=seen.rule, title=title, severity=severity,
            risk=risk, subject=subject, first_seen=min(times) / 1e6, last_seen=max(times) / 1e6,
            created=wall, site=self.options.site, technique=technique, tactic=tactic, count=len(times),
            drivers=drivers or {}, evidence=evidence or {}, causes=causes, models=models or {},
        )  # fmt: skip

    # -- state ---------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        return {"suppressor": self.suppressor.snapshot()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        self.suppressor.restore(snapshot["suppressor"])


def system_alert(
    stream: str, entity: str, rule: str, occurrence: str, title: str, detail: str, wall: float, site: str = "local",
    *, severity: Severity = "medium",
) -> Alert:  # fmt: skip
    """An alert of hackwatch about itself; `occurrence` makes its id unique."""
    return Alert(
        id=alert_id(stream, entity, rule, occurrence, site), kind="system", stream=stream, entity=entity, rule=rule,
        title=title, severity=severity, risk=RISK[severity] - 5, subject=occurrence, first_seen=wall, last_seen=wall,
        created=wall, site=site, evidence={"detail": detail},
    )  # fmt: skip


def _of_pair(pairs: pl.DataFrame, stream: Stream, column: str) -> pl.Series:
    """A stream's column in pairs: a join key under its own name, any other one with the stream's name before it."""
    return pairs.get_column(column if column in pairs.columns else f"{stream.name}_{column}")


def _severity(risk: int) -> Severity:
    return next((severity for floor, severity in RISK_FLOOR if risk >= floor), SEVERITIES[0])


def _side(stream: Stream, pair: Row) -> dict[str, Any]:
    """One side of a pair, under the stream's own column names."""
    prefix = f"{stream.name}_"
    keys = {name: value for name, value in pair.items() if name in stream.schema}
    return keys | {n.removeprefix(prefix): v for n, v in pair.items() if n.startswith(prefix)}


def _drivers(stream: Stream, rows: Sequence[Row], detectors: Detectors) -> list[Drivers]:
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


def _models(detectors: Detectors, *streams: str) -> dict[str, str]:
    return {name: found.version for name in streams if (found := detectors.get(name)) is not None}


def _cause(topic: str, row: Row, prefix: str) -> Cause:
    return Cause(topic, row[f"{prefix}partition"], row[f"{prefix}offset"], row[f"{prefix}index"])


def _evidence(row: Row) -> dict[str, Any]:
    """The record as plain JSON values; times as Unix seconds."""
    return {
        name: value.timestamp() if isinstance(value, datetime) else value
        for name, value in row.items()
        if value is not None and not name.startswith("_")
    }
