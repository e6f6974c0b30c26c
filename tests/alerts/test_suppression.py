"""Suppression: whatever the order and the cut, the same alerts with the same counts; and what old snapshots hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.alerts.alert import alert_id
from hackwatch.alerts.occurrences import SUBJECTS_KEPT, Key, Occurrences, Shown, Threshold
from hackwatch.alerts.suppression import Suppressor

LENGTH = 10
SECOND = 1_000_000
ONE, STORM = Threshold(), Threshold(3, 4 * SECOND)

#: A row: whom it is about, and when, in seconds.
Row = tuple[str, int]
rows = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60)), max_size=30)


def shown(given: Sequence[Row], rule: str = "r") -> Shown:
    entities, times = [entity for entity, _ in given], [time * SECOND for _, time in given]
    subjects = [f"at {time}" for _, time in given]
    return Shown("visit", entities, subjects, times, [[rule]] * len(given), [False] * len(given))


def count(target: Suppressor, given: Sequence[Row], threshold: Threshold) -> list[Key]:
    return [key for seen in shown(given).by_key(target.length) for key in target.add(seen, threshold)]


def oracle(given: Sequence[Row], threshold: Threshold) -> dict[Key, int]:
    """The keys of all alerts, and how many occurrences each counts in the end."""
    found = {}
    for key in {Key("visit", entity, "r", time // LENGTH) for entity, time in given}:
        times = sorted(time * SECOND for entity, time in given if entity == key.entity)
        least = threshold.at_least
        reached = [
            time
            for first, time in zip(times, times[least - 1 :], strict=False)
            if time - first <= threshold.within and time // SECOND // LENGTH == key.interval
        ]
        if least == 1 or reached:
            found[key] = sum(time // SECOND // LENGTH == key.interval for time in times)
    return found


@pytest.mark.parametrize("threshold", [ONE, STORM], ids=["one", "storm"])
@given(given=rows, cuts=st.sets(st.integers(0, 30)), restart=st.integers(0, 30))
def test_order_cut_and_restarts_change_nothing(
    threshold: Threshold, given: list[Row], cuts: set[int], restart: int
) -> None:
    target, raised, counts = Suppressor(LENGTH), list[Key](), dict[str, int]()
    places = sorted({0, len(given), *(cut for cut in cuts if cut < len(given))})
    for first, last in pairwise(places):
        raised += count(target, given[first:last], threshold)
        counts |= {update.id: update.count for update in target.take_updates()}
        if first <= restart < last:
            saved, target = json.dumps(target.snapshot()), Suppressor(LENGTH)
            target.restore(json.loads(saved))
    expected = oracle(given, threshold)
    assert sorted(raised) == sorted(expected), "each is raised once"
    assert counts == {alert_id(*key): number for key, number in expected.items()}


def test_rows_are_gathered_by_key_and_late_ones_by_themselves() -> None:
    given = Shown(
        "visit", ["a", "b", "a", "a"], ["/y", "/x", "/z", "/x"], [0, 0, 1, 10 * SECOND],
        [["r", "s"], ["r"], ["r"], []], [True, False, False, False],
    )  # fmt: skip
    assert list(given.by_key(LENGTH * SECOND)) == [
        Occurrences(Key("visit", "b", "r", 0), [0], ["/x"], first=1),
        Occurrences(Key("visit", "a", "r", 0), [1], ["/z"], first=2),
        Occurrences(Key("visit", "a", "r", 0), [0], ["/y"], late=True),
        Occurrences(Key("visit", "a", "s", 0), [0], ["/y"], late=True),
    ]


def test_only_some_subjects_are_kept() -> None:
    target = Suppressor(LENGTH)
    for place in range(3 * SUBJECTS_KEPT):
        target.add(Occurrences(Key("visit", "a", "r", 0), [place], [f"{place:03}"]), ONE)
    (update,) = target.take_updates()
    assert update.subjects == tuple(f"{place:03}" for place in range(SUBJECTS_KEPT))
    assert update.count == 3 * SUBJECTS_KEPT


def test_what_is_over_is_forgotten_and_what_changed_is_told_before() -> None:
    target = Suppressor(LENGTH)
    count(target, [("a", 0), ("b", 0)], STORM)
    count(target, [("a", 1)], ONE)
    assert len(target) == 4, "two tallies, and two occurrences of the storm"
    marks = {"a": 15 * SECOND, "b": 4 * SECOND}
    target.evict(lambda stream, entity: marks[entity], reach=5 * SECOND)
    assert len(target) == 3, "a's tally has not been told, b is not so far"
    assert [update.count for update in target.take_updates()] == [2]
    target.evict(lambda stream, entity: marks[entity], reach=5 * SECOND)
    assert len(target) == 2


def test_snapshots_of_earlier_versions_are_taken_up() -> None:
    """They did not keep the first time of an alert, nor the alerts of late records."""
    target = Suppressor(LENGTH)
    target.restore({"tallies": [["visit", "a", "r", 0, 2, SECOND, ["/x"], True]], "recent": []})
    assert count(target, [("a", 3)], ONE) == [], "it has been raised"
    (update,) = target.take_updates()
    assert (update.count, update.first_seen, update.last_seen) == (3, 3.0, 3.0)


def test_late_occurrences_raise_an_alert_once_and_count_for_nothing() -> None:
    target, key = Suppressor(LENGTH), Key("visit", "a", "r", 0)
    late = Occurrences(key, [1, 2], ["/x"], late=True)
    assert list(late.counted) == [1]
    assert target.add(late, STORM) == []
    assert [target.add(late, ONE) for _ in range(2)] == [[key], []]
    saved, target = json.dumps(target.snapshot()), Suppressor(LENGTH)
    target.restore(json.loads(saved))
    assert target.add(late, ONE) == []
    assert target.take_updates() == []
