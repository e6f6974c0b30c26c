"""Lateness, aggregates and pairs of any family against the oracle, for any batch split and interleaving.

Each day is that of both families at once, through one pipeline.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from hackwatch.pipeline.core import serialise
from hackwatch.streams.declarations import WINDOWS, Correlation, windows_of
from tests.third import oracle
from tests.third.core import WINDOW, Told, core, frames, joined, pair_rows, run, told
from tests.third.days import FAMILIES, Made, cut, made
from tests.third.support import shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")


def a_day(seed: int) -> Made:
    """One clock in each partition, or two or three in both; every other day they are wrong by minutes."""
    return made(FAMILIES, random.Random(seed), sources=1 + seed % 3, skew=300.0 if seed % 2 == 0 else 0.0)


def assert_told(one: Made, found: Told) -> None:
    """Windows, and every declared aggregate: of each key, by each source's clock."""
    windows = [windows_of(stream, WINDOW) for stream in one.streams.values()]
    assert set(found) == {(aggregate.stream, aggregate.name) for aggregate in (*windows, *one.aggregates)}
    for name, stream in one.streams.items():
        expected = oracle.windows(one.day, stream, WINDOW)
        counted = {place: tuple(values.values()) for place, values in found[name, WINDOWS].items()}
        assert counted == {place: window.values for place, window in expected.items()}, name
    for aggregate in one.aggregates:
        groups = oracle.groups(one.day, aggregate, one.streams[aggregate.stream])
        intervals = found[aggregate.stream, aggregate.name]
        assert set(intervals) == set(groups), aggregate.name
        for place, values in intervals.items():
            for measure in aggregate.measures:
                value = values[measure.name]
                assert oracle.agrees(measure, value, groups[place]), f"{aggregate.name} {place} {measure.name}: {value}"


Pairs = list[tuple[oracle.Position, oracle.Position]]


def expected_pairs(one: Made, correlation: Correlation) -> Pairs:
    return oracle.pairs(one.day, correlation, one.streams[correlation.left], one.streams[correlation.right])


@pytest.mark.parametrize("seed", range(60))
def test_any_split_equals_the_oracle(seed: int) -> None:
    one, chance = a_day(seed), random.Random(seed)
    target = core(one)
    outputs = run(target, cut(one, chance))
    assert_told(one, told(target))
    for correlation in one.correlations:
        assert pair_rows(outputs, correlation) == expected_pairs(one, correlation), correlation.name
    for (name, partition), rows in one.day.items():
        found = frames(outputs, name).filter(partition=partition).sort("offset")
        assert found["late"].to_list() == oracle.late(rows, one.streams[name].source)
        assert found["offset"].to_list() == list(range(len(rows)))


@pytest.mark.parametrize("seed", range(20))
def test_alerts_do_not_depend_on_the_split(seed: int) -> None:
    """Two splits and interleavings of one day raise the same alerts with the same counts."""
    one, seen = a_day(seed), []
    for split in (1, 2):
        target = core(one)
        outputs = run(target, cut(one, random.Random(1000 * split + seed)))
        # Whose clock is wrong is a matter of engine time.
        raised = [alert.id for output in outputs for alert in output.alerts if alert.kind != "system"]
        updates = {update.id: (update.count, update.last_seen, update.subjects) for update in target.take_updates()}
        assert sorted(updates) == sorted(raised), "every alert has its final count, and is raised once"
        seen.append(updates)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("seed", range(10))
def test_a_pair_alerts_about_the_entity_of_its_left_side(seed: int) -> None:
    one = a_day(seed)
    outputs = run(core(one), cut(one, random.Random(seed)))
    expected = set()
    for correlation in one.correlations:
        left = one.streams[correlation.left]
        rows = (one.day[left.name, partition][offset] for (partition, offset), _ in expected_pairs(one, correlation))
        expected |= {(correlation.rule, row[left.entity]) for row in rows}
    raised = {(alert.rule, alert.entity) for output in outputs for alert in output.alerts if alert.kind == "attack"}
    assert raised == expected


@pytest.mark.parametrize("seed", range(20))
def test_a_restored_snapshot_goes_on_as_if_nothing_had_happened(seed: int) -> None:
    one, chance = a_day(seed), random.Random(seed)
    batches = list(cut(one, chance))
    straight, broken, restored = (core(one) for _ in range(3))
    expected = run(straight, batches)
    middle = chance.randint(0, len(batches))
    first = run(broken, batches[:middle])
    before = told(broken)
    broken.take_updates()
    restored.restore(serialise(broken.snapshot()))
    second = run(restored, batches[middle:])
    for correlation in one.correlations:
        assert pair_rows([*first, *second], correlation) == pair_rows(expected, correlation), correlation.name
    assert_told(one, joined(before, told(restored)))
    assert restored.totals == straight.totals


def test_the_made_days_have_everything_in_them() -> None:
    days = [made(FAMILIES, random.Random(seed)) for seed in range(10)]
    for name, stream in days[0].streams.items():
        rows = [rows for one in days for (of, _), rows in one.day.items() if of == name]
        assert sum(sum(oracle.late(one, stream.source)) for one in rows) > 10, name
    for correlation in days[0].correlations:
        assert sum(len(expected_pairs(one, correlation)) for one in days) > 40, correlation.name


@pytest.mark.parametrize("seed", range(60))
def test_a_clock_that_lies_harms_nobody_else(seed: int) -> None:
    """Whatever one source says of the time, the others' records are late, and counted, as if it were not there."""
    one = made(FAMILIES, random.Random(seed))
    sources = {name: stream.source or "" for name, stream in one.streams.items()}

    def lied(place: oracle.Place, row: oracle.Row) -> oracle.Row:
        return {**row, "event_time": row["event_time"] + 3_590_000_000} if row[sources[place[0]]] == "s0" else row

    day = {place: [lied(place, row) for row in rows] for place, rows in one.day.items()}
    whole = replace(one, day=day)
    outputs = run(core(whole), cut(whole, random.Random(seed)))
    for (name, partition), rows in one.day.items():
        found = frames(outputs, name).filter(partition=partition).sort("offset")
        honest = [row[sources[name]] != "s0" for row in rows]
        expected = oracle.late(rows, sources[name])
        assert found["late"].filter(honest).to_list() == [
            late for late, one in zip(expected, honest, strict=True) if one
        ]
