"""Aggregates against a brute-force oracle: any measure, cut, grouping of partial states, clock, limit and length."""

from __future__ import annotations

import io
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hackwatch.pipeline import measures
from hackwatch.pipeline.aggregates import Aggregates, Closed
from hackwatch.pipeline.arrivals import arrivals_of_few
from hackwatch.pipeline.detection import SCORED
from hackwatch.streams.checks import aggregate_problems
from hackwatch.streams.declarations import (
    Aggregate,
    Count,
    Distinct,
    Mean,
    Measure,
    Outliers,
    Quantile,
    Share,
    Sum,
    Top,
    windows_of,
)
from hackwatch.streams.stream import POSITION, Decoded, DecodeOptions, Features, Messages, Noun, Stream

START = 1_700_000_640  # a multiple of 360 s: a boundary of all lengths here
SECOND = 1_000_000

SCHEMA = pl.Schema(
    {
        "client": pl.String(),
        "server": pl.String(),
        "path": pl.String(),
        "status": pl.Int64(),
        "bytes": pl.Float64(),
        "event_time": pl.Datetime("us", "UTC"),
    }
)
MEASURES: tuple[Measure, ...] = (
    Count("requests"),
    Count("suspects", "prediction = 1"),
    Sum("bytes", "bytes"),
    Mean("mean", "bytes", "status < 400"),
    Share("failed", "status >= 400"),
    Share("failed_suspects", "status >= 400", "prediction = 1"),
    Distinct("paths", "path"),
    Distinct("statuses", "status", "prediction = 1"),
    Top("top", "path", 2),
    Quantile("sizes", "bytes", (0.0, 0.5, 0.9, 1.0)),
)
#: A request: seconds after START, client, server, path, status, bytes, suspect.
Request = tuple[float, str, str, str | None, int, float | None, bool]


def _never_decoded(messages: Messages, options: DecodeOptions) -> Decoded:
    raise AssertionError("these tests hand over scored records")


def stream(source: str | None = "server") -> Stream:
    noun = Noun("client", "clients")
    features = Features((), (), ())
    return Stream("web", SCHEMA, "client", noun, "path", "path", source, (), features, {}, _never_decoded)


WEB = stream()


def declared(*measures: Measure, keys: tuple[str, ...] = ("client",), **options: Any) -> Aggregate:
    return Aggregate("requests", "web", keys, measures or MEASURES, **options)


def frame(requests: Sequence[Request], partition: int = 0) -> pl.DataFrame:
    """The scored records of some requests."""
    names = ["t", "client", "server", "path", "status", "bytes", "suspect"]
    columns = dict(zip(names, zip(*requests, strict=True), strict=True)) if requests else dict.fromkeys(names, ())
    times = pl.Series("event_time", [round((START + t) * 1e6) for t in columns["t"]], dtype=pl.Int64())
    known = [pl.Series(name, columns[name], dtype=SCHEMA[name]) for name in names[1:6]]
    place = {
        "partition": [partition] * len(requests),
        "offset": list(range(len(requests))),
        "index": [0] * len(requests),
    }
    scored: dict[str, list[Any]] = {
        "score": [0.9 if suspect else 0.1 for suspect in columns["suspect"]],
        "prediction": [int(suspect) for suspect in columns["suspect"]],
        "rules": [[] for _ in requests],
    }
    position = [pl.Series(name, place[name], dtype=POSITION[name]) for name in POSITION]
    flags = [pl.Series(name, scored[name], dtype=SCORED[name]) for name in SCORED]
    return pl.DataFrame([*known, times.cast(SCHEMA["event_time"]), *position, *flags])


