"""Rules by id, and their vectorised evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.detect.rules.condition import compile_condition
from hackwatch.streams.base import Stream

__all__ = ["Rule", "RuleSet", "Severity"]

Severity = Literal["informational", "low", "medium", "high", "critical"]

#: Values whose verdicts are remembered; a stream of ever-new names starts anew instead of growing without end.
_REMEMBERED = 50_000
_LISTS = pl.List(pl.String())


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
        self._storms = frozenset(rule.id for rule in self if rule.at_least > 1)
        known = streams or {}
        by_stream: dict[str, list[Rule]] = {}
        for rule in self:
            by_stream.setdefault(rule.stream, []).append(rule)
        self._parts = {name: _StreamRules(rules, known[name].schema) for name, rules in by_stream.items()}

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules.values())

    def __contains__(self, rule_id: object) -> bool:
        return rule_id in self._rules

    def __getitem__(self, rule_id: str) -> Rule:
        return self._rules[rule_id]

    @property
    def storms(self) -> frozenset[str]:
        """The rules that need several records: one record that matches them is nothing special."""
        return self._storms

    def match(self, stream: str, records: pl.DataFrame) -> pl.Series:
        """Ids of the matching rules per row: `rules`, List(String), in file order, empty where none matches.

        `records` holds at least the columns that the stream's rules look at. A null makes a condition false.
        """
        if stream not in self._parts or records.is_empty():
            return pl.Series("rules", [[]], dtype=_LISTS).gather(np.zeros(len(records), dtype=np.uint32))
        return self._parts[stream].match(records)


class _StreamRules:
    """The rules of one stream.

    Text comparisons are dear, but the same few names occur again and again. So the parts of the conditions that
    look at one text column alone (CMD, for host streams) are judged once per distinct value and the verdicts
    remembered; the rest of a condition is evaluated on rows, if any value of the batch allows its rule.
    """

    def __init__(self, rules: Sequence[Rule], schema: pl.Schema) -> None:
        conditions = [compile_condition(rule.where, schema) for rule in rules]
        alone = [next(iter(used)) for each in conditions for used, _ in each.parts if len(used) == 1]
        texts = [column for column in alone if schema[column] == pl.String]
        self._ids = [rule.id for rule in rules]
        self._text = max(texts, key=texts.count) if texts else None
        split = [condition.split(self._text) for condition in conditions]
        self._by_value = [by_value for by_value, _ in split]
        self._by_row = {n: by_row for n, (_, by_row) in enumerate(split) if by_row is not None}
        self._verdicts: dict[str | None, int] = {}

    def match(self, records: pl.DataFrame) -> pl.Series:
        verdicts = self._judge(records)
        allowed = reduce(or_, verdicts.values())
        possible = [n for n in range(len(self._ids)) if allowed >> n & 1]
        holds = records.select(self._by_row[n].alias(f"{n}") for n in possible if n in self._by_row)
        places = self._places(records, list(verdicts))
        combinations: list[list[str]] = [[]]
        which = np.zeros(len(records), dtype=np.uint32)
        for n in possible:
            by_value = np.array([bool(verdict >> n & 1) for verdict in verdicts.values()])
            matches = by_value[places]
            if n in self._by_row:
                matches &= holds[f"{n}"].to_numpy()
            rows = np.flatnonzero(matches)
            if len(rows):
                # Rows share few combinations of rules: this rule extends those that its rows have so far.
                before, place = np.unique(which[rows], return_inverse=True)
                which[rows] = len(combinations) + place
                combinations += [[*combinations[number], self._ids[n]] for number in before]
        return pl.Series("rules", combinations, dtype=_LISTS).gather(which)

    def _places(self, records: pl.DataFrame, values: list[str | None]) -> npt.NDArray[np.uint32]:
        """Which of the distinct values of the text column each row has."""
        if self._text is None:
            return np.zeros(len(records), dtype=np.uint32)
        places = {value: place for place, value in enumerate(values) if value is not None}
        null = values.index(None) if None in values else 0
        numbered = records[self._text].replace_strict(
            list(places), list(places.values()), default=null, return_dtype=pl.UInt32
        )
        return numbered.to_numpy()

    def _judge(self, records: pl.DataFrame) -> dict[str | None, int]:
        """Per distinct value of the text column the rules that it allows: bit n for rule n."""
        if self._text is None:
            return {None: (1 << len(self._ids)) - 1}
        known = self._verdicts
        values = records[self._text].unique().to_list()
        new = [value for value in values if value not in known]
        if new:
            frame = pl.DataFrame({self._text: pl.Series(new, dtype=pl.String)})
            tests = [(pl.lit(True) if test is None else test).alias(f"{n}") for n, test in enumerate(self._by_value)]
            verdicts = frame.with_columns(tests).drop(self._text).to_numpy()
            bits = np.packbits(verdicts, axis=1, bitorder="little")
            judged = {value: int.from_bytes(row.tobytes(), "little") for value, row in zip(new, bits, strict=True)}
            known = {**known, **judged}
            # Replaced as a whole, so that threads that share the rules never see it half made.
            self._verdicts = judged if len(known) > _REMEMBERED else known
        return {value: known[value] for value in values}
