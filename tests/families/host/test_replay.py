"""The classic pace: who sends how many records when, and with which time."""

from __future__ import annotations

import gzip
import json
import random
import threading
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from hackwatch import streams
from hackwatch.errors import ConfigurationError, DataError, ResourceError
from hackwatch.feeds.pace import Progress
from hackwatch.feeds.replay import Cycle, Recording, Replay, Sending, Shape, read_recording, replayable, schedule
from hackwatch.streams.stream import Pace
from hackwatch.testing import FakeClock, MemoryTopic
from tests.topics.support import everything, lines

STREAM = streams.get("process")
PROCESS, MEMORY = replayable("process")[1], replayable("memory")[1]
MACHINES = ("4", "5", "6")


def csv(folder: Path, text: str) -> Path:
    path = folder / "recording.csv"
    path.write_text(text)
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    rows = "\n".join(f"{number},{1000 + number},prog" for number in range(1, 8))
    return read_recording(csv(tmp_path, f"sequence,PID,CMD\n{rows}\n"), STREAM, MACHINES)


def send(recording: Recording, pace: Pace, **options: Any) -> tuple[MemoryTopic, Progress, FakeClock]:
    topic, clock = MemoryTopic(partitions=1), FakeClock(wall=1000.9)
    return topic, Replay(recording, pace, clock=clock, **options).run(topic, threading.Event()), clock


# --- the schedule


@pytest.mark.parametrize(
    ("stream", "pace"),
    [("process", Pace(5.0, 10, 50, 0)), ("memory", Pace(10.0, 20, 80, 5))],
    ids=["process", "memory"],
)
def test_the_paces_are_those_of_the_producers(stream: str, pace: Pace) -> None:
    _, found = replayable(stream)
    assert (found.seconds, found.least, found.most, found.late) == (pace.seconds, pace.least, pace.most, pace.late)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pace", [PROCESS, MEMORY], ids=["process", "memory"])
def test_new_records_are_drawn_for_each_machine_and_cycle(pace: Pace, seed: int) -> None:
    new = [
        sending.count
        for cycle in schedule(pace, MACHINES, seed, 400)
        for sending in cycle.sendings
        if sending.stamp == cycle.number
    ]
    assert len(new) == 400 * len(MACHINES)
    assert (min(new), max(new)) == (pace.least, pace.most)


@pytest.mark.parametrize("seed", range(5))
def test_late_records_come_one_cycle_later_with_the_time_of_their_own(seed: int) -> None:
    late = [
        (cycle.number - sending.stamp, sending.count)
        for cycle in schedule(MEMORY, MACHINES, seed, 400)
        for sending in cycle.sendings
        if sending.stamp != cycle.number
    ]
    assert {behind for behind, _ in late} == {1}
    assert {count for _, count in late} == {1, 2, 3, 4, 5}
    assert not any(s.stamp != c.number for c in schedule(PROCESS, MACHINES, seed, 50) for s in c.sendings)


@pytest.mark.parametrize("pace", [PROCESS, MEMORY], ids=["process", "memory"])
def test_each_machine_sends_its_rows_once_and_in_sequence(pace: Pace) -> None:
    for machine in MACHINES:
        own = [s for cycle in schedule(pace, MACHINES, 3, 50) for s in cycle.sendings if s.entity == machine]
        own.sort(key=lambda sending: sending.first)
        assert own[0].first == 0
        assert all(one.first + one.count == following.first for one, following in pairwise(own))


def test_the_same_seed_gives_the_same_and_another_something_else() -> None:
    assert list(schedule(MEMORY, MACHINES, 1, 9)) == list(schedule(MEMORY, MACHINES, 1, 9))
    assert list(schedule(MEMORY, MACHINES, 1, 9)) != list(schedule(MEMORY, MACHINES, 2, 9))


