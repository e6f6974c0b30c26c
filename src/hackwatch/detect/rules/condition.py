"""The condition of a rule: SQL text checked word by word against an allow list, then compiled to Polars.

Only what looks at one row at a time is allowed: no sub-select, no aggregate, no window, no file, no cast that
can fail. So a rule gives the same answer however the stream is cut into batches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import polars as pl
from polars.datatypes import IntegerType

__all__ = ["FUNCTIONS", "Condition", "compile_condition", "probe_rows"]

#: Functions a condition may call: pure, row by row, never raising on any value.
FUNCTIONS = frozenset(
    {
        "abs",
        "ceil",
        "char_length",
        "coalesce",
        "ends_with",
        "floor",
        "greatest",
        "ifnull",
        "least",
        "left",
        "length",
        "lower",
        "ltrim",
        "nullif",
        "octet_length",
        "regexp_like",
        "replace",
        "reverse",
        "right",
        "round",
        "rtrim",
        "sign",
        "sqrt",
        "starts_with",
        "strpos",
        "substr",
        "upper",
    }
)
_KEYWORDS = frozenset(
    {
        "and",
        "between",
        "case",
        "else",
        "end",
        "false",
        "ilike",
        "in",
        "is",
        "like",
        "not",
        "null",
        "or",
        "regexp",
        "rlike",
        "then",
        "true",
        "when",
    }
)
_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<comment>--|/\*)"
    r"|(?P<text>'(?:[^']|'')*')"
    r'|(?P<quoted>"[^"]+")'
    r"|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<sign>[()+\-*/%<>=!,~|])"
    r"|(?P<other>.)",
    re.DOTALL,
)


Columns = tuple[tuple[str, pl.DataType | type[pl.DataType]], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """A compiled condition.

    `expression`: Boolean per row, never null. `columns`: what it looks at. `parts`: what its outermost ANDs join,
    each with the columns that it looks at (those of the whole condition for a constant).
    """

    expression: pl.Expr
    columns: frozenset[str]
    parts: tuple[tuple[frozenset[str], str], ...]

    def joined(self, chosen: Callable[[frozenset[str]], bool]) -> pl.Expr | None:
        """The parts whose columns are `chosen`, as one expression; None if there are none."""
        parts = [f"({sql})" for used, sql in self.parts if chosen(used)]
        return _parse(" AND ".join(parts)) if parts else None


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def lower(self) -> str:
        return self.text.lower() if self.kind == "word" else self.text


def compile_condition(sql: str, schema: Mapping[str, pl.DataType | type[pl.DataType]]) -> Condition:
    """Compile `sql` over the columns of `schema`; ValueError says what is wrong with it.

    >>> schema = {"tool": pl.String(), "load": pl.Float64()}
    >>> sorted(compile_condition("tool IN ('nc', 'ncat') AND load > 0.1", schema).columns)
    ['load', 'tool']
    """
    return _compiled(sql, tuple(schema.items()))


@lru_cache(maxsize=1024)
def _compiled(sql: str, known: Columns) -> Condition:
    """Once only, though a condition is checked when it is loaded and compiled when it is used."""
    schema = dict(known)
    tokens = _tokens(sql)
    columns = _check(tokens, schema)
    if not columns:
        raise ValueError("the condition looks at no column")
    expression = _parse(sql)
    _probe(expression, known)
    parts = tuple((frozenset(_check(_tokens(part), schema) or columns), part) for part in _conjuncts(sql, tokens))
    return Condition(expression, frozenset(columns), parts)


def _parse(sql: str) -> pl.Expr:
    try:
        return pl.sql_expr(sql).fill_null(False)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"not a SQL expression: {_first_line(error)}") from error


def _tokens(sql: str) -> list[_Token]:
    found = [_Token(str(match.lastgroup), match.group(), match.start()) for match in _TOKEN.finditer(sql)]
    for token in found:
        if token.kind in ("other", "comment"):
            raise ValueError(f"{token.text!r} is not allowed in a condition")
    return [token for token in found if token.kind != "space"]


def _check(tokens: list[_Token], schema: Mapping[str, object]) -> set[str]:
    """The columns that the tokens name; ValueError for any word that is neither column, keyword nor function."""
    columns: set[str] = set()
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.kind not in ("word", "quoted"):
            continue
        name = token.text.strip('"')
        called = following is not None and following.text == "("
        if token.kind == "word" and called and name not in schema:
            if token.lower not in FUNCTIONS | _KEYWORDS:
                raise ValueError(f"function {name!r} is not allowed; allowed are {', '.join(sorted(FUNCTIONS))}")
        elif name in schema:
            columns.add(name)
        elif token.kind == "quoted" or token.lower not in _KEYWORDS:
            raise ValueError(f"unknown column {name!r}; the columns are {', '.join(schema)}")
    return columns


def _conjuncts(sql: str, tokens: list[_Token]) -> list[str]:
    """The parts between the outermost ANDs; the whole condition if an OR joins them."""
    depth, between, cuts = 0, False, []
    for token in tokens:
        if token.lower in ("(", "case"):
            depth += 1
        elif token.lower in (")", "end"):
            depth -= 1
        elif depth:
            continue
        elif token.lower == "or":
            return [sql]
        elif token.lower == "between":
            between = True
        elif token.lower == "and":
            if not between:
                cuts.append(token.start)
            between = False
    starts = [0, *(cut + len("and") for cut in cuts)]
    return [sql[start:end] for start, end in zip(starts, [*cuts, len(sql)], strict=True)]


def _probe(expression: pl.Expr, columns: Columns) -> None:
    try:
        result = _rows(columns).select(fired=expression)["fired"]
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"cannot be evaluated: {_first_line(error)}") from error
    if result.dtype != pl.Boolean:
        raise ValueError(f"gives {result.dtype} instead of true or false")


def probe_rows(schema: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    """Rows of awkward values for each column of `schema`, one of them all null."""
    return _rows(tuple(schema.items()))


@lru_cache(maxsize=16)
def _rows(columns: Columns) -> pl.DataFrame:
    texts = ["", "a", "-", " .x", "é" * 15, "%_\\", "9" * 19, None]
    reals = [0.0, 1.0, -1.0, 1e308, float("inf"), float("nan"), 1e-9, None]
    values: dict[str, pl.Series] = {}
    for column, given in columns:
        dtype = given if isinstance(given, pl.DataType) else given()
        if dtype == pl.String:
            values[column] = pl.Series(texts)
        elif dtype.is_float():
            values[column] = pl.Series(reals).cast(dtype)
        elif isinstance(dtype, IntegerType):
            extremes = pl.select(pl.concat_list(dtype.min(), dtype.max()).explode()).to_series()
            values[column] = pl.concat([pl.Series([0, 1, 2, 100, 127, None]).cast(dtype), extremes])
        elif dtype == pl.Boolean:
            values[column] = pl.Series([True, False, True, False, True, False, True, None])
        else:
            values[column] = pl.Series([0, 1, 2, 3, 4, 5, 6, None]).cast(dtype)
    return pl.DataFrame(values)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
