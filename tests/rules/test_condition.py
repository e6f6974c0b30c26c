"""Conditions: what they may say, and that they see one row at a time."""

from __future__ import annotations

import re

import polars as pl
import pytest

from hackwatch.detect.rules.condition import FUNCTIONS, compile_condition, probe_rows

SCHEMA = pl.Schema(
    {
        "CMD": pl.String(),
        "State": pl.String(),
        "CPU": pl.Float64(),
        "NICE": pl.Int64(),
        "finished": pl.Boolean(),
        "event_time": pl.Datetime("us", "UTC"),
    }
)
RECORDS = pl.DataFrame(
    {
        "CMD": ["nc", "bash", None],
        "State": ["R", "S", "D"],
        "CPU": [0.9, 0.1, None],
        "NICE": [-20, None, 5],
        "finished": [True, False, False],
        "event_time": [None, None, None],
    },
    schema=SCHEMA,
)


@pytest.mark.parametrize(
    ("sql", "fires"),
    [
        ("CMD = 'nc'", [True, False, False]),
        ("CMD IN ('nc', 'bash') AND CPU > 0.5", [True, False, False]),
        ("CMD LIKE 'b%' OR State = 'D'", [False, True, True]),
        ("NOT finished", [False, True, True]),
        ("NICE IS NULL", [False, True, False]),
        ("NICE < 0", [True, False, False]),
        ("NOT (NICE < 0)", [False, False, True]),
        ("CPU BETWEEN 0.05 AND 0.95 AND finished", [True, False, False]),
        ("REGEXP_LIKE(CMD, '^[a-c]') and length(CMD) = 4", [False, True, False]),
        ("COALESCE(NICE, 0) = 0", [False, True, False]),
        ("CASE WHEN finished THEN CPU > 0.5 ELSE State = 'D' END", [True, False, True]),
        ("\"State\" = 'R'", [True, False, False]),
        ("CMD = 'it''s'", [False, False, False]),
    ],
)
def test_a_condition_holds_per_row_and_null_is_false(sql: str, fires: list[bool]) -> None:
    condition = compile_condition(sql, SCHEMA)
    assert RECORDS.select(condition.expression).to_series().to_list() == fires


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("cpu > 1", "unknown column 'cpu'"),
        ('"offset" > 1', "unknown column 'offset'"),
        ("(SELECT 1) > 0", "unknown column 'SELECT'"),
        ("CMD IN (SELECT CMD FROM self)", "unknown column 'SELECT'"),
        ("EXISTS (SELECT 1)", "function 'EXISTS' is not allowed"),
        ("read_csv('/etc/passwd') = CMD", "function 'read_csv' is not allowed"),
        ("SUM(CPU) > 1", "function 'SUM' is not allowed"),
        ("COUNT(*) > 1 AND CPU > 0", "function 'COUNT' is not allowed"),
        ("ROW_NUMBER() OVER () > CPU", "function 'ROW_NUMBER' is not allowed"),
        ("CAST(CMD AS INT) = 1", "function 'CAST' is not allowed"),
        ("CMD::int = 1", "':' is not allowed"),
        ("CPU > 1; DROP TABLE x", "';' is not allowed"),
        ("CPU > 1 -- all", "'--' is not allowed"),
        ("CPU > 1 /* all */", "'/*' is not allowed"),
        ("self.CPU > 1", "'.' is not allowed"),
        ("CMD = E'\\x41'", "unknown column 'E'"),
        ("CMD", "gives String instead of true or false"),
        ("CPU + 1", "gives Float64 instead of true or false"),
        ("1 = 1", "the condition looks at no column"),
        ("'CMD' = 'CMD'", "the condition looks at no column"),
        ("CPU >", "not a SQL expression"),
        ("(CPU > 1", "not a SQL expression"),
        ("CMD = 5", "cannot be evaluated"),
        ("NOT CMD", "cannot be evaluated"),
        ("CMD ~ '('", "cannot be evaluated"),
        ("CPU > 1 AS x", "unknown column 'AS'"),
        ("CPU > 0 'x", '"\'" is not allowed'),
    ],
)
def test_what_is_no_condition_over_one_row_is_refused(sql: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        compile_condition(sql, SCHEMA)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_allowed_function_is_one_that_polars_knows(name: str) -> None:
    arguments = {
        "regexp_like": "CMD, 'a'",
        "starts_with": "CMD, 'a'",
        "ends_with": "CMD, 'a'",
        "strpos": "CMD, 'a'",
        "replace": "CMD, 'a', 'b'",
        "substr": "CMD, 1, 2",
        "left": "CMD, 1",
        "right": "CMD, 1",
        **dict.fromkeys(("coalesce", "greatest", "ifnull", "least", "nullif"), "CPU, 1.0"),
        **dict.fromkeys(("abs", "ceil", "floor", "round", "sign", "sqrt"), "CPU"),
    }
    condition = compile_condition(f"{name}({arguments.get(name, 'CMD')}) IS NOT NULL", SCHEMA)
    assert condition.parts


@pytest.mark.parametrize(
    ("sql", "on_text", "on_row"),
    [
        ("CMD = 'nc'", True, False),
        ("CPU > 0.5", False, True),
        ("CMD = 'nc' AND CPU > 0.5 AND CMD LIKE 'n%'", True, True),
        ("CMD = 'nc' OR CPU > 0.5", False, True),
        ("(CMD = 'nc' OR CMD = 'ncat') AND NOT finished", True, True),
        ("CPU BETWEEN 0.1 AND 0.5", False, True),
        ("CMD = 'nc' AND 1 = 1", True, False),
        ("CASE WHEN CMD = 'a' AND finished THEN TRUE ELSE FALSE END", False, True),
    ],
)
def test_a_condition_is_split_into_what_looks_at_one_column_alone_and_the_rest(
    sql: str, on_text: bool, on_row: bool
) -> None:
    condition = compile_condition(sql, SCHEMA)
    alone = condition.joined(lambda used: used == {"CMD"})
    others = condition.joined(lambda used: used != {"CMD"})
    assert (alone is not None, others is not None) == (on_text, on_row)


def test_the_probe_rows_hold_extremes_and_nulls_of_every_column() -> None:
    rows = probe_rows(SCHEMA)
    assert rows.schema == SCHEMA
    assert all(count >= 1 for count in rows.null_count().row(0))
    assert rows["NICE"].min() == -(2**63)