@pytest.mark.parametrize(
    ("cycles", "expected"),
    [
        (1, [[("4", 0, 3, 0), ("5", 0, 3, 0)], [("4", 3, 1, 0), ("5", 3, 1, 0)]]),
        (2, [[("4", 0, 3, 0), ("5", 0, 3, 0)],
             [("4", 3, 1, 0), ("4", 4, 3, 1), ("5", 3, 1, 0), ("5", 4, 3, 1)],
             [("4", 7, 1, 1), ("5", 7, 1, 1)]]),
    ],
    ids=["one cycle", "two cycles"],
)  # fmt: skip
def test_a_schedule_spelled_out(cycles: int, expected: list[list[tuple[str, int, int, int]]]) -> None:
    class OneLate(random.Random):
        def randint(self, a: int, b: int) -> int:
            return b

    pace = Pace(10.0, 3, 3, late=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "Random", OneLate)
        drawn = list(schedule(pace, ("4", "5"), seed=1, cycles=cycles))
    assert drawn == [Cycle(n, tuple(Sending(*one) for one in part)) for n, part in enumerate(expected)]


def test_it_goes_on_for_ever_without_cycles() -> None:
    assert [cycle.number for cycle in islice(schedule(PROCESS, MACHINES, 0), 1000)] == list(range(1000))


# --- the recording


def test_exhausted_data_start_again_from_the_first_sequence(recording: Recording) -> None:
    assert recording.rows("5", 5, 12)["sequence"].to_list() == [6, 7, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3]


def test_a_machine_column_gives_each_machine_its_own_rows_in_sequence(tmp_path: Path) -> None:
    path = csv(tmp_path, "machine,sequence,PID\n5,2,52\n4,10,41\n5,1,51\n4,9,40\n")
    found = read_recording(path, STREAM)
    assert {name: found.rows(name, 0, 2)["PID"].to_list() for name in found.entities} == {"5": [51, 52], "4": [40, 41]}
    assert read_recording(path, STREAM, ["4"]).entities == ("4",)


def test_a_machine_that_is_not_in_the_recording_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no machine 9, 10"):
        read_recording(csv(tmp_path, "machine,PID\n4,1\n"), STREAM, ["4", "9", "10"])


def test_without_a_machine_column_all_walk_through_the_same_rows(tmp_path: Path) -> None:
    found = read_recording(csv(tmp_path, "PID\n1\n2\n"), STREAM)
    assert found.entities == ("4", "5", "6", "7", "8")
    assert found.rows("7", 0, 3).to_dicts() == [
        {"sequence": 1, "machine": 7, "PID": 1},
        {"sequence": 2, "machine": 7, "PID": 2},
        {"sequence": 1, "machine": 7, "PID": 1},
    ]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_byte_order_mark_carriage_returns_and_gzip_are_fine(tmp_path: Path, packed: bool) -> None:
    raw = b"\xef\xbb\xbfts,PID,VSTEXT,CMD\r\n1554218915,12, 24K,007\r\n"
    path = tmp_path / "recording"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    assert read_recording(path, STREAM, ["4"]).rows("4", 0, 1).to_dicts() == [
        {"sequence": 1, "machine": 4, "PID": 12, "VSTEXT": " 24K", "CMD": "007"}
    ]


@pytest.mark.parametrize(
    ("column", "as_number"),
    [("1,-2", [1, -2]), ("0.5, 7", [0.5, 7.0]), ("24K,7", ["24K", "7"]), ("nan,1", ["nan", "1"])],
)
def test_numbers_are_sent_as_numbers_where_all_of_a_column_are(
    tmp_path: Path, column: str, as_number: list[object]
) -> None:
    path = csv(tmp_path, "X\n" + column.replace(",", "\n") + "\n")
    assert read_recording(path, STREAM, ["4"]).rows("4", 0, 2)["X"].to_list() == as_number
    assert read_recording(path, STREAM, ["4"], strings=True).rows("4", 0, 2)["X"].to_list() == column.split(",")


@pytest.mark.parametrize(("text", "error"), [("", DataError), ("PID\n", DataError), ("a,b\n1,2,3\n", DataError)])
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, text: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"recording\.csv"):
        read_recording(csv(tmp_path, text), STREAM)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="away"):
        read_recording(tmp_path / "away.csv", STREAM)


# --- the sending


