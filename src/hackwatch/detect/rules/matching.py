"""The rules of one stream, evaluated on whole frames with as few expressions over rows as can be."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.datatypes import IntegerType

from hackwatch.detect.rules.condition import Condition, compile_condition

__all__ = ["LISTS", "SMALL_ROWS", "StreamRules", "nothing"]

LISTS = pl.List(pl.String())
#: Frames up to this length are matched row by row in Python: there a query costs more than its rows.
SMALL_ROWS = 512

#: Combinations of values whose verdicts are remembered; a stream of ever-new names starts anew instead of growing
#: without end.
_REMEMBERED = 50_000
_NOTHING = pl.Series("rules", [[]] * SMALL_ROWS, dtype=LISTS)
_BOUND = re.compile(r"\s*(\w+)\s*([<>]=?)\s*(\d+(?:\.\d+)?)\s*")


def nothing(rows: int) -> pl.Series:
    """No rule matches any of these rows."""
    if rows <= SMALL_ROWS:
        return _NOTHING.head(rows)
    return pl.Series("rules", [[]], dtype=LISTS).gather(np.zeros(rows, dtype=np.uint32))


class StreamRules:
    """Conditions by rule id, in file order.

    Text comparisons are dear, but the same few names occur again and again. So the parts of the conditions that look
    at one text column alone (CMD, for host streams) are judged once per distinct value and the verdicts remembered;
    the rest of a condition is evaluated on rows, if any value of the batch allows its rule. In small frames it is the
    query that is dear: there all columns of few values are looked at together, so that next to nothing is left.
    """

    def __init__(self, rules: Mapping[str, str], schema: pl.Schema) -> None:
        conditions = [compile_condition(where, schema) for where in rules.values()]
        alone = [next(iter(used)) for each in conditions for used, _ in each.parts if len(used) == 1]
        texts = [column for column in alone if schema[column] == pl.String]
        looked_at = frozenset[str]().union(*(condition.columns for condition in conditions))
        few = [name for name, dtype in schema.items() if name in looked_at and _has_few_values(dtype)]
        self._ids = list(rules)
        self._text = max(texts, key=texts.count) if texts else None
        self._large = _Verdicts(conditions, () if self._text is None else (self._text,), schema)
        self._small = _Verdicts(conditions, few, schema)

    def match(self, records: pl.DataFrame) -> pl.Series:
        """Ids of the matching rules per row: `rules`, LISTS, in file order."""
        return self._match_small(records) if len(records) <= SMALL_ROWS else self._match_large(records)

    def _match_small(self, records: pl.DataFrame) -> pl.Series:
        columns = [records.get_column(name).to_list() for name in self._small.columns]
        rows = list(zip(*columns, strict=True)) if columns else [()] * len(records)
        verdicts = self._small.judge(set(rows))
        found = [verdicts[row] for row in rows]
        allowed = reduce(or_, verdicts.values())
        some = {n: [row for row, bits in enumerate(found) if bits >> n & 1] for n in self._small.unsettled(allowed)}
        for n, holds in self._small.holds(records, some).items():
            without = ~(1 << n)
            found = [bits if here else bits & without for bits, here in zip(found, holds.tolist(), strict=True)]
        if not any(found):
            return nothing(len(records))
        names = {bits: [name for n, name in enumerate(self._ids) if bits >> n & 1] for bits in set(found)}
        return pl.Series("rules", [names[bits] for bits in found], dtype=LISTS)

    def _match_large(self, records: pl.DataFrame) -> pl.Series:
        names = [] if self._text is None else records[self._text].unique().to_list()
        values: list[tuple[str | None, ...]] = [()] if self._text is None else [(name,) for name in names]
        verdicts = self._large.judge(values)
        allowed = reduce(or_, verdicts.values())
        holds = self._large.holds(records, dict.fromkeys(self._large.unsettled(allowed), slice(None)))
        places = self._places(records, names)
        combinations: list[list[str]] = [[]]
        which = np.zeros(len(records), dtype=np.uint32)
        for n in [n for n in range(len(self._ids)) if allowed >> n & 1]:
            by_value = np.array([bool(verdicts[value] >> n & 1) for value in values])
            matches = by_value[places]
            if n in holds:
                matches &= holds[n]
            rows = np.flatnonzero(matches)
            if len(rows):
                # Rows share few combinations of rules: this rule extends those that its rows have so far.
                before, place = np.unique(which[rows], return_inverse=True)
                which[rows] = len(combinations) + place
                combinations += [[*combinations[number], self._ids[n]] for number in before]
        return pl.Series("rules", combinations, dtype=LISTS).gather(which)

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


class _Verdicts:
    """Conditions split in two: what looks at `columns` alone, judged by value and remembered, and what is left."""

    def __init__(self, conditions: Sequence[Condition], columns: Sequence[str], schema: pl.Schema) -> None:
        self.columns = {name: schema[name] for name in columns}
        names = frozenset(columns)
        split = [condition.split(names) for condition in conditions]
        self._by_value = [by_value for by_value, _ in split]
        self._by_row = {n: by_row.alias(f"{n}") for n, (_, by_row) in enumerate(split) if by_row is not None}
        self._bounds = {
            n: [bound for used, sql in conditions[n].parts if not used <= names and (bound := _bound(sql, schema))]
            for n in self._by_row
        }
        self.known: dict[tuple[Any, ...], int] = {}

    def judge(self, values: Collection[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
        """Per distinct combination of values the rules that it allows: bit n for rule n."""
        if not self.columns:
            return {(): (1 << len(self._by_value)) - 1}
        known = self.known
        new = [value for value in values if value not in known]
        if new:
            if len(known) > _REMEMBERED:
                # Begun anew rather than emptied: another thread may be looking into it.
                known = self.known = {value: known[value] for value in values if value in known}
            known.update(self._judge(new))
        return {value: known[value] for value in values}

    def _judge(self, new: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
        frame = pl.DataFrame(new, schema=dict(self.columns), orient="row")
        tests = [(pl.lit(True) if test is None else test).alias(f"{n}") for n, test in enumerate(self._by_value)]
        verdicts = frame.with_columns(tests).drop(*self.columns).to_numpy()
        bits = np.packbits(verdicts, axis=1, bitorder="little")
        return {value: int.from_bytes(row.tobytes(), "little") for value, row in zip(new, bits, strict=True)}

    def unsettled(self, allowed: int) -> list[int]:
        """The allowed rules whose condition has more to it."""
        return [n for n in self._by_row if allowed >> n & 1]

    def holds(self, records: pl.DataFrame, some: Mapping[int, list[int] | slice]) -> dict[int, npt.NDArray[np.bool_]]:
        """On which rows the rest of a condition holds; of each rule only the rows that it names are asked for."""
        # A bound that no row is within spares the query.
        possible = [n for n, rows in some.items() if all(_within(records, rows, *bound) for bound in self._bounds[n])]
        held = dict.fromkeys(some, np.zeros(len(records), dtype=np.bool_))
        if possible:
            found = records.select(self._by_row[n] for n in possible).get_columns()
            held |= {n: column.to_numpy() for n, column in zip(possible, found, strict=True)}
        return held


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
