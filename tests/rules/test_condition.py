"""Conditions: what they may say, and that they see one row at a time."""

from __future__ import annotations

import re

import polars as pl
import pytest

from hackwatch.detect.rules.condition import FUNCTIONS, compile_condition, probe_rows

SCHEMA = pl.Schema(
    {
        "agent": pl.String(),
        "server": pl.String(),
        "seconds": pl.Float64(),
        "status": pl.Int64(),
        "cached": pl.Boolean(),
        "event_time": pl.Datetime("us", "UTC"),
    }
)
RECORDS = pl.DataFrame(
    {
        "agent": ["nc", "bash", None],
        "server": ["R", "S", "D"],
        "seconds": [0.9, 0.1, None],
        "status": [-20, None, 5],
        "cached": [True, False, False],
        "event_time": [None, None, None],
    },
    schema=SCHEMA,
)


@pytest.mark.parametrize(
    ("sql", "fires"),
    [
        ("agent = 'nc'", [True, False, False]),
        ("agent IN ('nc', 'bash') AND seconds > 0.5", [True, False, False]),
        ("agent LIKE 'b%' OR server = 'D'", [False, True, True]),
        ("NOT cached", [False, True, True]),
        ("status IS NULL", [False, True, False]),
        ("status < 0", [True, False, False]),
        ("NOT (status < 0)", [False, False, True]),
        ("seconds BETWEEN 0.05 AND 0.95 AND cached", [True, False, False]),
        ("REGEXP_LIKE(agent, '^[a-c]') and length(agent) = 4", [False, True, False]),
        ("COALESCE(status, 0) = 0", [False, True, False]),
        ("CASE WHEN cached THEN seconds > 0.5 ELSE server = 'D' END", [True, False, True]),
        ("\"server\" = 'R'", [True, False, False]),
        ("agent = 'it''s'", [False, False, False]),
    ],
)
def test_a_condition_holds_per_row_and_null_is_false(sql: str, fires: list[bool]) -> None:
    condition = compile_condition(sql, SCHEMA)
    assert RECORDS.select(condition.expression).to_series().to_list() == fires


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("Seconds > 1", "unknown column 'Seconds'"),
        ('"offset" > 1', "unknown column 'offset'"),
        ("(SELECT 1) > 0", "unknown column 'SELECT'"),
        ("agent IN (SELECT agent FROM self)", "unknown column 'SELECT'"),
        ("EXISTS (SELECT 1)", "function 'EXISTS' is not allowed"),
        ("read_csv('/etc/passwd') = agent", "function 'read_csv' is not allowed"),
        ("SUM(seconds) > 1", "function 'SUM' is not allowed"),
        ("COUNT(*) > 1 AND seconds > 0", "function 'COUNT' is not allowed"),
        ("ROW_NUMBER() OVER () > seconds", "function 'ROW_NUMBER' is not allowed"),
        ("CAST(agent AS INT) = 1", "function 'CAST' is not allowed"),
        ("agent::int = 1", "':' is not allowed"),
        ("seconds > 1; DROP TABLE x", "';' is not allowed"),
        ("seconds > 1 -- all", "'--' is not allowed"),
        ("seconds > 1 /* all */", "'/*' is not allowed"),
        ("self.seconds > 1", "'.' is not allowed"),
        ("agent = E'\\x41'", "unknown column 'E'"),
        ("agent", "gives String instead of true or false"),
        ("seconds + 1", "gives Float64 instead of true or false"),
        ("1 = 1", "the condition looks at no column"),
        ("'agent' = 'agent'", "the condition looks at no column"),
        ("seconds >", "not a SQL expression"),
        ("(seconds > 1", "not a SQL expression"),
        ("agent = 5", "cannot be evaluated"),
        ("NOT agent", "cannot be evaluated"),
        ("agent ~ '('", "cannot be evaluated"),
        ("seconds > 1 AS x", "unknown column 'AS'"),
        ("seconds > 0 'x", '"\'" is not allowed'),
    ],
)
def test_what_is_no_condition_over_one_row_is_refused(sql: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        compile_condition(sql, SCHEMA)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_allowed_function_is_one_that_polars_knows(name: str) -> None:
    arguments = {
        "regexp_like": "agent, 'a'",
        "starts_with": "agent, 'a'",
        "ends_with": "agent, 'a'",
        "strpos": "agent, 'a'",
        "replace": "agent, 'a', 'b'",
        "substr": "agent, 1, 2",
        "left": "agent, 1",
        "right": "agent, 1",
        **dict.fromkeys(("coalesce", "greatest", "ifnull", "least", "nullif"), "seconds, 1.0"),
        **dict.fromkeys(("abs", "ceil", "floor", "round", "sign", "sqrt"), "seconds"),
    }
    condition = compile_condition(f"{name}({arguments.get(name, 'agent')}) IS NOT NULL", SCHEMA)
    assert condition.parts


@pytest.mark.parametrize(
    ("sql", "on_text", "on_row"),
    [
        ("agent = 'nc'", True, False),
        ("seconds > 0.5", False, True),
        ("agent = 'nc' AND seconds > 0.5 AND agent LIKE 'n%'", True, True),
        ("agent = 'nc' OR seconds > 0.5", False, True),
        ("(agent = 'nc' OR agent = 'ncat') AND NOT cached", True, True),
        ("seconds BETWEEN 0.1 AND 0.5", False, True),
        ("agent = 'nc' AND 1 = 1", True, False),
        ("CASE WHEN agent = 'a' AND cached THEN TRUE ELSE FALSE END", False, True),
    ],
)
def test_a_condition_is_split_into_what_looks_at_one_column_alone_and_the_rest(
    sql: str, on_text: bool, on_row: bool
) -> None:
    condition = compile_condition(sql, SCHEMA)
    alone = condition.joined(lambda used: used == {"agent"})
    others = condition.joined(lambda used: used != {"agent"})
    assert (alone is not None, others is not None) == (on_text, on_row)


def test_the_probe_rows_hold_extremes_and_nulls_of_every_column() -> None:
    rows = probe_rows(SCHEMA)
    assert rows.schema == SCHEMA
    assert all(count >= 1 for count in rows.null_count().row(0))
    assert rows["status"].min() == -(2**63)
