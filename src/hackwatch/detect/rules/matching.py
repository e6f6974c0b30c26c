"""The rules of one stream, evaluated on whole frames with as few expressions over rows as can be."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence, Set
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.datatypes import IntegerType

from hackwatch.detect.rules.condition import Condition, compile_condition

__all__ = ["LISTS", "SMALL_ROWS", "StreamRules", "nothing", "with_rules"]

LISTS = pl.List(pl.String())
#: Frames up to this length are matched row by row in Python: there a query costs more than its rows.
SMALL_ROWS = 512

#: Combinations of values whose verdicts are remembered; a stream of ever-new names starts again instead of growing
#: without end.
_REMEMBERED = 50_000
_NOTHING = pl.Series("rules", [[]] * SMALL_ROWS, dtype=LISTS)
_BOUND = re.compile(r"\s*(\w+)\s*([<>]=?)\s*(\d+(?:\.\d+)?)\s*")


def nothing(rows: int) -> pl.Series:
    """No rule matches any of these rows."""
    if rows <= SMALL_ROWS:
        return _NOTHING.head(rows)
    return pl.Series("rules", [[]], dtype=LISTS).gather(np.zeros(rows, dtype=np.uint32))


def with_rules(rules: pl.Series) -> npt.NDArray[np.intp]:
    """The rows whose list of rules is not empty."""
    if len(rules) <= SMALL_ROWS:
        return np.array([row for row, matched in enumerate(rules.to_list()) if matched], np.intp)
    return np.flatnonzero(rules.list.len().to_numpy())


class StreamRules:
    """Conditions by rule id, in file order.

    Comparing texts costs much, but the same few names occur again and again. So the parts of the conditions that look
    at one text column alone are judged once per distinct value and the verdicts remembered; the rest of a condition is
    evaluated on rows, if any value of the batch allows its rule. In small frames it is the query that costs: there
    all parts that look at columns of few values are remembered, which leaves next to nothing.
    """

    def __init__(self, rules: Mapping[str, str], schema: pl.Schema) -> None:
        conditions = [compile_condition(where, schema) for where in rules.values()]
        used = [columns for condition in conditions for columns, _ in condition.parts]
        texts = [columns for columns in used if [schema[name] for name in columns] == [pl.String]]
        few = {columns for columns in used if all(_has_few_values(schema[name]) for name in columns)}
        self._ids = list(rules)
        self._large = _Verdicts(conditions, {max(texts, key=texts.count)} if texts else set(), schema)
        self._small = _Verdicts(conditions, few, schema)

    def match(self, records: pl.DataFrame) -> pl.Series:
        """Ids of the matching rules per row: `rules`, LISTS, in file order."""
        return self._match_small(records) if len(records) <= SMALL_ROWS else self._match_large(records)

    def _match_small(self, records: pl.DataFrame) -> pl.Series:
        found = [(1 << len(self._ids)) - 1] * len(records)
        for memory in self._small.memories:
            rows = list(zip(*(records.get_column(name).to_list() for name in memory.columns), strict=True))
            verdicts = memory.judge(set(rows))
            found = [bits & verdicts[row] for bits, row in zip(found, rows, strict=True)]
        possible = reduce(or_, found)
        some = {n: [row for row, bits in enumerate(found) if bits >> n & 1] for n in self._small.unsettled(possible)}
        for n, holds in self._small.holds(records, some).items():
            without = ~(1 << n)
            found = [bits if here else bits & without for bits, here in zip(found, holds.tolist(), strict=True)]
        if not any(found):
            return nothing(len(records))
        names = {bits: [name for n, name in enumerate(self._ids) if bits >> n & 1] for bits in set(found)}
        return pl.Series("rules", [names[bits] for bits in found], dtype=LISTS)

    def _match_large(self, records: pl.DataFrame) -> pl.Series:
        verdicts, places = [(1 << len(self._ids)) - 1], np.zeros(len(records), dtype=np.uint32)
        for memory in self._large.memories:  # one at the most
            text = records.get_column(*memory.columns)
            values = sorted(text.unique().to_list(), key=lambda value: value is None)
            known = memory.judge({(value,) for value in values})
            verdicts, places = [known[(value,)] for value in values], _places(text, values)
        allowed = reduce(or_, verdicts)
        holds = self._large.holds(records, dict.fromkeys(self._large.unsettled(allowed), slice(None)))
        combinations: list[list[str]] = [[]]
        which = np.zeros(len(records), dtype=np.uint32)
        for n in [n for n in range(len(self._ids)) if allowed >> n & 1]:
            matches = np.array([bool(verdict >> n & 1) for verdict in verdicts])[places]
            if n in holds:
                matches &= holds[n]
            rows = np.flatnonzero(matches)
            if len(rows):
                # Rows share few combinations of rules: this rule extends those that its rows have so far.
                before, place = np.unique(which[rows], return_inverse=True)
                which[rows] = len(combinations) + place
                combinations += [[*combinations[number], self._ids[n]] for number in before]
        return pl.Series("rules", combinations, dtype=LISTS).gather(which)


class _Verdicts:
    """Conditions cut in two: what looks at `few` sets of columns alone, remembered by value, and what is left."""

    def __init__(self, conditions: Sequence[Condition], few: Set[frozenset[str]], schema: pl.Schema) -> None:
        self.memories = [_Memory(conditions, columns, schema) for columns in sorted(few, key=sorted)]
        left = {n: condition.joined(lambda used: used not in few) for n, condition in enumerate(conditions)}
        self._left = {n: expression.alias(f"{n}") for n, expression in left.items() if expression is not None}
        self._bounds = {
            n: [bound for used, sql in conditions[n].parts if used not in few and (bound := _bound(sql, schema))]
            for n in self._left
        }

    def unsettled(self, allowed: int) -> list[int]:
        """The allowed rules whose condition has more to it."""
        return [n for n in self._left if allowed >> n & 1]

    def holds(self, records: pl.DataFrame, some: Mapping[int, list[int] | slice]) -> dict[int, npt.NDArray[np.bool_]]:
        """On which rows the rest of a condition holds; of each rule only the rows that it names are asked for."""
        # A bound that no row is within spares the query.
        possible = [n for n, rows in some.items() if all(_within(records, rows, *bound) for bound in self._bounds[n])]
        held = dict.fromkeys(some, np.zeros(len(records), dtype=np.bool_))
        if possible:
            found = records.select(self._left[n] for n in possible).get_columns()
            held |= {n: column.to_numpy() for n, column in zip(possible, found, strict=True)}
        return held


class _Memory:
    """Which rules the values of some columns allow: bit n for rule n, as far as its parts on these columns go."""

    def __init__(self, conditions: Sequence[Condition], columns: frozenset[str], schema: pl.Schema) -> None:
        tests = {n: condition.joined(lambda used: used == columns) for n, condition in enumerate(conditions)}
        self._tests = {n: test.alias(f"{n}") for n, test in tests.items() if test is not None}
        self._others = (1 << len(conditions)) - 1 - sum(1 << n for n in self._tests)
        self.columns = {name: schema[name] for name in sorted(columns)}
        self.known: dict[tuple[Any, ...], int] = {}

    def judge(self, values: Collection[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
        """The verdicts of these values, among others."""
        known = self.known
        new = [value for value in values if value not in known]
        if new:
            if len(known) > _REMEMBERED:
                # Begun again rather than emptied: another thread may be looking into it.
                known = self.known = {value: known[value] for value in values if value in known}
            known.update(self._judge(new))
        return known

    def _judge(self, new: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
        frame = pl.DataFrame(new, schema=self.columns, orient="row").with_columns(self._tests.values())
        verdicts = dict.fromkeys(new, self._others)
        for n in self._tests:
            for value, holds in zip(new, frame.get_column(f"{n}").to_list(), strict=True):
                verdicts[value] |= holds << n
        return verdicts


def _places(text: pl.Series, values: list[str | None]) -> npt.NDArray[np.uint32]:
    """Which of the distinct values of a text column, null last, each row has."""
    # An Enum numbers its values, at half of what `replace_strict`, which joins, costs.
    known = [value for value in values if value is not None]
    numbers = text.cast(pl.Enum(known)).to_physical().cast(pl.UInt32)
    return numbers.fill_null(len(known)).to_numpy()


def _has_few_values(dtype: pl.DataType) -> bool:
    """Whether the values of a column repeat themselves: names, flags, codes and counts, but not measurements."""
    return dtype in (pl.String, pl.Boolean) or isinstance(dtype, IntegerType)


def _bound(sql: str, schema: pl.Schema) -> tuple[str, str, float] | None:
    """(column, sign, number) of a part that compares a numeric column with a number."""
    match = _BOUND.fullmatch(sql)
    if match is None or not schema[match[1]].is_numeric():
        return None
    return match[1], match[2], float(match[3]) if "." in match[3] else int(match[3])


def _within(records: pl.DataFrame, rows: list[int] | slice, column: str, sign: str, number: float) -> bool:
    """Whether one of the rows may be within this bound; found without a query, never wrongly denied (nulls, NaN)."""
    outside = {"<": np.greater_equal, "<=": np.greater, ">": np.less_equal, ">=": np.less}[sign]
    values = records.get_column(column)
    return bool(values.null_count()) or not bool(outside(values.to_numpy()[rows], number).all())
