"""What is open is finished under its own length when a length is changed."""

from __future__ import annotations

import pytest

from hackwatch.streams.declarations import (
    Count,
    Distinct,
    Sum,
)
from tests.pipeline.counted import (
    SECOND,
    START,
    declared,
    found,
    frame,
    new,
    oracle,
    reopened,
    request,
)

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


def test_a_new_measure_starts_again_and_intervals_without_a_key_are_told() -> None:
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
