"""When a person is told: of rules, single suspects, correlated pairs, outliers, and of what is wrong with clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hackwatch.alerts.alert import Alert, AlertUpdate
from hackwatch.alerts.findings import drivers_of, of_outlier, of_pair, of_rule, of_suspect, versions_of
from hackwatch.alerts.observed import Detectors, Outlier, Pairs, Records, Skew
from hackwatch.alerts.occurrences import Key, Occurrences, Shown, Threshold
from hackwatch.alerts.suppression import Suppressor
from hackwatch.alerts.system import clock_skew, many_sources
from hackwatch.config import AlertSettings
from hackwatch.detect.rules import RuleSet, with_rules
from hackwatch.streams.stream import Stream, microseconds

__all__ = ["AlertPolicy"]

#: In place of a rule, of single suspects.
SUSPECT = "suspect"
#: How long after an interval has ended (watermark) its count is kept, beyond the longest rule: microseconds.
KEEP = 60_000_000
#: What needs no other occurrence.
_ALONE = Threshold()


class AlertPolicy:
    """Turns what the pipeline has observed into alerts, one per entity, rule and suppression interval.

    Where a method takes `wall`, that is the processing time of what it is told: Unix seconds UTC.
    """

    def __init__(self, options: AlertSettings, rules: RuleSet | None = None, site: str = "local") -> None:
        self.options, self.rules, self.site = options, RuleSet() if rules is None else rules, site
        self.suppressor = Suppressor(options.suppress_seconds, site)
        self._thresholds = {
            rule.id: Threshold(rule.at_least, round(rule.within_seconds * 1e6))
            for rule in self.rules
            if rule.at_least > 1
        }
        self._reach = KEEP + max((threshold.within for threshold in self._thresholds.values()), default=0)

    # -- what has been observed ------------------------------------------------------------------------------------

    def records(self, records: Records, detectors: Detectors, wall: float, *, on_suspect: bool) -> list[Alert]:
        """Alerts of rules and, if asked for, of single suspects."""
        matched = with_rules(records.rows["rules"])
        raised = list(self._of_rows(records, matched, records.rows["rules"][matched].to_list()))
        if on_suspect:
            suspect = records.rows["prediction"].to_numpy() == 1
            suspect[matched] = False
            rows = np.flatnonzero(suspect)
            raised += self._of_rows(records, rows, [[SUSPECT]] * len(rows))
        return self._of_records(records, raised, detectors, wall) if raised else []

    def _of_rows(
        self, records: Records, rows: npt.NDArray[np.intp], rules: Sequence[Sequence[str]]
    ) -> Iterator[Occurrences]:
        """What is to be raised now. `rules`: those that each of the `rows` shows."""
        if not len(rows):
            return
        stream = records.stream
        names = (stream.entity, stream.subject, "event_time", "late")
        entities, subjects, times, late = (records.rows[name][rows] for name in names)
        known = [[rule for rule in shown if rule == SUSPECT or rule in self.rules] for shown in rules]
        shown = Shown(
            stream.name, entities.to_list(), subjects.to_list(), microseconds(times).tolist(), known, late.to_list()
        )
        for seen in self._raised(shown):
            yield replace(seen, first=int(rows[seen.first]))

    def _of_records(
        self, records: Records, raised: Sequence[Occurrences], detectors: Detectors, wall: float
    ) -> list[Alert]:
        rows = [records.rows.row(seen.first, named=True) for seen in raised]
        models = versions_of(detectors, records.stream)
        findings = [
            of_suspect(records, row, why, models)
            if (rule := self.rules.get(seen.key.rule)) is None
            else of_rule(rule, records, row, why, models)
            for seen, row, why in zip(raised, rows, drivers_of(records.stream, rows, detectors), strict=True)
        ]
        return [finding.alert(seen, wall, self.site) for finding, seen in zip(findings, raised, strict=True)]

    def pairs(self, pairs: Pairs, detectors: Detectors, wall: float) -> list[Alert]:
        """Alerts of correlated pairs."""
        left, right = pairs.left, pairs.right
        entities, subjects = (pairs.of_left(name).to_list() for name in (left.entity, left.subject))
        rules, late = [[pairs.correlation.rule]] * len(entities), [False] * len(entities)
        raised = list(self._raised(Shown(pairs.name, entities, subjects, pairs.times().tolist(), rules, late)))
        rows = [pairs.rows.row(seen.first, named=True) for seen in raised]
        models = versions_of(detectors, left, right)
        sides = {stream.name: [pairs.side(stream, row) for row in rows] for stream in (left, right)}
        drivers = {stream.name: drivers_of(stream, sides[stream.name], detectors) for stream in (left, right)}
        alerts = []
        for place, (seen, row) in enumerate(zip(raised, rows, strict=True)):
            ids = [rule for side in sides.values() for rule in side[place]["rules"] or []]
            matched = [self.rules.get(rule) for rule in ids if rule not in self._thresholds]
            why = {name: found[place] for name, found in drivers.items()}
            alerts.append(of_pair(pairs, row, matched, why, models).alert(seen, wall, self.site))
        return alerts

    def outliers(self, stream: Stream, found: Sequence[Outlier], wall: float) -> list[Alert]:
        """Alerts of final intervals of an aggregate that stand out: each is one of its own."""
        alerts = []
        for outlier in found:
            key = Key(stream.name, outlier.entity, outlier.declared.rule, outlier.start)
            seen = Occurrences(key, [outlier.end * 1_000_000], [outlier.entity])
            alerts.append(of_outlier(stream, outlier).alert(seen, wall, self.site))
        return alerts

    def skewed(self, stream: Stream, skews: Sequence[Skew], wall: float) -> list[Alert]:
        """Alerts of hackwatch about sources whose clocks are wrong."""
        return [clock_skew(stream, skew).alert(wall, self.site) for skew in skews]

    def crowded(self, stream: Stream, most: int, wall: float) -> Alert:
        """The alert that there are more than `most` sources, beyond which they are not told apart."""
        return many_sources(stream, most).alert(wall, self.site)

    def _raised(self, shown: Shown) -> Iterator[Occurrences]:
        """Count what rows show; what is to be raised now, under the key of its alert."""
        for seen in shown.by_key(self.suppressor.length):
            for key in self.suppressor.add(seen, self._thresholds.get(seen.key.rule, _ALONE)):
                yield replace(seen, key=key)

    # -- what has become of alerts, and state ----------------------------------------------------------------------

    def take_updates(self) -> list[AlertUpdate]:
        """What has changed of raised alerts since the last call."""
        return self.suppressor.take_updates()

    def evict(self, mark: Callable[[str, str], int]) -> None:
        """Forget what is over. `mark`: the watermark that decides for (stream, entity), microseconds."""
        self.suppressor.evict(mark, self._reach)

    def snapshot(self) -> dict[str, Any]:
        """The state at the end of an epoch, after `take_updates`, as JSON can hold it."""
        return {"suppressor": self.suppressor.snapshot()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take up what `snapshot` gave."""
        self.suppressor.restore(snapshot["suppressor"])