def values(requests: Sequence[Request]) -> dict[str, Any]:
    """The values of MEASURES over some requests, computed record by record."""
    suspects = [r for r in requests if r[6]]
    sizes = sorted(r[5] for r in requests if r[5] is not None)
    fine = [r[5] for r in requests if r[4] < 400 and r[5] is not None]
    paths = Counter(r[3] for r in requests if r[3] is not None)
    shown: list[tuple[str | None, int]] = [*sorted(paths.items(), key=lambda each: (-each[1], each[0]))[:2]]
    if others := len(requests) - sum(count for _, count in shown):
        shown.append((None, others))
    return {
        "requests": len(requests),
        "suspects": len(suspects),
        "bytes": sum(sizes),
        "mean": sum(fine) / len(fine) if fine else None,
        "failed": sum(r[4] >= 400 for r in requests) / len(requests),
        "failed_suspects": sum(r[4] >= 400 for r in suspects) / len(suspects) if suspects else None,
        "paths": len(paths),
        "statuses": len({r[4] for r in suspects}),
        "top": [{"value": value, "count": count} for value, count in shown],
        "sizes": [sizes[max(0, math.ceil(q * len(sizes)) - 1)] for q in (0.0, 0.5, 0.9, 1.0)] if sizes else None,
    }


Expected = dict[tuple[str, str, int, int], dict[str, Any]]


def oracle(requests: Iterable[Request], length: Callable[[Request], int] = lambda _: 120) -> Expected:
    """(client, server, start, end) -> values. `length`: of the interval of a request, in seconds."""
    groups: dict[tuple[str, str, int, int], list[Request]] = defaultdict(list)
    for request in requests:
        seconds = length(request)
        start = math.floor(START + request[0]) // seconds * seconds
        groups[(request[1], request[2], start, start + seconds)].append(request)
    return {place: values(mine) for place, mine in groups.items()}


def found(changes: pl.DataFrame) -> Expected:
    """take_changes in the oracle's form: the last row of each interval."""
    names = [name for name in changes.columns if name not in ("client", "source", "start", "end", "final")]
    return {
        (row["client"], row["source"], row["start"], row["end"]): {name: row[name] for name in names}
        for row in changes.iter_rows(named=True)
    }


def reopened(snapshot: pl.DataFrame) -> pl.DataFrame:
    """A snapshot after a way through Arrow bytes."""
    buffer = io.BytesIO()
    snapshot.write_ipc_stream(buffer)
    return pl.read_ipc_stream(buffer.getvalue())


def new(aggregate: Aggregate | None = None, of: Stream = WEB) -> Aggregates:
    return Aggregates(aggregate or declared(), of)


# -- values ------------------------------------------------------------------------------------------------------------

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


def request(t: float, client: str = "a", server: str = "s1", path: str | None = "/", suspect: bool = False) -> Request:
    return (t, client, server, path, 200, 1.0, suspect)


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


# -- a changed length --------------------------------------------------------------------------------------------------

SWITCHES = [  # old, new, latest record before the restart, first second of the new length
    (120, 60, 10, 120),
    (120, 60, 130, 240),
    (60, 120, 10, 120),
    (60, 120, 130, 240),
    (120, 90, 10, 360),
    (120, 90, 350, 360),
    (120, 90, 365, 720),
    (90, 120, 95, 360),
]


@pytest.mark.parametrize(("old", "seconds", "latest", "switch"), SWITCHES)
@pytest.mark.parametrize("restarts", [0, 3])
def test_what_is_open_is_finished_under_its_own_length(
    old: int, seconds: int, latest: int, switch: int, restarts: int
) -> None:
    before = [request(t, c) for t in range(0, latest + 1, 5) for c in "ab"]
    after = [request(t, c) for t in range(latest, 1_000, 7) for c in "ab"]
    late_source = [request(t, "a", "s2") for t in range(0, 1_000, 40)]  # had nothing open
    target = new(declared(seconds=old))
    target.add(frame(before))
    changes = found(target.take_changes())
    for _ in range(restarts + 1):
        saved, target = target.snapshot(), new(declared(seconds=seconds))
        target.restore(reopened(saved))
    target.add(frame(after + late_source))
    changes |= found(target.take_changes())
    assert changes == oracle(before + after + late_source, lambda r: old if r[2] == "s1" and r[0] < switch else seconds)
    closed = target.close(dict.fromkeys(("s1", "s2"), (START + 2000) * SECOND))
    assert {(c.keys[0], c.source, c.start, c.end) for c in closed} == set(changes)
    assert target.snapshot().is_empty()


