"""Window edges, the join, duplicates, idle streams and what is counted: small tables through the whole step."""

from __future__ import annotations

import pytest

from hackwatch.pipeline.core import Batch, Now, Pipeline
from hackwatch.pipeline.options import StreamOptions
from tests.pipeline.cases import JOINS, ORDERS, WINDOW_EDGES
from tests.pipeline.support import START, Record, pipeline, run


def step(target: Pipeline, *, elapsed: float = 0.0, **records: list[Record]) -> None:
    runs = [run(name, rows) for name, rows in records.items()]
    target.step(Batch(runs, [(name, 0) for name in records]), Now(START + 1e6, elapsed))


def windows(target: Pipeline) -> dict[tuple[str, int], tuple[int, int, int, bool]]:
    """(stream, start after START) -> (records, suspects, distinct suspects, final)."""
    return {(s, int(start - START)): (n, k, c, final) for s, _, start, _, n, k, c, final in target.take_windows()}


@pytest.mark.parametrize(("t", "start"), WINDOW_EDGES.values(), ids=WINDOW_EDGES)
def test_window_edges(t: float, start: int) -> None:
    target = pipeline()
    step(target, process=[Record(t)])
    assert list(windows(target)) == [("process", start)]


def test_a_window_counts_distinct_suspects_and_is_final_once_the_watermark_has_passed_its_end() -> None:
    target = pipeline()
    rows = [Record(1, suspect=True), Record(2, suspect=True), Record(3, pid=2, suspect=True), Record(4, pid=3)]
    step(target, process=rows)
    assert windows(target) == {("process", 0): (4, 3, 2, False)}
    step(target, process=[Record(139.999999)])
    assert ("process", 0) not in windows(target), "unchanged: the watermark is just before the end"
    step(target, process=[Record(140)])
    assert windows(target)[("process", 0)] == (4, 3, 2, True)


def test_a_window_is_given_again_only_when_it_changed() -> None:
    target = pipeline()
    step(target, process=[Record(1)])
    assert len(windows(target)) == 1
    assert windows(target) == {}


@pytest.mark.parametrize(("process", "memory", "pairs"), JOINS.values(), ids=JOINS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_join(process: Record, memory: Record, pairs: int, order: str) -> None:
    target = pipeline()
    runs = {"process": run("process", [process]), "memory": run("memory", [memory])}
    batches = {
        "process first": [[runs["process"]], [runs["memory"]]],
        "memory first": [[runs["memory"]], [runs["process"]]],
        "together": [list(runs.values())],
    }[order]
    outputs = [target.step(Batch(batch, [("process", 0), ("memory", 0)]), Now(START, 0)) for batch in batches]
    attacks = [frame for output in outputs for frame in output.rows.get("attacks", [])]
    assert sum(map(len, attacks)) == pairs
    assert sum(len(output.alerts) for output in outputs) == pairs
    for frame in attacks:
        assert {"process_event_time", "memory_event_time", "process_score", "memory_score"} <= set(frame.columns)


def test_all_pairs_are_kept_whatever_matched_before() -> None:
    target = pipeline()
    suspects = [Record(t, suspect=True) for t in (0, 5, 10)]
    first = target.step(Batch([run("process", suspects)], []), Now(START, 0))
    second = target.step(Batch([run("memory", suspects)], []), Now(START, 0))
    assert "attacks" not in first.rows
    assert sum(map(len, second.rows["attacks"])) == 9
    assert len(second.alerts) == 1, "one machine, one interval: one alert"
    assert [update.count for update in target.take_updates()] == [9]


def test_a_suspect_leaves_the_state_once_the_other_watermark_has_passed_it_by_30_s() -> None:
    target = pipeline()
    step(target, process=[Record(0, suspect=True)], memory=[Record(49.9)])
    assert target.state_rows()["correlation"] == 1
    step(target, memory=[Record(50)])
    assert target.state_rows()["correlation"] == 0


def test_an_idle_stream_goes_along_with_the_other() -> None:
    """Otherwise the windows and suspects of one stream would wait for ever for a feed that has died."""
    target = pipeline()
    step(target, process=[Record(0, suspect=True)], memory=[Record(0)])
    step(target, process=[Record(500)], elapsed=31.0)
    assert target.watermark("memory") == target.watermark("process") == START + 480
    assert target.state_rows()["correlation"] == 0
    assert windows(target)[("memory", 0)] == (1, 0, 0, True)


def test_late_records_are_kept_and_counted_but_neither_windowed_nor_correlated() -> None:
    target = pipeline()
    output = target.step(
        Batch([run("process", [Record(100), Record(5, suspect=True)]), run("memory", [Record(5, suspect=True)])], []),
        Now(START, 0),
    )
    counts = output.counts[("process", "process-topic", 0)]
    assert (counts.records, counts.on_time, counts.late, counts.suspects) == (2, 1, 1, 0)
    assert output.rows["process"][0]["late"].to_list() == [False, True]
    assert "attacks" not in output.rows
    assert windows(target)[("process", 0)] == (1, 0, 0, False)


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
    target = pipeline(StreamOptions(duplicates_key="uuid"))
    records = [Record(1, key=key) for key in keys]
    runs = [records] if together else [[record] for record in records]
    outputs = [
        target.step(Batch([run("process", rows, offset=i, keyed=True)], []), Now(START, 0))
        for i, rows in enumerate(runs)
    ]
    rows = [frame for output in outputs for frame in output.rows.get("process", [])]
    assert sum(map(len, rows)) == kept
    assert "key" not in rows[0].columns
    total = target.totals[("process", "process-topic", 0)]
    assert (total.records, total.on_time, total.duplicate) == (2, kept, 2 - kept)


def test_duplicate_keys_are_forgotten_with_the_watermark() -> None:
    target = pipeline(StreamOptions(duplicates_key="uuid"))
    target.step(Batch([run("process", [Record(0, key="a"), Record(100, key="b")], keyed=True)], []), Now(START, 0))
    assert target.state_rows()["duplicates_process"] == 1, "b is still within the horizon, a is not"
    output = target.step(Batch([run("process", [Record(0, key="a")], offset=2, keyed=True)], []), Now(START, 0))
    assert output.counts[("process", "process-topic", 0)].late == 1