def test_an_array_per_cycle_and_machine_stamped_with_now(recording: Recording) -> None:
    topic, sent, _ = send(recording, PROCESS, cycles=3)
    messages = [json.loads(line) for line in lines(topic)]
    assert [(records[0]["machine"], {r["ts"] for r in records}) for records in messages] == [
        (machine, {now}) for now in (1000, 1005, 1010) for machine in (4, 5, 6)
    ]
    assert all(10 <= len(records) <= 50 for records in messages)
    assert sent == Progress(9, sum(map(len, messages)), sum(len(line) + 1 for line in lines(topic)))


def test_late_memory_records_are_sent_ten_seconds_later_with_the_old_time(recording: Recording) -> None:
    topic, _, clock = send(recording, MEMORY, cycles=2)
    messages = [json.loads(line) for line in lines(topic)]
    times = [sorted({record["ts"] for record in records}) for records in messages]
    assert times[:3] == [[1000]] * 3
    assert {tuple(time) for time in times[3:6]} <= {(1000, 1010), (1010,)}
    assert {tuple(time) for time in times[6:]} == {(1010,)}
    assert clock.monotonic() == pytest.approx(20)


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 45.0), (10.0, 4.5), (0.5, 90.0)])
def test_speed_changes_the_waiting_alone(recording: Recording, speed: float, seconds: float) -> None:
    topic, _, clock = send(recording, PROCESS, cycles=10, speed=speed)
    assert clock.monotonic() == pytest.approx(seconds)
    usual, _, _ = send(recording, PROCESS, cycles=10)
    assert [len(json.loads(line)) for line in lines(topic)] == [len(json.loads(line)) for line in lines(usual)]


@pytest.mark.parametrize("shape", ["array", "record"])
def test_the_shape_of_messages_changes_no_record(recording: Recording, shape: Shape) -> None:
    topic, sent, _ = send(recording, MEMORY, cycles=4, shape=shape)
    flat, _, _ = send(recording, MEMORY, cycles=4)
    records = [json.loads(line) for line in lines(topic)]
    if shape == "array":
        records = [record for group in records for record in group]
    assert records == [record for line in lines(flat) for record in json.loads(line)]
    assert (sent.records, sent.messages) == (len(records), len(lines(topic)))


def test_numbers_and_time_as_text_as_in_the_notebooks(tmp_path: Path) -> None:
    recording = read_recording(csv(tmp_path, "PID,MEM\n1,0.5\n"), STREAM, ["4"], strings=True)
    topic, _, _ = send(recording, PROCESS, cycles=1, strings=True)
    assert json.loads(lines(topic)[0])[0] == {"sequence": "1", "machine": "4", "PID": "1", "MEM": "0.5", "ts": "1000"}


@pytest.mark.parametrize(("keyed", "partitions"), [(True, 1), (False, 4)])
def test_keys_keep_a_machine_in_one_partition(recording: Recording, keyed: bool, partitions: int) -> None:
    topic = MemoryTopic(partitions=4)
    Replay(recording, PROCESS, cycles=8, keyed=keyed, clock=FakeClock()).run(topic, threading.Event())
    of_four = [
        any(json.loads(line)[0]["machine"] == 4 for line in lines(topic, partition)) for partition in topic.partitions()
    ]
    assert sum(of_four) == partitions


def test_a_clock_that_steps_back_changes_stamps_but_not_the_pace(recording: Recording) -> None:
    clock, topic = FakeClock(wall=1000.0), MemoryTopic(partitions=1)

    def step(progress: Progress) -> None:
        if progress.messages == 3:
            clock.step_wall(-600)

    Replay(recording, PROCESS, cycles=3, clock=clock).run(topic, threading.Event(), step)
    assert [json.loads(line)[0]["ts"] for line in lines(topic)] == [1000] * 3 + [405] * 3 + [410] * 3
    assert clock.monotonic() == pytest.approx(10)


def test_stop_ends_it_between_cycles(recording: Recording) -> None:
    topic, stop = MemoryTopic(partitions=1), threading.Event()

    def enough(progress: Progress) -> None:
        if progress.messages >= 6:
            stop.set()

    sent = Replay(recording, PROCESS, clock=FakeClock()).run(topic, stop, enough)
    assert sent.messages == len(everything(topic)) == 6
