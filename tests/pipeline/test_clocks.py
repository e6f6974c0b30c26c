"""Clocks of sources: what is late, how idle sources move on, and that no clock harms another one."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hackwatch.pipeline import arrivals
from hackwatch.pipeline.clocks import NEVER, OTHERS, SourceClocks
from hackwatch.pipeline.skew import CONFIRM_SECONDS
from tests.pipeline.cases import LATENESS

SECOND = 1_000_000
#: A wall clock that no record of these tests agrees with.
WALL = 2e9

#: (partition, source, seconds) in the order in which they are read.
Sent = tuple[int, str, float]


def clocks(**options: float) -> SourceClocks:
    return SourceClocks(20, 30, **options)  # type: ignore[arg-type]  # by name, as the tests need them


def observe(target: SourceClocks, sent: Sequence[Sent], elapsed: float = 0.0) -> list[bool]:
    """Let records come; which ones are late."""
    frame = pl.DataFrame(sent, schema=["partition", "source", "time"], orient="row")
    times = (frame["time"] * SECOND).round().cast(pl.Int64).to_numpy()
    partition = frame["partition"].cast(pl.Int32).to_numpy()
    late: list[bool] = target.observe(partition, frame["source"], times, elapsed, WALL).late.tolist()
    return late


def oracle(sent: Sequence[Sent]) -> list[bool]:
    """Late is what lies more than 20 s behind the greatest time before it of its source in its partition."""
    newest: dict[tuple[int, str], float] = {}
    late = []
    for partition, source, time in sent:
        before = newest.get((partition, source))
        late.append(before is not None and time < before - 20)
        newest[(partition, source)] = time if before is None else max(before, time)
    return late


@pytest.mark.parametrize(("times", "late"), LATENESS.values(), ids=LATENESS)
@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one record a batch"])
def test_lateness(times: list[float], late: list[bool], at_once: bool) -> None:
    target, sent = clocks(), [(0, "m", time) for time in times]
    found = observe(target, sent) if at_once else [observe(target, [one])[0] for one in sent]
    assert found == late


def test_no_records_are_none_late_also_where_watermarks_are_asked_for() -> None:
    """All messages of a batch may be rejected, and its stream may have a key that must not be repeated."""
    nobody, never = pl.Series([], dtype=pl.String()), np.empty(0, np.int64)
    judged = clocks().observe(np.empty(0, np.int32), nobody, never, 0.0, WALL, watermarks=True)
    assert judged.watermarks is not None
    assert (len(judged.late), len(judged.watermarks), list(judged.seen)) == (0, 0, [])


records = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.integers(0, 200)), min_size=1, max_size=60)


@pytest.mark.parametrize("small", [0, 512], ids=["by queries", "record by record"])
@settings(max_examples=150, deadline=None)
@given(sent=records, sizes=st.lists(st.integers(1, 15), min_size=1))
def test_any_cut_equals_the_oracle(small: int, sent: list[Sent], sizes: list[int]) -> None:
    before = arrivals.SMALL_ROWS
    arrivals.SMALL_ROWS = small
    try:
        found: list[bool] = []
        at, target = 0, clocks(hold_seconds=1e6)
        for partition in range(3):
            target.know(partition)
        while at < len(sent):
            size = sizes[len(found) % len(sizes)]
            found += observe(target, sent[at : at + size])
            target.advance(0.0, waiting=(0, 1, 2))
            at += size
    finally:
        arrivals.SMALL_ROWS = before
    assert found == oracle(sent)


def test_a_liar_harms_nobody_but_itself() -> None:
    target = clocks()
    observe(target, [(0, "m", 100), (0, "liar", 3690)])
    assert observe(target, [(0, "m", 101), (0, "liar", 102), (0, "m", 90)]) == [False, True, False]
    target.advance(0.0, ())
    assert (target.mark("m"), target.mark("liar")) == (81 * SECOND, 3670 * SECOND)
    assert target.late_sources() == {"liar": 1}


def test_a_source_far_behind_lives_by_its_own_clock() -> None:
    target = clocks()
    sent = [(0, name, second - behind) for second in range(700, 760) for name, behind in (("m", 0), ("slow", 600))]
    assert not any(observe(target, sent))
    target.advance(0.0, ())
    assert target.mark("slow") == 139 * SECOND


def test_a_trickle_of_one_time_holds_nobody_and_goes_idle() -> None:
    target = clocks()
    for second in range(120):
        observe(target, [(0, "m", 1000 + second), (0, "stuck", 1.0)], elapsed=float(second))
        target.advance(float(second), ())
    assert target.mark("m") == 1099 * SECOND
    assert target.mark("stuck") == round((1.0 - 20 + 119 - 30) * SECOND)
    assert target.slowest() == target.mark("m")


#: Seconds of silence, and by how many the watermark has moved on: lateness 20, idle after 30.
SILENCE = {"shortly": (10.0, 0.0), "just not idle": (30.0, 0.0), "idle": (31.0, 1.0), "long": (100.0, 70.0)}


@pytest.mark.parametrize(("seconds", "further"), SILENCE.values(), ids=SILENCE)
def test_a_silent_source_moves_on_with_engine_time(seconds: float, further: float) -> None:
    target = clocks()
    observe(target, [(0, "m", 100)])
    target.advance(0.0, ())
    marks = target.advance(seconds, ())
    assert target.mark("m") == round((80 + further) * SECOND)
    assert marks.moved == ({"m": target.mark("m")} if further else {})


def test_silence_does_not_count_while_a_backlog_waits() -> None:
    target = clocks()
    observe(target, [(0, "m", 100)])
    target.advance(0.0, [0])
    target.advance(100.0, [0])
    assert target.mark("m") == 80 * SECOND
    assert observe(target, [(0, "m", 81)], 100.0) == [False]


def test_a_source_that_wakes_is_judged_by_what_it_has_passed() -> None:
    target = clocks()
    observe(target, [(0, "m", 100)])
    target.advance(0.0, ())
    assert observe(target, [(0, "m", 109), (0, "m", 110), (0, "m", 111)], elapsed=60.0) == [True, False, False]
    target.advance(60.0, ())
    assert target.mark("m") == 110 * SECOND, "the watermark never goes back"


def test_all_silent_sources_move_on_each_for_itself() -> None:
    target = clocks()
    observe(target, [(0, "a", 100), (1, "b", 500)])
    target.advance(0.0, ())
    target.advance(50.0, ())
    assert (target.mark("a"), target.mark("b")) == (100 * SECOND, 500 * SECOND)


def test_a_source_in_two_partitions_is_as_far_as_the_slower_one() -> None:
    target = clocks()
    observe(target, [(0, "m", 100), (1, "m", 60)])
    target.advance(0.0, ())
    assert target.mark("m") == 40 * SECOND


def test_a_backlog_elsewhere_holds_a_source_that_may_be_in_it() -> None:
    target = clocks(hold_seconds=600)
    target.know(1)
    observe(target, [(0, "m", 1000)])
    target.advance(0.0, [1])
    assert target.mark("m") == 380 * SECOND
    target.advance(0.0, ())
    assert target.mark("m") == 980 * SECOND


def test_what_comes_to_a_further_partition_is_judged_by_what_has_been_passed() -> None:
    target = clocks()
    observe(target, [(0, "m", 1000)])
    target.advance(0.0, ())
    assert observe(target, [(1, "m", 979), (1, "m", 980)]) == [True, False]


def test_beyond_the_limit_sources_share_a_clock() -> None:
    target = clocks(max_sources=2)
    observe(target, [(0, "a", 100), (0, "b", 100), (0, "c", 300), (0, "d", 100)])
    marks = target.advance(0.0, ())
    assert marks.moved == {"a": 80 * SECOND, "b": 80 * SECOND}
    assert marks.others == 280 * SECOND
    assert target.crowded
    assert target.late_sources() == {OTHERS: 1}
    assert (target.knows("c"), target.mark("c"), target.mark("e")) == (False, 280 * SECOND, 280 * SECOND)
    assert len(target) == 3


def test_a_hundred_thousand_invented_sources_cost_no_more_than_their_places() -> None:
    target = clocks(max_sources=1000)
    for start in range(0, 100_000, 10_000):
        observe(target, [(0, f"m{number}", 100.0) for number in range(start, start + 10_000)])
        target.advance(0.0, ())
    assert len(target) == 1001


def test_who_has_been_idle_for_a_day_makes_room() -> None:
    target = clocks(max_sources=1)
    observe(target, [(0, "gone", 100)])
    target.advance(0.0, ())
    target.advance(90_000.0, ())
    observe(target, [(0, "new", 100)], elapsed=90_000.0)
    assert (target.knows("gone"), target.knows("new")) == (False, True)


def test_progress_is_that_of_the_median_source() -> None:
    target = clocks()
    observe(target, [(0, "a", 100), (0, "b", 110), (0, "liar", 9000), (1, "slow", 1)])
    target.advance(0.0, ())
    assert target.typical(0) == 110 * SECOND
    assert target.typical(1) == 1 * SECOND
    assert target.watermark() == 80 * SECOND
    assert target.typical(2) == NEVER


def restored(target: SourceClocks) -> SourceClocks:
    small, frames = target.snapshot()
    other = clocks()
    parts = {}
    for name, frame in frames.items():
        buffer = io.BytesIO()
        frame.write_ipc_stream(buffer)
        parts[name] = buffer.getvalue()
    other.restore(small, parts)
    return other


def test_a_restored_snapshot_goes_on_as_if_nothing_had_happened() -> None:
    rng = np.random.default_rng(1)
    sent = [(int(rng.integers(2)), f"m{rng.integers(5)}", float(rng.integers(300))) for _ in range(400)]
    target = clocks()
    for turn in range(0, 200, 20):
        observe(target, sent[turn : turn + 20], elapsed=turn / 3)
        target.advance(turn / 3, [turn // 20 % 2])
    other = restored(target)
    for turn in range(200, 400, 20):
        assert observe(other, sent[turn : turn + 20], turn / 3) == observe(target, sent[turn : turn + 20], turn / 3)
        assert other.advance(turn / 3, ()) == target.advance(turn / 3, ())
    assert other.snapshot()[0] == target.snapshot()[0]


def test_a_snapshot_stays_as_it_is_while_it_is_written_and_the_clocks_go_on() -> None:
    target = clocks()
    observe(target, [(0, "m", 100), (1, "m", 100)])
    target.advance(0.0, ())
    _, frames = target.snapshot()
    before = {name: frame.to_dicts() for name, frame in frames.items()}
    observe(target, [(0, "m", 200), (1, "m", 300), (0, "m", 100)])
    target.advance(1.0, ())
    assert {name: frame.to_dicts() for name, frame in frames.items()} == before


# -- skew ----------------------------------------------------------------------------------------------------------


def skewed(target: SourceClocks, elapsed: float = CONFIRM_SECONDS) -> dict[str, float]:
    return {skew.source: skew.seconds for skew in target.skew.due(elapsed, WALL)}


HONEST = ("m0", "m1", "m2", "m3")


def minutes(*others: tuple[str, float]) -> list[Sent]:
    """Four honest sources for some minutes, and others by so many seconds off."""
    away = [*((name, 0.0) for name in HONEST), *others]
    return [(0, name, 1000.0 + second + off) for second in range(0, 240, 5) for name, off in away]


def test_only_the_skewed_are_named_and_once() -> None:
    target = clocks()
    observe(target, minutes(("liar", 3000.0), ("slow", -600.0), ("near", 50.0)))
    assert skewed(target, 0.0) == {}, "a moment's difference is not told"
    assert skewed(target) == {"liar": 3000.0, "slow": -600.0}
    observe(target, [(0, "liar", 9000.0), *((0, name, 1300.0) for name in HONEST)], elapsed=10.0)
    assert skewed(target, 100.0) == {}
    assert target.skew.named() == {"liar": 3000.0, "slow": -600.0}


def test_a_source_that_ends_early_in_a_recording_is_not_skewed() -> None:
    target = clocks()
    observe(target, [*minutes(("early", 0.0)), *((0, name, t) for t in range(1240, 2400, 5) for name in HONEST)])
    assert skewed(target) == {}


def test_what_waited_during_an_outage_is_behind_for_a_moment_only() -> None:
    target = clocks()
    observe(target, minutes())
    observe(target, [(0, "back", 1000.0)], elapsed=1.0)
    observe(target, [(0, "back", 1239.0)], elapsed=1.5)
    observe(target, [(0, "back", 1240.0)], elapsed=1.6)
    assert skewed(target, 60.0) == {}


def test_one_late_record_at_the_end_is_no_wrong_clock() -> None:
    target = clocks()
    observe(target, [*minutes(("m4", 0.0)), (0, "m4", 1100.0)])
    observe(target, [(0, "m4", 1101.0)], elapsed=1.0)
    assert skewed(target, 60.0) == {}


def test_between_two_nobody_can_tell_who_is_wrong() -> None:
    target = clocks()
    observe(target, [(0, name, 100.0 + off) for name, off in (("a", 0.0), ("b", 900.0), ("c", 1800.0))])
    assert skewed(target) == {}


def test_who_agrees_with_the_wall_clock_is_right_whatever_the_others_say() -> None:
    target = clocks()
    observe(target, [(0, name, 1000.0) for name in HONEST] + [(0, "right", WALL - 5)])
    assert skewed(target) == {}


def test_names_are_bounded() -> None:
    target = clocks()
    sent = [(0, name, 1000.0) for name in HONEST for _ in range(3)]
    observe(target, [*((0, f"h{n}", 1000.0) for n in range(400)), *sent, *((0, f"x{n}", 9e5) for n in range(300))])
    assert len(skewed(target)) == 50