def test_the_switch_is_kept_when_all_old_intervals_have_closed_before_it() -> None:
    target = new(declared(Count("requests"), seconds=120))
    target.add(frame([request(10)]))
    saved, target = target.snapshot(), new(declared(Count("requests"), seconds=90))
    target.restore(reopened(saved))
    target.add(frame([request(250)]))
    assert [c.end - START for c in target.close({"s1": (START + 245) * SECOND})] == [120]
    saved, target = target.snapshot(), new(declared(Count("requests"), seconds=90))
    target.restore(reopened(saved))
    target.add(frame([request(359), request(360)]))
    spans = [(c.start - START, c.end - START) for c in target.close({"s1": (START + 1_000) * SECOND})]
    assert spans == [(240, 360), (360, 450)]


def test_lengths_may_change_again_before_the_switch() -> None:
    lengths = (120, 90, 60)
    target = new(declared(Count("requests"), seconds=lengths[0]))
    target.add(frame([request(10)]))
    for seconds in lengths[1:]:
        saved, target = target.snapshot(), new(declared(Count("requests"), seconds=seconds))
        target.restore(reopened(saved))
    target.add(frame([request(t) for t in range(10, 600, 10)]))
    spans = sorted((c.start - START, c.end - START) for c in target.close({"s1": (START + 1_000) * SECOND}))
    assert spans == [(0, 120), (120, 240), (240, 360), (360, 420), (420, 480), (480, 540), (540, 600)]


