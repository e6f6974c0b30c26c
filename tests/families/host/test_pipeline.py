"""Windows, attacks, lateness and alerts of hosts against a brute-force oracle, for any batch split and interleaving."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import product

import pytest

from hackwatch.pipeline.core import Pipeline, serialise
from tests.families.host.scored import Collected, Day, Record, cut, feed, microseconds, pipeline, random_day
from tests.third.scored import window_rows

LATENESS, REACH, WINDOW = 20_000_000, 30_000_000, 120


def oracle_late(records: list[Record]) -> list[bool]:
    """A record of a partition is late when it is more than 20 s behind the greatest time before it of its machine."""
    late: list[bool] = []
    newest: dict[str, int] = {}
    for record in records:
        time = microseconds(record)
        before = newest.get(record.machine, time)
        late.append(time < before - LATENESS)
        newest[record.machine] = max(before, time)
    return late


def oracle(day: Day) -> tuple[set[tuple[object, ...]], list[tuple[object, ...]]]:
    """(windows, attacks) over the complete day."""
    windows: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    suspects: dict[str, list[tuple[Record, int, int]]] = defaultdict(list)
    for (name, partition), records in day.items():
        for offset, (record, late) in enumerate(zip(records, oracle_late(records), strict=True)):
            if late:
                continue
            start = microseconds(record) // 1_000_000 // WINDOW * WINDOW
            windows[(name, record.machine, start)].append(record)
            if record.suspect:
                suspects[name].append((record, partition, offset))
    attacks = [
        (p.machine, p.cmd, p.pid, pp, po, mp, mo)
        for (p, pp, po), (m, mp, mo) in product(suspects["process"], suspects["memory"])
        if (p.machine, p.cmd, p.pid) == (m.machine, m.cmd, m.pid) and abs(microseconds(p) - microseconds(m)) < REACH
    ]
    rows: set[tuple[object, ...]] = {
        (name, machine, start, len(records), sum(r.suspect for r in records),
         len({f"{r.cmd}_{r.pid}" for r in records if r.suspect}))
        for (name, machine, start), records in windows.items()
    }  # fmt: skip
    return rows, sorted(attacks)


def counted(target: Pipeline) -> set[tuple[object, ...]]:
    return {(one.stream, one.entity, one.start, one.records, one.suspects, one.distinct) for one in window_rows(target)}


def attack_rows(collected: Collected) -> list[tuple[object, ...]]:
    table = collected.table("attacks")
    columns = ["machine", "CMD", "PID", "process_partition", "process_offset", "memory_partition", "memory_offset"]
    return sorted(table.select(columns).iter_rows()) if len(table) else []


@pytest.mark.parametrize("seed", range(200))
def test_any_split_equals_the_oracle(seed: int) -> None:
    rng = random.Random(seed)
    day = random_day(rng)
    target = pipeline()
    collected = feed(target, cut(day, rng), list(day))
    windows, attacks = oracle(day)
    assert counted(target) == windows
    assert attack_rows(collected) == attacks
    for (name, partition), records in day.items():
        rows = collected.table(name).filter(partition=partition).sort("offset")
        assert rows["late"].to_list() == oracle_late(records)
        assert rows["offset"].to_list() == list(range(len(records)))


@pytest.mark.parametrize("seed", range(60))
def test_alerts_do_not_depend_on_the_split(seed: int) -> None:
    """Two splits and interleavings of one day raise the same alerts with the same counts."""
    day = random_day(random.Random(seed), records=200)
    seen = []
    for split in (1, 2):
        target = pipeline()
        collected = feed(target, cut(day, random.Random(1000 * split + seed)), list(day))
        updates = {u.id: (u.count, u.last_seen, u.subjects) for u in target.take_updates()}
        assert sorted(updates) == sorted(collected.alerts), "every alert has its final count"
        assert len(set(collected.alerts)) == len(collected.alerts)
        seen.append(updates)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("seed", range(60))
def test_a_restored_snapshot_goes_on_as_if_nothing_had_happened(seed: int) -> None:
    rng = random.Random(seed)
    day = random_day(rng)
    batches = list(cut(day, rng))
    straight, broken = pipeline(), pipeline()
    expected = feed(straight, iter(batches), list(day))
    middle = rng.randint(0, len(batches))
    first = feed(broken, iter(batches[:middle]), list(day))
    rows = {row[:3]: row for row in window_rows(broken)}
    broken.take_updates()
    restored = pipeline()
    restored.restore(serialise(broken.snapshot()))
    second = feed(restored, iter(batches[middle:]), list(day))
    assert attack_rows(Collected(first.outputs + second.outputs)) == attack_rows(expected)
    rows |= {row[:3]: row for row in window_rows(restored)}
    assert set(rows.values()) == set(window_rows(straight))
    assert restored.totals == straight.totals


def test_the_oracle_sees_late_records_and_pairs() -> None:
    """The generated days are not empty of what the tests are about."""
    days = [random_day(random.Random(seed)) for seed in range(20)]
    assert sum(sum(oracle_late(records)) for day in days for records in day.values()) > 20
    assert sum(len(oracle(day)[1]) for day in days) > 100
