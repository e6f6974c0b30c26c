"""Rules by id, and their vectorised evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from hackwatch.detect.rules.condition import Condition, compile_condition
from hackwatch.streams.base import Stream

__all__ = ["Rule", "RuleSet", "Severity"]

Severity = Literal["informational", "low", "medium", "high", "critical"]

#: Below this many rows it is cheaper to evaluate every rule on every row than to look for candidates first.
_SMALL = 1_000
_LISTS = pl.List(pl.String())


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It is due when `at_least` records of one entity match within `within_seconds` (0: each record alone).

    `where`: the condition, SQL over the stream's normalised columns. `technique`: ATT&CK id. `source`: file:line.
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


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The rules of one stream. `text`: the text column whose distinct values decide most rules' candidates."""

    rules: tuple[Rule, ...]
    conditions: tuple[Condition, ...]
    columns: tuple[str, ...]
    text: str | None

    @classmethod
    def build(cls, pairs: Sequence[tuple[Rule, Condition]]) -> _Part:
        conditions = tuple(condition for _, condition in pairs)
        used = [column for condition in conditions for column in condition.by_text]
        return cls(
            rules=tuple(rule for rule, _ in pairs),
            conditions=conditions,
            columns=tuple(sorted({column for condition in conditions for column in condition.columns})),
            text=max(used, key=used.count) if used else None,
        )


class RuleSet:
    """Rules by id, and their evaluation on whole batches. Immutable and thread-safe."""

    def __init__(self, rules: Iterable[Rule] = (), streams: Iterable[Stream] = ()) -> None:
        schemas = {stream.name: stream.schema for stream in streams}
        pairs: dict[str, list[tuple[Rule, Condition]]] = {}
        self._rules: dict[str, Rule] = {}
        for rule in rules:
            self._rules[rule.id] = rule
            pairs.setdefault(rule.stream, []).append(
                (rule, compile_condition(rule.where, schemas[rule.stream]))
            )
        self._parts = {stream: _Part.build(of_stream) for stream, of_stream in pairs.items()}

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules.values())

    def __contains__(self, rule_id: object) -> bool:
        return rule_id in self._rules

    def __getitem__(self, rule_id: str) -> Rule:
        return self._rules[rule_id]

    def of(self, stream: str) -> tuple[Rule, ...]:
        """The rules of one stream, in file order."""
        return self._parts[stream].rules if stream in self._parts else ()

    def match(self, stream: str, records: pl.DataFrame) -> pl.Series:
        """Ids of the matching rules per row, in file order: `rules`, List(String), an empty list where none matches.

        `records` holds at least the columns that the stream's rules look at. A null makes a condition false.
        """
        part = self._parts.get(stream)
        if part is None or records.is_empty():
            return _none(len(records))
        if len(records) <= _SMALL:
            found = _lists(part, range(len(part.rules)), records)
            return _none(len(records)) if found is None else found
        rows, possible = _candidates(part, records)
        if not possible or not rows.any():
            return _none(len(records))
        found = _lists(part, possible, records.select(part.columns).filter(rows))
        if found is None:
            return _none(len(records))
        return _spread(found, rows)


def _none(rows: int) -> pl.Series:
    return (
        pl.Series("rules", [[]], dtype=_LISTS).new_from_index(0, rows)
        if rows
        else pl.Series("rules", [], _LISTS)
    )


def _spread(found: pl.Series, rows: pl.Series) -> pl.Series:
    """Put the lists of the rows that are true among empty ones."""
    place = rows.cast(pl.get_index_type()).cum_sum()
    index = pl.select(pl.when(rows).then(place).otherwise(0)).to_series()
    return pl.concat([_none(1), found]).gather(index)


def _candidates(part: _Part, records: pl.DataFrame) -> tuple[pl.Series, list[int]]:
    """Which rows some rule may match, and the numbers of the rules that may match in this batch at all."""
    numbers = range(len(part.rules))
    by_text = {
        n: part.conditions[n].by_text[part.text] for n in numbers if part.text in part.conditions[n].by_text
    }
    tests = {n: part.conditions[n].expression for n in numbers if n not in by_text}
    possible = list(tests)
    expressions = list(tests.values())
    if part.text is not None:
        hits = records.select(pl.col(part.text).unique()).select(
            part.text, *(test.alias(f"#{n}") for n, test in by_text.items())
        )
        named = [n for n in by_text if hits[f"#{n}"].any()]
        if named:
            values = hits.filter(pl.any_horizontal([f"#{n}" for n in named]))[part.text]
            expressions.append(pl.col(part.text).is_in(values.implode()).fill_null(False))
            possible += named
    rows = records.select(rows=pl.any_horizontal(expressions or [pl.lit(False)]))["rows"]
    return rows, sorted(possible)


def _lists(part: _Part, numbers: Iterable[int], records: pl.DataFrame) -> pl.Series | None:
    """Evaluate these rules on every row; None if none matches.

    Rows share few combinations of rules, so that a list is made per combination: 64 rules to a mask.
    """
    chosen = list(numbers)
    words = [chosen[start : start + 64] for start in range(0, len(chosen), 64)]
    masks = records.select(
        pl.sum_horizontal(
            part.conditions[n].expression.cast(pl.UInt64) * pl.lit(1 << bit, pl.UInt64)
            for bit, n in enumerate(word)
        ).alias(f"#{place}")
        for place, word in enumerate(words)
    )
    combinations = masks.unique()
    ids = [
        [
            part.rules[n].id
            for mask, word in zip(row, words, strict=True)
            for bit, n in enumerate(word)
            if mask >> bit & 1
        ]
        for row in combinations.iter_rows()
    ]
    if not any(ids):
        return None
    lists = combinations.with_columns(rules=pl.Series(ids, dtype=_LISTS))
    return masks.join(lists, on=masks.columns, how="left", maintain_order="left")["rules"]