def test_a_common_boundary_that_is_too_far_away_is_not_waited_for() -> None:
    target = new(declared(Count("requests"), seconds=7_200))
    target.add(frame([request(0)]))
    saved, target = target.snapshot(), new(declared(Count("requests"), seconds=7_201))
    target.restore(reopened(saved))
    end = START // 7_200 * 7_200 + 7_200
    switch = -(-end // 7_201) * 7_201
    target.add(frame([request(switch - START - 1), request(switch - START)]))
    changes = sorted(target.take_changes().select("start", "end").rows())
    before = (switch - 1) // 7_200 * 7_200
    assert changes == [(before, before + 7_200), (switch, switch + 7_201)]


def test_a_new_measure_starts_anew_and_intervals_without_a_key_are_told() -> None:
    target = new(declared(Count("requests")))
    target.add(frame([request(0)]))
    saved = reopened(target.snapshot())
    more = new(declared(Count("requests"), Sum("bytes", "bytes"), Distinct("paths", "path")))
    assert more.restore(saved) == 0
    more.add(frame([request(1)]))
    assert more.take_changes().select("requests", "bytes", "paths").rows() == [(2, 1.0, 1)]
    other = new(declared(Count("requests"), keys=("client", "path")))
    assert other.restore(saved) == 1
    assert not other.has_open()


# -- sketches ----------------------------------------------------------------------------------------------------------


def many(number: int, distinct: int) -> list[Request]:
    draw = random.Random(5)
    return [
        (draw.random() * 100, "a", "s1", f"/{min(int(draw.paretovariate(0.6)), distinct)}", draw.randrange(distinct),
         draw.gauss(500, 100), True)
        for _ in range(number)
    ]  # fmt: skip


SMALL = (
    Distinct("paths", "path", exact=50), Distinct("statuses", "status", exact=50), Top("top", "path", 5, exact=64),
    Quantile("sizes", "bytes", (0.05, 0.5, 0.95)),
)  # fmt: skip


def added(requests: list[Request]) -> Aggregates:
    target = new(declared(*SMALL))
    for i in range(0, len(requests), 700):
        target.add(frame(requests[i : i + 700]))
        target.take_changes()
    return target


def merged(requests: list[Request]) -> Aggregates:
    target, task = new(declared(*SMALL)), new(declared(*SMALL))
    for i in range(0, len(requests), 700):
        target.merge(reopened(task.partial(frame(requests[i : i + 700]))))
    return target


def restarted(requests: list[Request]) -> Aggregates:
    first, target = added(requests[:5_000]), new(declared(*SMALL))
    target.restore(reopened(first.snapshot()))
    target.add(frame(requests[5_000:]))
    return target


def mixed(requests: list[Request]) -> Aggregates:
    """Exact and estimated states merged, each way round."""
    few, most = added(requests[:20]), added(requests[20:])
    target = new(declared(*SMALL))
    target.merge(few.snapshot())
    target.merge(most.snapshot())
    target.merge(new(declared(*SMALL)).snapshot())
    return target


@pytest.mark.parametrize("way", [added, merged, restarted, mixed])
def test_estimates_are_within_their_error(way: Callable[[list[Request]], Aggregates]) -> None:
    requests = many(10_000, 6_000)
    (closed,) = way(requests).close({"s1": (START + 120) * SECOND})
    for name, column in (("paths", 3), ("statuses", 4)):
        assert closed.values[name] == pytest.approx(len({r[column] for r in requests}), rel=3 * 0.008)
    counts, shown = Counter(r[3] for r in requests), closed.values["top"]
    assert sum(each["count"] for each in shown) == len(requests)
    slack = 3.5 / 128 * len(requests)  # of a frequent-items sketch of 128 places
    for each, (_, count) in zip(shown[:2], counts.most_common(2), strict=False):
        assert counts[each["value"]] - slack <= each["count"] <= counts[each["value"]]
        assert count - counts[each["value"]] <= slack
    sizes = sorted(r[5] for r in requests if r[5] is not None)
    for rank, value in zip((0.05, 0.5, 0.95), closed.values["sizes"], strict=True):
        assert sum(size <= value for size in sizes) / len(sizes) == pytest.approx(rank, abs=2 * 0.0133)


@pytest.mark.parametrize("way", [added, merged])
def test_up_to_the_bound_everything_is_exact(way: Callable[[list[Request]], Aggregates]) -> None:
    requests: list[Request] = [(float(i), "a", "s1", f"/{i % 50}", i % 50, float(i), False) for i in range(110)]
    (closed,) = way(requests).close({"s1": (START + 120) * SECOND})
    assert (closed.values["paths"], closed.values["statuses"]) == (50, 50)
    assert closed.values["top"][:2] == [{"value": "/0", "count": 3}, {"value": "/1", "count": 3}]
    assert closed.values["top"][-1] == {"value": None, "count": 110 - 15}
    assert closed.values["sizes"] == [5.0, 54.0, 104.0]


def test_a_sketch_is_never_left_again() -> None:
    target = new(declared(Distinct("paths", "path", exact=3)))
    target.add(frame([request(i, path=f"/{i}") for i in range(4)]))
    saved = target.snapshot()
    assert saved["paths"].to_list() == [None]
    assert isinstance(saved["paths__sketch"][0], bytes)
    again = new(replace(target.aggregate, measures=(Distinct("paths", "path", exact=1_000),)))
    again.restore(saved)
    again.add(frame([request(5, path="/0"), request(6, path="/9")]))
    assert again.take_changes()["paths"].to_list() == [5]
    assert again.snapshot()["paths"].to_list() == [None]


def test_sketches_are_as_large_as_their_stated_error_asks() -> None:
    import datasketches

    errors = [
        datasketches.hll_sketch.get_rel_err(False, True, size, 1) for size in (measures._LG_K - 1, measures._LG_K)
    ]
    assert errors[0] > measures.STANDARD_ERROR >= errors[1]
