"""Rules by id, and their vectorised evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from hackwatch.detect.rules.matching import StreamRules, nothing
from hackwatch.streams.stream import Stream
from hackwatch.words import Severity

__all__ = ["Rule", "RuleSet"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: due when `at_least` records of one entity match within `within_seconds` (0: each alone).

    `where`: the condition, SQL over the stream's normalised columns. `technique`: ATT&CK id.
    `source`: file:line.
    """

    id: str
    title: str
    stream: str
    where: str
    severity: Severity
    technique: str | None = None
    tactic: str | None = None
    description: str = ""
    must_fire: tuple[Mapping[str, Any], ...] = ()
    must_not_fire: tuple[Mapping[str, Any], ...] = ()
    at_least: int = 1
    within_seconds: float = 0.0
    source: str = ""


class RuleSet:
    """Rules by id, and their evaluation on whole batches. Thread-safe; the rules never change."""

    def __init__(self, rules: Iterable[Rule] = (), streams: Mapping[str, Stream] | None = None) -> None:
        self._rules = {rule.id: rule for rule in rules}
        self._thresholds = frozenset(rule.id for rule in self if rule.at_least > 1)
        known = streams or {}
        by_stream: dict[str, list[Rule]] = {}
        for rule in self:
            by_stream.setdefault(rule.stream, []).append(rule)
        self._parts = {
            name: StreamRules({rule.id: rule.where for rule in rules}, known[name].schema)
            for name, rules in by_stream.items()
        }

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules.values())

    def __contains__(self, rule_id: object) -> bool:
        return rule_id in self._rules

    def __getitem__(self, rule_id: str) -> Rule:
        return self._rules[rule_id]

    def get(self, rule_id: str) -> Rule | None:
        """A rule by its id; None if there is none of that id."""
        return self._rules.get(rule_id)

    @property
    def thresholds(self) -> frozenset[str]:
        """The rules that need several records: one record that matches them is nothing special."""
        return self._thresholds

    def match(self, stream: str, records: pl.DataFrame) -> pl.Series:
        """Ids of the matching rules per row: `rules`, List(String), in file order, empty where none matches.

        `records` holds at least the columns that the stream's rules look at. A null makes a condition false.
        """
        if stream not in self._parts or records.is_empty():
            return nothing(len(records))
        return self._parts[stream].match(records)
