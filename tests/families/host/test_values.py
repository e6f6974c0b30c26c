"""What each printed value means: the tables in `cases.py`, and what else rejects a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from hackwatch.cli import main
from hackwatch.config import StreamSettings
from hackwatch.streams.options import of_settings
from hackwatch.streams.stream import DecodeOptions
from tests.families.host.cases import COUNTS, NICES, NO_COUNTS, NO_SHARES, NO_SIZES, PROGRAMS, SHARES, SIZES, TIMES
from tests.streams.support import PROCESS, decode, kib, named, record, value
from tests.streams.test_small import agree

KI, GI = 2.0**10, 2.0**30


@pytest.mark.parametrize(("printed", "bytes_"), SIZES, ids=str)
def test_sizes_are_powers_of_1024_bytes(printed: Any, bytes_: float) -> None:
    assert value("memory", "RGROW", RGROW=printed) == bytes_


@pytest.mark.parametrize(
    ("printed", "bytes_"),
    [("612.3", 612.3 * KI), (612, 612 * KI), (" 24", 24 * KI), ("24K", 24 * KI), ("2.0G", 2 * GI)],
)
def test_letterless_sizes_are_kibibytes_on_request(printed: Any, bytes_: float) -> None:
    decoded = decode("memory", record("memory", VSIZE=printed), own=kib(True))
    assert decoded.records["VSIZE"].to_list() == [bytes_]


def test_a_setting_of_old_asks_for_that_too() -> None:
    assert of_settings(named("memory"), StreamSettings(letterless_kib=True)) == DecodeOptions(own=kib(True))


@pytest.mark.parametrize("printed", NO_SIZES)
def test_what_is_no_size_rejects_the_record(printed: str) -> None:
    assert value("memory", "VSIZE", VSIZE=printed).startswith("VSIZE: not a size from 0 to ")


@pytest.mark.parametrize(
    ("column", "sized"), [("VSTEXT", "-1K"), ("VSIZE", -1), ("RSIZE", "-0.1M"), ("VGROW", "-2E18")]
)
def test_impossible_sizes_reject_the_record(column: str, sized: Any) -> None:
    assert value("memory", column, **{column: sized}).startswith(f"{column}: not a size")


@pytest.mark.parametrize(("printed", "events"), COUNTS, ids=str)
def test_fault_counters_are_powers_of_1000(printed: Any, events: int) -> None:
    assert value("memory", "MINFLT", MINFLT=printed) == events


@pytest.mark.parametrize("printed", NO_COUNTS, ids=str)
def test_what_is_no_count_rejects_the_record(printed: Any) -> None:
    assert value("memory", "MAJFLT", MAJFLT=printed) == "MAJFLT: not a count from 0 to 9007199254740992"


@pytest.mark.parametrize(("printed", "fraction"), SHARES, ids=str)
def test_shares_are_fractions(printed: Any, fraction: float) -> None:
    assert value("memory", "MEM", MEM=printed) == fraction
    assert value("process", "CPU", CPU=printed) == fraction


@pytest.mark.parametrize("printed", NO_SHARES, ids=str)
def test_impossible_shares_reject_the_record(printed: Any) -> None:
    assert value("memory", "MEM", MEM=printed) == "MEM: not a fraction from 0 to 1"


@pytest.mark.parametrize(("pri", "printed_nice", "nice"), NICES)
def test_nice_is_restored_from_the_priority(pri: Any, printed_nice: Any, nice: int | None) -> None:
    assert value("process", "NICE", PRI=pri, NICE=printed_nice) == nice


@pytest.mark.parametrize("column", ["POLI", "NICE", "PRI", "RTPR", "CPUNR"])
@pytest.mark.parametrize("printed", ["-", " - ", "", None])
def test_what_a_finished_process_has_no_more_is_null(column: str, printed: str | None) -> None:
    finished = {"CMD": "<grep>", "State": "E", "Status": "-E", "PRI": "-", "NICE": "-"}
    assert value("process", column, **(finished | {column: printed})) is None


@pytest.mark.parametrize("nested", [["x"], {"CMD": "[x"}, [], {}, [[1]]], ids=str)
def test_nor_can_an_array_or_object_stand_where_there_may_be_no_text(nested: Any) -> None:
    assert value("process", "POLI", POLI=nested) == "POLI: not a text but an array or object"


@pytest.mark.parametrize("column", ["sequence", "PID", "TRUN", "EXC", "CPU", "ts", "machine", "State", "Status"])
@pytest.mark.parametrize("printed", ["", None])
def test_what_every_process_has_must_be_there(column: str, printed: str | None) -> None:
    assert value("process", column, **{column: printed}).startswith(f"{column}: ")


@pytest.mark.parametrize(("printed", "program", "finished"), PROGRAMS)
def test_a_finished_program_is_flagged_and_keeps_its_name(printed: Any, program: str, finished: bool) -> None:
    row = decode("process", record("process", CMD=printed)).records.row(0, named=True)
    assert (row["CMD"], row["finished"], row["CMD_PID"]) == (program, finished, f"{program}_3081")


@pytest.mark.parametrize(("printed", "name"), [(4, "4"), ("4", "4"), (" 4 ", "4"), ("web-1", "web-1"), (4.0, "4")])
def test_machines_are_named_by_text(printed: Any, name: str) -> None:
    assert value("memory", "machine", machine=printed) == name


@pytest.mark.parametrize(("ts", "event_time"), TIMES, ids=str)
def test_event_time_is_ts_in_microseconds_utc(ts: Any, event_time: str) -> None:
    frame = decode("process", record("process", ts=ts)).records
    assert frame.schema["event_time"] == pl.Datetime("us", "UTC")
    assert frame["event_time"].dt.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_list() == [event_time]


@pytest.mark.parametrize("ts", [0, -1, "nan", "inf", 1554218915123, "2019-04-02", "1e400", True], ids=str)
def test_absurd_times_reject_the_record(ts: Any) -> None:
    assert value("process", "ts", ts=ts) == "ts: not a time from 1 to 8589934592 Unix seconds"


@pytest.mark.parametrize("pid", [-1, 2**22 + 1, 3.5, "abc", "3.5", 2**63, 10**30, True, [1], {"a": 1}], ids=str)
def test_impossible_pids_reject_the_record(pid: Any) -> None:
    assert value("process", "PID", PID=pid) == "PID: not a whole number from 0 to 4194304"


@pytest.mark.parametrize(
    ("pid", "number"), [(0, 0), (2**22, 2**22), ("17", 17), (" 17 ", 17), (17.0, 17), ("1e3", 1000)]
)
def test_possible_pids(pid: Any, number: int) -> None:
    assert value("process", "PID", PID=pid) == number


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"PRI": 140}, "PRI"),
        ({"PRI": -1}, "PRI"),
        ({"NICE": 21}, "NICE"),
        ({"EXC": 2**31}, "EXC"),
        ({"TRUN": -1}, "TRUN"),
    ],
)
def test_other_impossible_numbers_reject_the_record(changes: dict[str, Any], column: str) -> None:
    assert value("process", column, **changes).startswith(f"{column}: not a whole number")


def test_a_reason_names_every_impossible_column() -> None:
    [reason] = decode("process", record("process", PID="x", CMD="", ts=None)).rejected["reason"]
    assert reason == (
        "PID: not a whole number from 0 to 4194304; CMD: not a text of 1 to 4096 bytes; ts: missing or null"
    )


def test_numbers_may_come_as_text_with_stray_spaces() -> None:
    texts = {name: f" {text} " if name != "CMD" else text for name, text in PROCESS.items()}
    sound, printed = decode("process", PROCESS).records, decode("process", texts).records
    assert printed.equals(sound)


@pytest.mark.parametrize(
    "records",
    [
        [{name: f" {value} " for name, value in PROCESS.items()}],
        [PROCESS, record("process", CMD="<ls>", NICE="-", PRI="-", RTPR="-", CPUNR="-", POLI="-")],
        [record("process", CMD="kworker/0:1")],
        [record("memory", VSIZE=612, RSIZE=2.5)],
    ],
    ids=["numbers as texts with stray blanks", "a finished process among others", "colons", "sizes as numbers"],
)
def test_usual_records_are_read_the_small_way(records: list[dict[str, Any]]) -> None:
    lines, stream = [json.dumps(one).encode() for one in records], "memory" if "VSIZE" in records[0] else "process"
    assert agree(stream, lines, DecodeOptions())
    assert agree(stream, [b"[" + b",".join(lines) + b"]", *lines], DecodeOptions())


def test_a_file_with_sizes_in_kibibytes_is_normalised(tmp_path: Path) -> None:
    (tmp_path / "memory.ndjson").write_text(json.dumps(record("memory", VSIZE="612")))
    arguments = ["normalise", str(tmp_path / "memory.ndjson"), "--as", "memory", "-o", str(tmp_path / "out.parquet")]
    done = CliRunner().invoke(main, [*arguments, "--letterless-kib"])
    assert done.exit_code == 0, done.output
    assert pl.read_parquet(tmp_path / "out.parquet")["VSIZE"].to_list() == [612 * KI]
