"""Window edges, the join, duplicates, idle streams and what is counted: small tables through the whole step."""

from __future__ import annotations

from itertools import pairwise

import pytest

from hackwatch.config import StreamSettings
from hackwatch.pipeline.core import Batch, Now, Output, Pipeline, serialise, time_groups
from hackwatch.pipeline.options import StreamOptions
from hackwatch.streams.declarations import Correlation
from tests.pipeline.cases import JOINS, ORDERS, WINDOW_EDGES
from tests.third.scored import START, Record, pipeline, run, window_rows


def step(target: Pipeline, *, elapsed: float = 0.0, **records: list[Record]) -> Output:
    runs = [run(name, rows) for name, rows in records.items()]
    return target.step(Batch(runs, [(name, 0) for name in records]), Now(START + 1e6, elapsed))


def windows(target: Pipeline) -> dict[tuple[str, int], tuple[int, int, int, bool]]:
    """(stream, start after START) -> (records, suspects, distinct suspects, final)."""
    return {
        (one.stream, int(one.start - START)): (one.records, one.suspects, one.distinct, one.final)
        for one in window_rows(target)
    }


@pytest.mark.parametrize(("t", "start"), WINDOW_EDGES.values(), ids=WINDOW_EDGES)
def test_window_edges(t: float, start: int) -> None:
    target = pipeline()
    step(target, visit=[Record(t)])
    assert list(windows(target)) == [("visit", start)]


def test_a_window_counts_distinct_suspects_and_is_final_once_the_watermark_has_passed_its_end() -> None:
    target = pipeline()
    rows = [Record(1, suspect=True), Record(2, suspect=True), Record(3, session=2, suspect=True), Record(4, session=3)]
    step(target, visit=rows)
    assert windows(target) == {("visit", 0): (4, 3, 2, False)}
    step(target, visit=[Record(139.999999)])
    assert ("visit", 0) not in windows(target), "unchanged: the watermark is just before the end"
    step(target, visit=[Record(140)])
    assert windows(target)[("visit", 0)] == (4, 3, 2, True)


def test_a_window_is_given_again_only_when_it_changed() -> None:
    target = pipeline()
    step(target, visit=[Record(1)])
    assert len(windows(target)) == 1
    assert windows(target) == {}


