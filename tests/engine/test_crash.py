"""A crash in every I/O call that a run makes, before and after it took effect: recovery gives the same result."""

from __future__ import annotations

from pathlib import Path

import pytest

from hackwatch import streams
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.families.host.simulate import Faults
from hackwatch.store import open_store
from tests.engine.support import Crash, Crasher, House, MemoryLake, Result, simulated_topics, work_off
from tests.sizes import size
from tests.third.support import SHOP, shop_all_along

__all__ = ["shop_all_along"]

SEEDS = 6
#: Of the first seed every call; of each of the others every so many-th, another one first.
MANY_SEEDS, EVERY = 24, 17


pytestmark = pytest.mark.usefixtures("shop_all_along")


def build(folder: Path, seed: int) -> House:
    """Hosts, and a family of another kind beside them."""
    return House.build(folder, seed, records=800, host=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, shop_all_along: None) -> dict[int, tuple[Result, int]]:
    return {seed: calm(tmp_path_factory.mktemp("calm"), seed) for seed in range(SEEDS)}


def calm(folder: Path, seed: int) -> tuple[Result, int]:
    """The result of a run without crashes, and how many I/O calls it made."""
    house = build(folder, seed)
    crasher = Crasher()
    work_off(house.engine(seed, crasher))
    return Result.of(house), crasher.calls


def crash_and_recover(folder: Path, seed: int, at: int, *, after: bool) -> Result:
    house = build(folder, seed)
    crasher = Crasher(at, after=after)
    try:
        work_off(house.engine(seed, crasher))
    except Crash:
        # Another seed: the engine that recovers cuts its batches and epochs elsewhere.
        work_off(house.engine(seed + 100))
    return Result.of(house)


def test_the_undisturbed_run_has_everything(undisturbed: dict[int, tuple[Result, int]]) -> None:
    names = (*streams.family("host").streams, *SHOP)
    for result, calls in undisturbed.values():
        assert calls > 15
        correlated = ("attacks", "takeovers", "sprees")
        assert all(result.rows[name] for name in (*names, *correlated, "rejected"))
        assert {aggregate for _, aggregate, *_ in result.intervals} == {"servers", "gates"}
        for name in names:
            assert any(late for *_, late in result.rows[name]), name
            assert any(stream == name for stream, *_ in result.windows), name
        assert result.alerts


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("seed", range(MANY_SEEDS))
def test_a_crash_in_any_call(tmp_path: Path, seed: int, after: bool) -> None:
    expected, calls = calm(tmp_path, seed)
    for at in range(1, calls + 1, size(1, 4)) if seed == 0 else range(1 + seed % EVERY, calls + 1, EVERY):
        folder = tmp_path / str(at)
        folder.mkdir()
        assert crash_and_recover(folder, seed, at, after=after) == expected, f"crash in call {at} of {calls}"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_crash_upon_crash(tmp_path: Path, undisturbed: dict[int, tuple[Result, int]], seed: int) -> None:
    """Engines that each live for a few calls only, crashing in their recovery too, still get through."""
    house = build(tmp_path, seed)
    for life in range(1000):
        try:
            work_off(house.engine(seed + life, Crasher(20 + life % 23, after=bool(life % 2))))
        except Crash:
            continue
        break
    else:
        pytest.fail("a thousand lives did not get through")
    assert life > 3
    assert Result.of(house) == undisturbed[seed][0]


@pytest.mark.parametrize("seed", range(4))
def test_accounting_adds_up(tmp_path: Path, seed: int) -> None:
    """Every message ends up on time, late, duplicate or rejected, and the numbers say so."""
    faults = Faults(disorder_seconds=10, late_share=0.05, malformed_share=0.05, duplicate_share=0.05)
    house = House(simulated_topics(seed, 2000, faults), open_store(tmp_path / "s.sqlite"), MemoryLake())
    work_off(house.engine(seed))
    accounting = house.store.accounting.totals()
    in_topics = {name: sum(t.end_offset(p) for p in t.partitions()) for name, t in house.topics.items()}
    for row in accounting.iter_rows(named=True):
        assert row["records"] == row["on_time"] + row["late"] + row["duplicate"] + row["rejected"]
    for name, messages in in_topics.items():
        of = accounting.filter(stream=name)
        assert of["messages"].sum() == messages == int(of["records"].sum()), "one record a message here"
        assert len(house.lake.rows(name)) == int(of["on_time"].sum()) + int(of["late"].sum())
        rejected = house.lake.rows("rejected")
        assert len(rejected.filter(stream=name)) == int(of["rejected"].sum()) > 0


def test_a_stream_turned_off_amid_unfinished_work_is_refused(tmp_path: Path) -> None:
    house = House.build(tmp_path, 0, records=600)
    with pytest.raises(Crash):
        work_off(house.engine(0, Crasher(15)))
    assert house.store.checkpoints.latest("main") is not None
    del house.topics["login"]
    with pytest.raises(ConfigurationError, match="not read any more"):
        house.engine(1).recover()


def test_messages_that_the_topic_lost_are_missed(tmp_path: Path) -> None:
    """A topic that ends before what was logged (after a power cut, say) must not pass for a whole one."""
    house = House.build(tmp_path, 0, records=600)
    with pytest.raises(Crash):
        work_off(house.engine(0, Crasher(15)))
    for name, topic in simulated_topics(0, records=40).items():
        house.topics[name] = topic
    with pytest.raises(DataError):
        house.engine(1).recover()
