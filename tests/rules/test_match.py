"""Matching whole batches: the same as looking at each row alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hackwatch import streams
from hackwatch.detect.rules import Rule, RuleSet, load_rules
from hackwatch.detect.rules.condition import compile_condition
from hackwatch.detect.rules.matching import SMALL_ROWS

STREAMS = {name: streams.get(name) for name in ("process", "memory")}
PROCESS = STREAMS["process"].schema
CONDITIONS = {
    "shell": "CMD IN ('nc', 'socat')",
    "busy": "CPU > 0.5",
    "busy-shell": "CMD LIKE 'n%' AND CPU > 0.5 AND NOT finished",
    "either": "CMD = 'socat' OR State = 'D'",
    "not-bash": "CMD <> 'bash'",
    "nice": "NICE IS NULL",
    "same": "CMD = State",
    "idle": "CPU < 0.5 AND CMD = 'nc'",
    "low": "CPU <= 0.0",
    "always": "CMD = 'nc' AND 1 = 1",
    "keen": "NICE >= 0 AND CPU >= 0.9",
    "keen-or-not": "NICE >= 0 OR CPU >= 0.9",
}


def rule(identity: str, where: str, stream: str = "process") -> Rule:
    return Rule(identity, identity, stream, where, "low")


RULES = RuleSet([rule(name, where) for name, where in CONDITIONS.items()], STREAMS)

rows = st.lists(
    st.fixed_dictionaries(
        {
            "CMD": st.sampled_from(["nc", "socat", "bash", "D", "", None]),
            "State": st.sampled_from(["S", "D", None]),
            "CPU": st.sampled_from([0.0, 0.5, 0.9, math.nan, None]),
            "NICE": st.sampled_from([0, -20, None]),
            "finished": st.booleans(),
        }
    ),
    max_size=40,
)


def frame(values: list[Mapping[str, Any]]) -> pl.DataFrame:
    columns = {name: PROCESS[name] for name in ("CMD", "State", "CPU", "NICE", "finished")}
    return pl.DataFrame([dict(row) for row in values], schema=columns)


@settings(max_examples=60)
@given(values=rows, cut=st.integers(0, 40))
def test_a_batch_matches_as_its_rows_do_however_it_is_cut(values: list[Mapping[str, Any]], cut: int) -> None:
    records = frame(values)
    expressions = {name: compile_condition(where, PROCESS).expression for name, where in CONDITIONS.items()}
    verdicts = records.select(**expressions)
    expected = [[name for name in CONDITIONS if row[name]] for row in verdicts.iter_rows(named=True)]
    whole = RULES.match("process", records)
    assert whole.to_list() == expected
    assert whole.dtype == pl.List(pl.String())
    parts = [RULES.match("process", part) for part in (records[:cut], records[cut:])]
    assert pl.concat(parts).to_list() == expected
    times = 1 + SMALL_ROWS // max(1, len(records))
    assert RULES.match("process", pl.concat([records] * times)).to_list() == expected * times


@pytest.mark.parametrize("count", [1, 70])
def test_any_number_of_rules_matches_in_file_order(count: int) -> None:
    many = RuleSet([rule(f"r{number}", "CPU > 0") for number in range(count)], STREAMS)
    found = many.match("process", pl.DataFrame({"CPU": [0.0, 1.0]}))
    assert found.to_list() == [[], [f"r{number}" for number in range(count)]]


def test_no_records_and_streams_without_rules_match_nothing() -> None:
    assert RULES.match("process", frame([])).to_list() == []
    assert RULES.match("memory", pl.DataFrame({"CMD": ["nc"]})).to_list() == [[]]
    assert RuleSet().match("process", pl.DataFrame({"CMD": ["nc"]})).dtype == pl.List(pl.String())


def test_ever_new_names_do_not_fill_the_memory() -> None:
    rules = RuleSet([rule("shell", "CMD IN ('nc', 'socat')")], STREAMS)
    for batch in range(3):
        names = [f"{batch}-{number}" for number in range(40_000)]
        assert rules.match("process", pl.DataFrame({"CMD": [*names, "nc"]})).list.len().sum() == 1
    small = pl.DataFrame({"CMD": [f"small-{number}" for number in range(400)]})
    assert rules.match("process", small).list.len().sum() == 0
    parts = rules._parts["process"]
    assert 40_000 <= len(parts._large.memories[0].known) <= 90_000
    assert len(parts._small.memories[0].known) == 400


def test_the_columns_that_no_rule_looks_at_are_not_needed() -> None:
    assert RuleSet([rule("busy", "CPU > 0.5")], STREAMS).match("process", pl.DataFrame({"CPU": [0.9]})).to_list() == [
        ["busy"]
    ]


def test_rules_of_a_file_match_like_their_samples(tmp_path: Path) -> None:
    shipped = load_rules([], STREAMS)
    for each in shipped:
        schema = STREAMS[each.stream].schema
        neutral = {
            column: "" if dtype == pl.String else False if dtype == pl.Boolean else 0
            for column, dtype in schema.items()
        }
        for samples, expected in ((each.must_fire, True), (each.must_not_fire, False)):
            records = pl.concat(
                pl.DataFrame({c: pl.Series([{**neutral, **sample}[c]]).cast(t) for c, t in schema.items()})
                for sample in samples
            )
            assert [each.id in ids for ids in shipped.match(each.stream, records)] == [expected] * len(samples)