@pytest.mark.parametrize(("visit", "login", "pairs"), JOINS.values(), ids=JOINS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_join(visit: Record, login: Record, pairs: int, order: str) -> None:
    target = pipeline()
    runs = {"visit": run("visit", [visit]), "login": run("login", [login])}
    batches = {
        "left first": [[runs["visit"]], [runs["login"]]],
        "right first": [[runs["login"]], [runs["visit"]]],
        "together": [list(runs.values())],
    }[order]
    outputs = [target.step(Batch(batch, [("visit", 0), ("login", 0)]), Now(START, 0)) for batch in batches]
    taken = [frame for output in outputs for frame in output.rows.get("takeovers", [])]
    assert sum(map(len, taken)) == pairs
    assert sum(len(output.alerts) for output in outputs) == pairs
    for frame in taken:
        assert {"visit_event_time", "login_event_time", "visit_score", "login_score"} <= set(frame.columns)


def test_all_pairs_are_kept_whatever_matched_before() -> None:
    target = pipeline()
    suspects = [Record(t, suspect=True) for t in (0, 5, 10)]
    first = target.step(Batch([run("visit", suspects)], []), Now(START, 0))
    second = target.step(Batch([run("login", suspects)], []), Now(START, 0))
    assert "takeovers" not in first.rows
    assert sum(map(len, second.rows["takeovers"])) == 9
    assert len(second.alerts) == 1, "one client, one interval: one alert"
    assert [update.count for update in target.take_updates()] == [9]


def test_a_suspect_leaves_the_state_once_the_other_watermark_has_passed_it_by_30_s() -> None:
    target = pipeline()
    step(target, visit=[Record(0, suspect=True)], login=[Record(49.9)])
    assert target.state_rows()["correlation"] == 1
    step(target, elapsed=0.3, login=[Record(50)])
    assert target.state_rows()["correlation"] == 0


def test_a_stream_that_is_silent_for_a_minute_loses_neither_windows_nor_pairs() -> None:
    """Its sister goes on meanwhile; what waited comes back on time, and finds its partners."""
    target = pipeline()
    times = [*range(0, 70, 10)]
    step(target, visit=[Record(0)], login=[Record(0)])
    for t in times[1:]:
        step(target, elapsed=float(t), visit=[Record(t, session=t, suspect=True)])
    output = step(target, elapsed=60.0, login=[Record(t, session=t, suspect=True) for t in times[1:]])
    assert target.totals[("login", "login-topic", 0)].late == 0
    assert sum(map(len, output.rows["takeovers"])) == 6


def test_suspects_do_not_wait_for_ever_for_a_stream_that_has_died() -> None:
    target = pipeline()
    step(target, visit=[Record(0, suspect=True)], login=[Record(0)])
    for t in (100, 300, 649.9):
        step(target, elapsed=t / 100, visit=[Record(t)])
        assert target.state_rows()["correlation"] == 1
    step(target, elapsed=7.0, visit=[Record(650)])
    assert target.state_rows()["correlation"] == 0


def test_windows_of_a_silent_source_become_final_with_engine_time() -> None:
    target = pipeline()
    step(target, visit=[Record(t) for t in range(0, 420, 5)])
    assert [window[3] for _, window in sorted(windows(target).items())] == [True, True, True, False]
    assert not target.tick_due(29.0)
    assert target.tick_due(31.0)
    step(target, elapsed=40.0)
    assert windows(target) == {}
    step(target, elapsed=116.0)
    assert [window[3] for window in windows(target).values()] == [True]
    assert not target.tick_due(1000.0), "nothing is open any more"


def test_a_replay_of_another_time_delays_no_other_group() -> None:
    """Streams that no correlation joins do not share a clock."""
    assert time_groups(["a", "b", "c"], [Correlation("x", "a", "c", ("k",))]) == {"a": 0, "b": 1, "c": 0}
    chain = [Correlation("x", "a", "b", ("k",)), Correlation("y", "b", "c", ("k",))]
    assert set(time_groups(["a", "b", "c"], chain).values()) == {0}


def test_late_records_are_kept_and_counted_but_neither_windowed_nor_correlated() -> None:
    target = pipeline()
    output = target.step(
        Batch([run("visit", [Record(100), Record(5, suspect=True)]), run("login", [Record(5, suspect=True)])], []),
        Now(START, 0),
    )
    counts = output.counts[("visit", "visit-topic", 0)]
    assert (counts.records, counts.on_time, counts.late, counts.suspects) == (2, 1, 1, 0)
    assert output.rows["visit"][0]["late"].to_list() == [False, True]
    assert "takeovers" not in output.rows
    assert windows(target)[("visit", 0)] == (1, 0, 0, False)


@pytest.mark.parametrize(
    ("keys", "kept"),
    [
        pytest.param(["a", "b"], 2, id="different"),
        pytest.param(["a", "a"], 1, id="twice"),
        pytest.param([None, None], 2, id="no key is never a duplicate"),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
def test_duplicates(keys: list[str | None], kept: int, together: bool) -> None:
    target = pipeline(StreamOptions(StreamSettings(duplicates_key="uuid")))
    records = [Record(1, key=key) for key in keys]
    runs = [records] if together else [[record] for record in records]
    outputs = [
        target.step(Batch([run("visit", rows, offset=i, keyed=True)], []), Now(START, 0)) for i, rows in enumerate(runs)
    ]
    rows = [frame for output in outputs for frame in output.rows.get("visit", [])]
    assert sum(map(len, rows)) == kept
    assert "key" not in rows[0].columns
    total = target.totals[("visit", "visit-topic", 0)]
    assert (total.records, total.on_time, total.duplicate) == (2, kept, 2 - kept)


#: (key, seconds) of one source, and which are kept: a key is forgotten once the watermark has passed its time.
REPEATS: dict[str, tuple[list[tuple[str, float]], list[bool]]] = {
    "within the lateness": ([("a", 0), ("b", 15), ("a", 16)], [True, True, False]),
    "beyond it": ([("a", 0), ("b", 30), ("a", 31)], [True, True, True]),
    "exactly at the watermark": ([("a", 0), ("b", 20), ("a", 21)], [True, True, False]),
    "the first one kept counts, not its repeats": (
        [("a", 0), ("a", 15), ("b", 25), ("a", 26)],
        [True, False, True, True],
    ),
}


@pytest.mark.parametrize("case", REPEATS)
@pytest.mark.parametrize("size", [1, 2, 4], ids=["one record a batch", "two", "all at once"])
def test_keys_are_forgotten_with_the_watermark_before_each_record(case: str, size: int) -> None:
    rows, kept = REPEATS[case]
    target, found = pipeline(StreamOptions(StreamSettings(duplicates_key="uuid"))), set()
    for start in range(0, len(rows), size):
        batch = [Record(t, key=key) for key, t in rows[start : start + size]]
        output = target.step(Batch([run("visit", batch, offset=start, keyed=True)], []), Now(START, 0))
        found |= {offset for frame in output.rows.get("visit", []) for offset in frame["offset"].to_list()}
    assert [offset in found for offset in range(len(rows))] == kept


def test_nobody_can_claim_the_key_of_another_source() -> None:
    target = pipeline(StreamOptions(StreamSettings(duplicates_key="uuid")))
    batch = [Record(0, server="evil", key="v"), Record(1, server="victim", key="v")]
    target.step(Batch([run("visit", batch, keyed=True)], []), Now(START, 0))
    assert target.totals[("visit", "visit-topic", 0)].duplicate == 0


@pytest.mark.parametrize(("before", "after"), [(120, 60), (60, 120), (120, 90)])
def test_a_changed_window_length_relabels_nothing(before: int, after: int) -> None:
    first = pipeline(StreamOptions(StreamSettings(window_seconds=before)))
    step(first, visit=[Record(t) for t in (0, 50, 100)])
    told = {row[:4]: row for row in window_rows(first)}
    second = pipeline(StreamOptions(StreamSettings(window_seconds=after)))
    second.restore(serialise(first.snapshot()))
    step(second, visit=[Record(t) for t in (110, 130, 1000)])
    told |= {row[:4]: row for row in window_rows(second)}
    spans = sorted((row.start - START, row.end - START) for row in told.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(spans)), "none overlaps another"
    assert sum(row.records for row in told.values()) == 6, "each record is counted once"
    lengths = {end - start for start, end in spans}
    assert lengths == {before, after}
