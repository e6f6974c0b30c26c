"""Matching whole batches: the same as looking at each row alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hackwatch.detect.rules import Rule, RuleSet
from hackwatch.detect.rules.condition import compile_condition
from hackwatch.detect.rules.matching import SMALL_ROWS
from tests.third.shop import LOGIN, VISIT

#: Visits with a column of every kind that conditions look at.
SCHEMA = pl.Schema({**VISIT.schema, "cached": pl.Boolean()})
STREAMS = {"visit": replace(VISIT, schema=SCHEMA), "login": LOGIN}
CONDITIONS = {
    "shell": "agent IN ('nc', 'socat')",
    "busy": "seconds > 0.5",
    "busy-shell": "agent LIKE 'n%' AND seconds > 0.5 AND NOT cached",
    "either": "agent = 'socat' OR server = 'D'",
    "not-bash": "agent <> 'bash'",
    "nice": "status IS NULL",
    "same": "agent = server",
    "idle": "seconds < 0.5 AND agent = 'nc'",
    "low": "seconds <= 0.0",
    "always": "agent = 'nc' AND 1 = 1",
    "keen": "status >= 0 AND seconds >= 0.9",
    "keen-or-not": "status >= 0 OR seconds >= 0.9",
}


def rule(identity: str, where: str, stream: str = "visit") -> Rule:
    return Rule(identity, identity, stream, where, "low")


RULES = RuleSet([rule(name, where) for name, where in CONDITIONS.items()], STREAMS)

rows = st.lists(
    st.fixed_dictionaries(
        {
            "agent": st.sampled_from(["nc", "socat", "bash", "D", "", None]),
            "server": st.sampled_from(["S", "D", None]),
            "seconds": st.sampled_from([0.0, 0.5, 0.9, math.nan, None]),
            "status": st.sampled_from([0, -20, None]),
            "cached": st.booleans(),
        }
    ),
    max_size=40,
)


def frame(values: list[Mapping[str, Any]]) -> pl.DataFrame:
    columns = {name: SCHEMA[name] for name in ("agent", "server", "seconds", "status", "cached")}
    return pl.DataFrame([dict(row) for row in values], schema=columns)


@settings(max_examples=60)
@given(values=rows, cut=st.integers(0, 40))
def test_a_batch_matches_as_its_rows_do_however_it_is_cut(values: list[Mapping[str, Any]], cut: int) -> None:
    records = frame(values)
    expressions = {name: compile_condition(where, SCHEMA).expression for name, where in CONDITIONS.items()}
    verdicts = records.select(**expressions)
    expected = [[name for name in CONDITIONS if row[name]] for row in verdicts.iter_rows(named=True)]
    whole = RULES.match("visit", records)
    assert whole.to_list() == expected
    assert whole.dtype == pl.List(pl.String())
    parts = [RULES.match("visit", part) for part in (records[:cut], records[cut:])]
    assert pl.concat(parts).to_list() == expected
    times = 1 + SMALL_ROWS // max(1, len(records))
    assert RULES.match("visit", pl.concat([records] * times)).to_list() == expected * times


@pytest.mark.parametrize("count", [1, 70])
def test_any_number_of_rules_matches_in_file_order(count: int) -> None:
    many = RuleSet([rule(f"r{number}", "seconds > 0") for number in range(count)], STREAMS)
    found = many.match("visit", pl.DataFrame({"seconds": [0.0, 1.0]}))
    assert found.to_list() == [[], [f"r{number}" for number in range(count)]]


def test_no_records_and_streams_without_rules_match_nothing() -> None:
    assert RULES.match("visit", frame([])).to_list() == []
    assert RULES.match("login", pl.DataFrame({"agent": ["nc"]})).to_list() == [[]]
    assert RuleSet().match("visit", pl.DataFrame({"agent": ["nc"]})).dtype == pl.List(pl.String())


def test_ever_new_names_do_not_fill_the_memory() -> None:
    rules = RuleSet([rule("shell", "agent IN ('nc', 'socat')")], STREAMS)
    for batch in range(3):
        names = [f"{batch}-{number}" for number in range(40_000)]
        assert rules.match("visit", pl.DataFrame({"agent": [*names, "nc"]})).list.len().sum() == 1
    small = pl.DataFrame({"agent": [f"small-{number}" for number in range(400)]})
    assert rules.match("visit", small).list.len().sum() == 0
    parts = rules._parts["visit"]
    assert 40_000 <= len(parts._large.memories[0].known) <= 90_000
    assert len(parts._small.memories[0].known) == 400


def test_the_columns_that_no_rule_looks_at_are_not_needed() -> None:
    busy = RuleSet([rule("busy", "seconds > 0.5")], STREAMS)
    assert busy.match("visit", pl.DataFrame({"seconds": [0.9]})).to_list() == [["busy"]]
