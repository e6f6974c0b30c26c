"""Aggregates against a brute-force oracle: any measure, cut, grouping of partial states, clock and limit."""

from __future__ import annotations

import random
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hackwatch.pipeline.aggregates import Closed
from hackwatch.pipeline.arrivals import arrivals_of_few
from hackwatch.streams.checks import aggregate_problems
from hackwatch.streams.declarations import (
    Aggregate,
    Count,
    Distinct,
    Outliers,
    windows_of,
)
from tests.pipeline.counted import (
    SECOND,
    START,
    WEB,
    Expected,
    Request,
    declared,
    found,
    frame,
    new,
    oracle,
    reopened,
    request,
    stream,
)

requests_drawn = st.lists(
    st.tuples(
        st.integers(0, 500).map(float),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["s1", "s2"]),
        st.sampled_from(["/", "/login", "/x", None]),
        st.sampled_from([200, 301, 404, 500]),
        st.one_of(st.none(), st.integers(0, 50).map(float)),
        st.booleans(),
    ),
    max_size=60,
)
cuts_drawn = st.lists(st.integers(0, 60), max_size=5)


def pieces(requests: list[Request], cuts: list[int]) -> list[list[Request]]:
    edges = [0, *sorted(min(cut, len(requests)) for cut in cuts), len(requests)]
    return [requests[a:b] for a, b in pairwise(edges)]


@given(requests_drawn, cuts_drawn)
@settings(max_examples=60, deadline=None)
def test_any_cut_into_batches_gives_the_oracles_values(requests: list[Request], cuts: list[int]) -> None:
    target = new()
    for piece in pieces(requests, cuts):
        target.add(frame(piece))
    assert found(target.take_changes()) == oracle(requests)


