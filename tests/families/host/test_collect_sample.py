"""From two snapshots to records: what atop would print, for processes that stay, come, end and are replaced."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hackwatch.families.host.collect import sample as module
from hackwatch.families.host.collect.exits import Exit
from hackwatch.families.host.collect.proc import Process, Snapshot, Threads
from hackwatch.families.host.collect.sample import Moment, Sampler

BASE = Process(
    raw=b"", pid=7, name=b"bash", state="S", minor_faults=10, major_faults=1, ticks=100, priority=20, nice=0, threads=1,
    start=50, virtual_kib=8000, resident_kib=4000, text_kib=900, cpu=3, realtime_priority=0, policy=0,
)  # fmt: skip
Row = dict[str, Any]


class Watch:
    """A sampler, a clock of 10 s a sample, and the records of the last one by PID."""

    def __init__(self) -> None:
        self.sampler = Sampler("web-1", ticks_per_second=100, memory_kib=40_000)
        self.running = 990.0
        self.dropped = 0

    def step(
        self,
        *processes: Process,
        threads: dict[int, Threads] | None = None,
        before: tuple[Exit, ...] = (),
        after: tuple[Exit, ...] = (),
    ) -> tuple[list[Row], list[Row]]:
        self.running += 10
        snapshot = Snapshot({process.pid: process for process in processes}, threads or {})
        sample = self.sampler.step(Moment(1e9 + self.running + 0.12345, self.running), snapshot, before, after)
        self.dropped = sample.dropped
        rows = [[json.loads(line) for line in payload.splitlines()] for payload in (sample.process, sample.memory)]
        assert len(rows[0]) == len(rows[1]) == sample.running + sample.finished
        return rows[0], rows[1]


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_the_first_sample_counts_since_boot_and_all_is_new(watch: Watch) -> None:
    [process], [memory] = watch.step(BASE._replace(ticks=20_000))
    assert process == {
        "sequence": 0, "machine": "web-1", "PID": 7, "TRUN": 0, "TSLPI": 1, "TSLPU": 0, "POLI": "norm", "NICE": 0,
        "PRI": 120, "RTPR": 0, "CPUNR": 3, "Status": "N", "EXC": 0, "State": "S", "CPU": 0.2, "CMD": "bash",
        "ts": 1000001000.123,
    }  # fmt: skip
    assert memory == {
        "sequence": 0, "machine": "web-1", "PID": 7, "MINFLT": 10, "MAJFLT": 1, "VSTEXT": "900K", "VSIZE": "8000K",
        "RSIZE": "4000K", "VGROW": "8000K", "RGROW": "4000K", "MEM": 0.1, "CMD": "bash", "ts": 1000001000.123,
    }  # fmt: skip


def test_later_samples_count_what_happened_between(watch: Watch) -> None:
    watch.step(BASE)
    later = BASE._replace(ticks=750, minor_faults=15, virtual_kib=7000, resident_kib=4100)
    [process], [memory] = watch.step(later)
    assert (process["sequence"], process["Status"], process["CPU"]) == (1, "-", 0.65)
    assert (memory["MINFLT"], memory["MAJFLT"], memory["VGROW"], memory["RGROW"]) == (5, 0, "-1000K", "100K")


def test_counters_that_go_back_count_nothing(watch: Watch) -> None:
    watch.step(BASE)
    [process], [memory] = watch.step(BASE._replace(ticks=1, minor_faults=0, major_faults=0))
    assert (process["CPU"], memory["MINFLT"], memory["MAJFLT"]) == (0.0, 0, 0)


def test_a_clock_that_stands_still_divides_by_nothing(watch: Watch) -> None:
    watch.step(BASE)
    watch.running -= 10
    [process], _ = watch.step(BASE._replace(ticks=900))
    assert process["CPU"] == 0.0


def test_several_threads_may_use_several_processors(watch: Watch) -> None:
    watch.step(BASE)
    [process], _ = watch.step(BASE._replace(ticks=3100, threads=4), threads={7: Threads(3, 1, 0)})
    assert (process["CPU"], process["TRUN"], process["TSLPI"]) == (3.0, 3, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"priority": 0, "nice": -20}, {"PRI": 100, "NICE": -20, "POLI": "norm"}, id="nice -20"),
        pytest.param({"priority": 39, "nice": 19, "policy": 3}, {"PRI": 139, "NICE": 19, "POLI": "btch"}, id="batch"),
        pytest.param({"policy": 5}, {"PRI": 120, "POLI": "idle"}, id="idle policy"),
        pytest.param(
            {"priority": -51, "realtime_priority": 50, "policy": 1}, {"PRI": 49, "RTPR": 50, "POLI": "fifo"}, id="fifo"
        ),
        pytest.param(
            {"priority": -2, "realtime_priority": 1, "policy": 2}, {"PRI": 98, "RTPR": 1, "POLI": "rr"}, id="rr"
        ),
        pytest.param({"priority": -101, "policy": 6}, {"PRI": 0, "POLI": "dead"}, id="deadline"),
        pytest.param({"policy": 99}, {"POLI": "?"}, id="policy of a later kernel"),
        pytest.param({"state": "R"}, {"State": "R", "TRUN": 1, "TSLPI": 0, "TSLPU": 0}, id="running"),
        pytest.param({"state": "D"}, {"State": "D", "TRUN": 0, "TSLPI": 0, "TSLPU": 1}, id="uninterruptible"),
        pytest.param({"state": "I"}, {"State": "I", "TRUN": 0, "TSLPI": 1, "TSLPU": 0}, id="idle kernel thread"),
        pytest.param({"state": "Z"}, {"State": "Z", "TRUN": 0, "TSLPI": 0, "TSLPU": 0}, id="zombie"),
        pytest.param({"state": "T"}, {"State": "T", "TRUN": 0, "TSLPI": 0, "TSLPU": 0}, id="stopped"),
        pytest.param({"name": b"NetworkManager1"}, {"CMD": "NetworkManager"}, id="long name"),
        pytest.param({"name": b"\xffx"}, {"CMD": "\\xffx"}, id="name not UTF-8"),
        pytest.param({"name": b"a\nb"}, {"CMD": "a\nb"}, id="name of two lines"),
        pytest.param({"name": b""}, {"CMD": "?"}, id="no name"),
        pytest.param({"name": b"<bash>"}, {"CMD": "<bash"}, id="plays finished"),
    ],
)
def test_how_a_running_process_is_printed(watch: Watch, changes: Row, expected: Row) -> None:
    [process], _ = watch.step(BASE._replace(**changes))
    assert {name: process[name] for name in expected} == expected


def test_a_process_that_vanished_is_finished(watch: Watch) -> None:
    watch.step(BASE)
    [process], [memory] = watch.step()
    assert process | {"ts": 0} == {
        "sequence": 1, "machine": "web-1", "PID": 7, "TRUN": 0, "TSLPI": 0, "TSLPU": 0, "POLI": "-", "NICE": "-",
        "PRI": "-", "RTPR": "-", "CPUNR": "-", "Status": "-E", "EXC": 0, "State": "E", "CPU": 0.0, "CMD": "<bash>",
        "ts": 0,
    }  # fmt: skip
    assert {memory[name] for name in ("VSTEXT", "VSIZE", "RSIZE", "VGROW", "RGROW")} == {"0K"}
    assert watch.step() == ([], []), "it ends once"


def test_a_reused_number_is_an_end_and_a_beginning(watch: Watch) -> None:
    watch.step(BASE)
    process, memory = watch.step(BASE._replace(start=900, name=b"nc", ticks=500))
    assert [(row["CMD"], row["Status"]) for row in process] == [("nc", "N"), ("<bash>", "-E")]
    assert (process[0]["CPU"], memory[0]["VGROW"]) == (0.5, "8000K")


@pytest.mark.parametrize(
    ("status", "letter", "code"),
    [
        pytest.param(0, "E", 0, id="success"),
        pytest.param(3 << 8, "E", 3, id="exit 3"),
        pytest.param(255 << 8, "E", 255, id="exit 255"),
        pytest.param(9, "S", 9, id="killed"),
        pytest.param(11 | 0x80, "C", 11, id="core dumped"),
    ],
)
def test_how_it_ended_is_heard(watch: Watch, status: int, letter: str, code: int) -> None:
    watch.step(BASE)
    known = Exit(7, b"bash", status, microseconds=6_000_000, minor_faults=14, major_faults=1)
    short = Exit(8, b"nc", status, microseconds=500_000, minor_faults=4)
    process, memory = watch.step(before=(known,), after=(short,))
    assert [(row["CMD"], row["Status"], row["EXC"]) for row in process] == [
        ("<bash>", f"-{letter}", code),
        ("<nc>", f"N{letter}", code),
    ]
    assert [row["CPU"] for row in process] == [0.5, 0.05], "6 s less the 1 s it had at the last sample; 0.5 s"
    assert [(row["MINFLT"], row["MAJFLT"]) for row in memory] == [(4, 0), (4, 0)]


def test_a_zombie_is_finished_once_it_is_gone(watch: Watch) -> None:
    watch.step(BASE)
    process, _ = watch.step(BASE._replace(state="Z"), before=(Exit(7, b"bash", 9),))
    assert [(row["CMD"], row["State"]) for row in process] == [("bash", "Z")]
    process, _ = watch.step()
    assert [(row["CMD"], row["Status"], row["EXC"]) for row in process] == [("<bash>", "-S", 9)]


def test_what_is_still_ending_when_the_snapshot_is_taken_ends_once(watch: Watch) -> None:
    watch.step(BASE)
    process, _ = watch.step(BASE._replace(state="R"), before=(Exit(7, b"bash", 3 << 8),))
    assert [(row["CMD"], row["Status"]) for row in process] == [("bash", "-")]
    process, _ = watch.step()
    assert [(row["CMD"], row["Status"], row["EXC"]) for row in process] == [("<bash>", "-E", 3)]


def test_another_process_of_the_same_name_and_number_is_told_from_the_one_before(watch: Watch) -> None:
    watch.step(BASE)
    watch.step(BASE._replace(start=99), before=(Exit(7, b"bash", 3 << 8),))
    process, _ = watch.step(BASE._replace(start=99))
    assert [(row["CMD"], row["Status"], row["EXC"]) for row in process] == [("bash", "-", 0), ("<bash>", "NE", 3)]


def test_an_end_just_after_the_snapshot_is_told_with_the_next(watch: Watch) -> None:
    process, _ = watch.step(BASE, after=(Exit(7, b"bash", 3 << 8),))
    assert [row["CMD"] for row in process] == ["bash"]
    process, _ = watch.step()
    assert [(row["CMD"], row["Status"], row["EXC"]) for row in process] == [("<bash>", "-E", 3)]


def test_one_number_may_end_several_times_in_an_interval(watch: Watch) -> None:
    watch.step(BASE)
    process, _ = watch.step(
        BASE._replace(start=99, name=b"cc"), before=(Exit(7, b"bash", 256), Exit(7, b"sed", 512)), after=()
    )
    assert [(row["CMD"], row["Status"]) for row in process] == [("cc", "N"), ("<bash>", "-E"), ("<sed>", "NE")]


def test_a_flood_of_ends_is_cut_and_said(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FINISHED", 3)
    process, _ = watch.step(before=tuple(Exit(pid, b"bomb") for pid in range(10)))
    assert (len(process), watch.dropped) == (3, 7)
