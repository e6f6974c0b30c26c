"""The simulated world: the same seed is the same world, it lives on between samples, and attacks show in both."""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
import polars as pl
import pytest

from hackwatch.errors import ConfigurationError
from hackwatch.families.host.simulate import TYPES, Episode, Faults, HostFeed, Payload, World, generate, labelled, shape
from hackwatch.families.host.simulate.attacks import SLOTS
from hackwatch.families.host.simulate.behaviour import Behaviour, Table
from hackwatch.families.host.simulate.population import FIRST_PID, MAX_PID
from hackwatch.feeds.pace import Progress
from hackwatch.testing import EOF, FakeClock, MemoryTopic
from tests.feeds.lines import number

BARE = pl.col("CMD").str.strip_chars("<>")


@cache
def both() -> tuple[pl.DataFrame, pl.DataFrame]:
    return labelled(3, records=80_000)


def lived(world: World, samples: int, seconds: float = 1.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    frames = [world.sample(1_700_000_000.0 + seconds * step) for step in range(samples)]
    return pl.concat([process for process, _ in frames]), pl.concat([memory for _, memory in frames])


# --- seeds


def test_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    one, two, other = (
        [(b.process.data, b.memory.data) for b in generate(20_000, seed, faults=Faults(0.5, 0.01))]
        for seed in (1, 1, 2)
    )
    assert one == two
    assert one != other


def test_training_data_is_stable_by_seed() -> None:
    assert all(a.equals(b) for a, b in zip(labelled(4, records=4_000), labelled(4, records=4_000), strict=True))


@pytest.mark.parametrize("machines", [1, 6, 20])
def test_a_machine_is_the_same_however_many_there_are(machines: int) -> None:
    who = ["machine", "PID", "CMD"]
    few, many = (World(9, n).sample(0.0)[0].filter(pl.col("State") != "E").select(who) for n in (machines, 25))
    first = few.filter(pl.col("machine") == "web-1", pl.col("PID") < 9_000).rows()
    again = set(many.filter(pl.col("machine") == "web-1").rows())
    assert len(again.intersection(first)) > 0.95 * len(first)


# --- training data


def test_training_data_has_the_rows_and_the_attack_share_asked_for() -> None:
    for frame in both():
        assert len(frame) == 80_000
        assert number(frame["label"].mean()) == pytest.approx(0.1, abs=0.02)
        assert frame["ts"].is_sorted()
        assert set(frame["type"]) == {"normal", *TYPES}
        assert ((frame["label"] == 1) == (frame["type"] != "normal")).all()


@pytest.mark.parametrize("kind", TYPES)
def test_an_attack_shows_in_both_streams_within_thirty_seconds(kind: str) -> None:
    process, memory = (frame.filter(pl.col("type") == kind).with_columns(BARE) for frame in both())
    pairs = process.join(memory, on=["machine", "CMD", "PID"]).filter((pl.col("ts") - pl.col("ts_right")).abs() < 30)
    assert len(pairs) >= 50
    assert set(process["PID"]) == set(pairs["PID"])


def _mean(frame: pl.DataFrame, what: pl.Expr, kind: str) -> float:
    return float(frame.filter(pl.col("type") == kind).select(what.mean()).item())


@pytest.mark.parametrize(
    ("kind", "effect", "times"),
    [
        ("dos", pl.col("TRUN"), 10),
        ("dos", pl.col("CPU"), 10),
        ("ddos", pl.col("TRUN"), 10),
        ("scanning", pl.col("State") == "E", 10),
        ("password", pl.col("EXC") > 0, 20),
        ("injection", pl.col("CMD").str.contains("^<?(sh|bash|python3|curl|mysql)"), 5),
        ("xss", pl.col("TSLPI"), 2),
    ],
)
def test_each_kind_of_attack_has_its_effect(kind: str, effect: pl.Expr, times: float) -> None:
    process = both()[0]
    assert _mean(process, effect, kind) > times * _mean(process, effect, "normal")


def test_man_in_the_middle_grabs_real_time_priority() -> None:
    process = both()[0]
    assert process.filter(pl.col("RTPR") > 0)["type"].unique().to_list() == ["mitm"]


def test_no_single_column_gives_attacks_away() -> None:
    process = both()[0]
    for column in ("CMD", "CPU", "TRUN", "State", "Status", "EXC"):
        of_attack = process.filter(pl.col("label") == 1)[column]
        of_normal = process.filter(pl.col("label") == 0)[column].unique()
        assert number(of_attack.is_in(of_normal.implode()).mean()) > 0.5, column


# --- life


def test_a_process_keeps_its_name_and_is_seen_in_both_streams() -> None:
    process, memory = lived(World(1, 3), 20)
    assert process.select("machine", "PID", "CMD", "ts").equals(memory.select("machine", "PID", "CMD", "ts"))
    named = process.with_columns(BARE).group_by("machine", "PID").agg(pl.col("CMD").n_unique(), pl.len())
    assert named["CMD"].max() == 1
    assert named["len"].max() == 20
    assert number((named["len"] == 20).mean()) > 0.5


def test_a_process_ends_once_and_its_pid_does_not_come_back() -> None:
    process, _ = lived(World(1, 3), 60)
    ended = process.filter(pl.col("State") == "E").group_by("machine", "PID").agg(pl.len(), pl.col("ts").first())
    assert ended["len"].max() == 1
    after = process.join(ended, on=["machine", "PID"]).filter(pl.col("ts") > pl.col("ts_right"))
    assert after.is_empty()


def test_churn_brings_ever_new_pids() -> None:
    calm, busy = (lived(World(1, 2, churn=churn), 30)[0]["PID"].n_unique() for churn in (0.0, 0.2))
    assert busy > 3 * calm


def test_pids_start_again_below_the_limit_of_linux() -> None:
    world = World(1, 1, churn=0.5)
    world._life._last_pid[:] = MAX_PID - 30
    pids = lived(world, 4)[0]["PID"]
    assert number(pids.max()) < MAX_PID
    assert ((pids >= FIRST_PID) & (pids < FIRST_PID + 5_000)).any()


def test_values_change_between_samples_of_the_same_process() -> None:
    process, memory = lived(World(1, 3), 30)
    who = ["machine", "PID"]
    for frame, column, values in ((process, "CPU", 10), (memory, "RSIZE", 4)):
        assert number(frame.group_by(who).agg(pl.col(column).n_unique())[column].max()) > values


def test_desks_are_busier_by_day_than_by_night() -> None:
    noon, night = (
        pl.concat([World(seed, 5).sample(86_400.0 * 19_000 + hour * 3600)[0] for seed in range(12)])
        .filter(pl.col("machine").str.starts_with("desk"))["TRUN"]
        .sum()
        for hour in (13, 1)
    )
    assert number(noon) > 1.5 * number(night)


def test_sequence_numbers_count_on_for_each_machine() -> None:
    process, _ = lived(World(1, 3), 5)
    for (_,), rows in process.group_by("machine"):
        assert rows["sequence"].to_list() == list(range(len(rows)))


def test_an_episode_starts_runs_and_ends() -> None:
    world = World(1, 1)
    world.sample(0.0)
    episode = world.attack("scanning", 1.0)
    assert episode is not None
    during = world.sample(2.0)[0].filter(pl.col("label") == 1)
    assert len(during) >= len(episode.parts) // 2
    assert set(during.select(BARE)["CMD"]) <= set(episode.programs)
    last = world.sample(episode.end)[0].filter(pl.col("label") == 1)
    assert set(last["State"]) == {"E"}
    assert world.sample(episode.end + 1)[0]["label"].sum() == 0
    assert world.episodes == ()


def test_an_attack_that_finds_no_room_does_not_begin() -> None:
    world = World(1, 1)
    begun = [world.attack("scanning", 0.0) for _ in range(5)]
    assert begun[0] is not None
    assert begun[-1] is None


def test_behaviour_table_holds_each_field_by_row() -> None:
    table = Table([Behaviour(run=0.5), Behaviour(run=0.25, policy="fifo")])
    assert table.column("run", np.array([1, 0], np.int16)).tolist() == [0.25, 0.5]
    assert table.policy.tolist() == [0, 5]


# --- bulk


def test_generated_records_are_as_many_as_asked_for_in_rising_time() -> None:
    batches = list(generate(30_001, 1, records_per_second=5_000, attack_share=0.05, labels=True))
    assert sum(len(batch.process) for batch in batches) == sum(len(batch.memory) for batch in batches) == 15_000
    rows = pl.read_ndjson(b"".join(batch.process.data for batch in batches))
    assert rows["ts"].is_sorted()
    assert rows["ts"][-1] - rows["ts"][0] == pytest.approx(6.0, abs=0.5)
    assert number(rows["label"].mean()) == pytest.approx(0.05, abs=0.03)


def _times(faults: Faults) -> pl.DataFrame:
    payload = b"".join(b.memory.data for b in generate(40_000, 1, identified=True, faults=faults))
    return pl.read_ndjson(payload)


def test_disorder_stays_within_its_bound() -> None:
    behind = _times(Faults(disorder_seconds=3.0)).select(behind=pl.col("ts").cum_max() - pl.col("ts"))["behind"]
    assert 2.0 < number(behind.max()) <= 3.01


def test_late_records_are_late_by_what_was_asked_for() -> None:
    late = _times(Faults(late_share=0.1, late_seconds=(30, 40)))
    behind = late.select(behind=pl.col("ts").cum_max() - pl.col("ts"))["behind"]
    assert (behind > 29).mean() == pytest.approx(0.1, abs=0.02)
    assert number(behind.max()) <= 40.01


def test_duplicates_repeat_a_message_that_can_be_told_by_its_key() -> None:
    rows = _times(Faults(duplicate_share=0.1))
    assert rows["uuid"].n_unique() == 20_000
    assert len(rows) == pytest.approx(22_000, rel=0.02)
    assert rows.unique().height == 20_000


def test_payload_knows_whose_lines_are_whose() -> None:
    payload = Payload(b"a\nb\nc\n", ("x", "y", "z"), np.array([2, 0, 1]))
    assert list(payload.parts()) == [("x", b"a\nb\n"), ("z", b"c\n")]
    for batch in generate(20_000, 1, machines=7, faults=Faults(duplicate_share=0.1)):
        for key, part in batch.process.parts():
            assert pl.read_ndjson(part)["machine"].unique().to_list() == [key]


# --- the feed


class StoppingClock(FakeClock):
    """Sets the stop event once `seconds` have passed."""

    def __init__(self, stop: threading.Event, seconds: float) -> None:
        super().__init__()
        self._stop, self._seconds = stop, seconds

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.monotonic() >= self._seconds:
            self._stop.set()


def fed(seconds: float, rate: float, **options: object) -> tuple[Progress, list[pl.DataFrame], HostFeed]:
    stop = threading.Event()
    topics = MemoryTopic("process"), MemoryTopic("memory")
    feed = HostFeed(rate=rate, clock=StoppingClock(stop, seconds), **options)  # type: ignore[arg-type]  # test options
    progress = feed.run(*topics, stop)
    frames = []
    for topic in topics:
        topic.inject(EOF)
        parts = [topic.read(partition, 0, max_bytes=1 << 30) for partition in topic.partitions()]
        frames.append(pl.concat([pl.read_ndjson(part.payload) for part in parts if part]))
    return progress, frames, feed


@pytest.mark.parametrize(("rate", "seconds"), [(10, 60.0), (400, 20.0), (2_000, 10.0), (20_000, 2.0)])
def test_feed_keeps_its_rate(rate: float, seconds: float) -> None:
    progress, (process, memory), feed = fed(seconds, rate)
    batch = max(2 * (feed.processes + SLOTS), rate * 0.05)
    assert progress.records == len(process) + len(memory)
    assert progress.records == pytest.approx(rate * seconds, rel=0.05, abs=2 * batch)


def test_feed_stamps_records_with_now_and_keeps_the_truth_to_itself() -> None:
    _, (process, memory), feed = fed(5.0, 2_000)
    for frame in (process, memory):
        assert "label" not in frame.columns
        assert number(frame["ts"].min()) >= 1_700_000_000 - 0.1
        assert number(frame["ts"].max()) <= 1_700_000_005.1
        assert set(frame["machine"]) == set(feed.machine_names)
    assert process["ts"].n_unique() > 20


def test_feed_writes_the_truth_on_request_and_the_first_attack_begins_in_time() -> None:
    told: list[Episode] = []
    _, (process, _), feed = fed(8.0, 2_000, labels=True, seed=4, on_attack=told.append)
    assert told == feed.episodes
    first = told[0]
    assert first.start == pytest.approx(1_700_000_003.0, abs=0.2)
    rows = process.filter(pl.col("label") == 1)
    assert number(rows["ts"].min()) < first.start + feed.interval + 0.2
    assert first.type in set(rows["type"])
    assert first.machine in set(rows["machine"])


def test_attacks_come_at_their_mean_spacing() -> None:
    _, _, feed = fed(400.0, 60, attack_spacing=8.0, first_attack_after=0.0)
    assert len(feed.episodes) == pytest.approx(50, abs=22)


@pytest.mark.parametrize(
    ("rate", "machines", "expected"),
    [
        (10, 5, (5, 12)),
        (240, 5, (5, 120)),
        (400, 5, (5, 200)),
        (2_000, 5, (5, 200)),
        (10_000, 5, (25, 200)),
        (500_000, 5, (1_250, 200)),
        (2_000, 30, (30, 166)),
    ],
)
def test_high_rates_bring_machines_and_low_ones_fewer_processes(
    rate: float, machines: int, expected: tuple[int, int]
) -> None:
    assert shape(rate, machines) == expected


@pytest.mark.parametrize(
    "options",
    [{"rate": 9.0}, {"rate": 500_001.0}, {"machines": 0}, {"attack_spacing": 0.0}, {"first_attack_after": -1.0}],
    ids=str,
)
def test_impossible_simulation_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        HostFeed(**options)  # type: ignore[arg-type]  # as a caller without types would
    assert len(refused.value.problems) == 1


def test_a_day_of_captures_is_a_day_long() -> None:
    ts = both()[0]["ts"]
    assert 20 * 3600 < ts[-1] - ts[0] < 24 * 3600