@given(requests_drawn, cuts_drawn, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_partial_states_merged_in_any_grouping_are_all_added(
    requests: list[Request], cuts: list[int], order: random.Random
) -> None:
    target, between = new(), new()
    parts = [new().partial(frame(piece)) for piece in pieces(requests, cuts)]
    order.shuffle(parts)
    for part in parts:
        order.choice([target, between]).merge(reopened(part))
    target.merge(reopened(between.snapshot()))
    assert found(target.take_changes()) == oracle(requests)


@given(requests_drawn, cuts_drawn, st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_restart_changes_nothing(requests: list[Request], cuts: list[int], after: int) -> None:
    target, changes = new(), Expected()
    for place, piece in enumerate(pieces(requests, cuts)):
        target.add(frame(piece))
        if place == after:
            changes |= found(target.take_changes())
            saved, target = target.snapshot(), new()
            assert target.restore(reopened(saved)) == 0
            assert target.take_changes().is_empty()
            assert len(target) == len(saved)
    assert changes | found(target.take_changes()) == oracle(requests)


@pytest.mark.parametrize("told", [False, True], ids=["counted", "told to come"])
@given(requests_drawn, cuts_drawn, st.lists(st.tuples(st.sampled_from(["s1", "s2"]), st.integers(0, 500)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_each_source_closes_by_its_own_clock(
    told: bool, requests: list[Request], cuts: list[int], moves: list[tuple[str, int]]
) -> None:
    """Records are on time: none is older than the watermark of its source. What is told to come has late ones too."""
    target, marks, closed = new(), {"s1": 0.0, "s2": 0.0}, list[Closed]()
    taken: list[Request] = []
    for piece, (source, seconds) in zip(pieces(requests, cuts), moves, strict=False):
        fitting = [r for r in piece if r[0] >= marks[r[2]]]
        taken += fitting
        if told:
            times = [round((START + r[0]) * SECOND) for r in piece]
            target.expect(arrivals_of_few([0] * len(piece), [r[2] for r in piece], times))
        target.add(frame(fitting))
        if seconds > marks[source]:
            marks[source] = seconds
            closed += target.close({source: (START + seconds) * SECOND})
    expected = oracle(taken)
    due = {place for place in expected if place[3] <= START + marks[place[1]]}
    assert {(c.keys[0], c.source, c.start, c.end): dict(c.values) for c in closed} == {p: expected[p] for p in due}
    assert len(closed) == len(due)
    changes = target.take_changes()
    assert found(changes) == expected
    assert set(found(changes.filter("final"))) == due
    assert len(target) == len(expected) - len(due)


def test_what_has_become_final_comes_in_order_of_start_and_keys() -> None:
    target = new()
    target.add(frame([request(130, "a"), request(0, "c"), request(0, "b", "s2"), request(5, "b")]))
    closed = target.close({"s1": (START + 240) * SECOND, "s2": (START + 120) * SECOND})
    assert [(c.start - START, c.keys, c.source) for c in closed] == [
        (0, ("b",), "s1"), (0, ("b",), "s2"), (0, ("c",), "s1"), (120, ("a",), "s1"),
    ]  # fmt: skip
    assert not target.has_open()
    assert target.close({"s1": (START + 900) * SECOND}) == []


def test_only_what_changed_is_told_and_only_once() -> None:
    target = new(declared(Count("requests")))
    target.add(frame([request(0, "a"), request(0, "b")]))
    assert len(target.take_changes()) == 2
    assert target.take_changes().is_empty()
    target.add(frame([request(1, "b")]))
    assert target.take_changes().select("client", "requests", "final").rows() == [("b", 2, False)]
    target.close({"s1": (START + 120) * SECOND})
    assert sorted(target.take_changes().select("client", "requests", "final").rows()) == [
        ("a", 1, True),
        ("b", 2, True),
    ]


def test_without_a_source_column_the_partition_is_the_source() -> None:
    target = new(declared(Count("requests")), stream(None))
    target.add(frame([request(0)], partition=3))
    target.add(frame([request(0), request(1)], partition=12))
    assert sorted(target.take_changes().select("source", "requests").rows()) == [("12", 2), ("3", 1)]
    assert [c.source for c in target.close({"12": (START + 120) * SECOND})] == ["12"]


def test_the_source_may_be_a_key_and_there_may_be_no_key() -> None:
    by_server = new(declared(Count("requests"), keys=("server",)))
    by_server.add(frame([request(0), request(1, server="s2")]))
    assert sorted(by_server.take_changes().select("server", "source", "requests").rows()) == [
        ("s1", "s1", 1), ("s2", "s2", 1),
    ]  # fmt: skip
    total = new(declared(Count("requests"), keys=()))
    total.add(frame([request(0), request(1, "b")]))
    assert total.take_changes().select("source", "requests").rows() == [("s1", 2)]


def test_only_rows_of_the_condition_count() -> None:
    target = new(declared(Count("requests"), where="path = '/login'"))
    target.add(frame([request(0), request(1, path="/login"), request(2, path=None)]))
    assert target.take_changes()["requests"].to_list() == [1]


def test_the_windows_of_a_stream_are_counted() -> None:
    target = new(windows_of(WEB))
    rows = [request(0, path="/a", suspect=True), request(1, path="/a", suspect=True), request(2, path="/b")]
    target.add(frame(rows))
    assert target.take_changes().select("records", "suspects", "count").rows() == [(3, 2, 1)]


@pytest.mark.parametrize(
    ("aggregate", "problem"),
    [
        (declared(Count("final")), "aggregate requests: final: every aggregate has such columns"),
        (declared(outliers=Outliers("top", "busy", "busy")), "aggregate requests: outliers: 'top' is a list"),
        (declared(outliers=Outliers("sizes", "big", "big")), "aggregate requests: outliers: 'sizes' is a list"),
    ],
)
def test_what_cannot_be_counted_or_judged_is_refused(aggregate: Aggregate, problem: str) -> None:
    (found,) = aggregate_problems(aggregate, WEB)
    assert found.startswith(problem)


def test_all_measures_together_are_no_problem() -> None:
    assert aggregate_problems(declared(outliers=Outliers("requests", "busy", "busy")), WEB) == []


# -- limit -------------------------------------------------------------------------------------------------------------


def test_keys_beyond_the_limit_are_counted_together_and_the_most_active_are_kept() -> None:
    target = new(declared(Count("requests"), Distinct("paths", "path"), limit=2))
    rows = [request(i / 10, c, path=f"/{i % 4}") for i, c in enumerate("abbcccdddd")]
    target.add(frame(rows))
    target.add(frame([request(3, "e", "s2"), request(130, "e")]))  # another source and another interval
    changes = target.take_changes()
    assert sorted(changes.select(pl.col("client").fill_null("-"), "source", "start", "requests").rows()) == [
        ("-", "s1", START, 3), ("c", "s1", START, 3), ("d", "s1", START, 4),
        ("e", "s1", START + 120, 1), ("e", "s2", START, 1),
    ]  # fmt: skip
    target.add(frame([request(4, "f"), request(5, "c")]))
    assert sorted(target.take_changes().select(pl.col("client").fill_null("-"), "requests").rows()) == [
        ("-", 4), ("c", 4),
    ]  # fmt: skip
    again = new(target.aggregate)
    again.restore(reopened(target.snapshot()))
    again.add(frame([request(6, "g")]))
    assert again.take_changes().select("client", "requests").rows() == [(None, 5)]


def test_no_row_is_lost_to_the_limit_however_many_keys_are_made_up() -> None:
    target = new(declared(Count("requests"), limit=100))
    for batch in range(20):
        target.add(frame([request(batch, f"c{batch}-{i}") for i in range(200)]))
        assert len(target) <= 101
    assert target.take_changes()["requests"].sum() == 4_000
