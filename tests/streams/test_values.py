"""What each printed value means: the tables of the host streams, traps included.

Notebooks in circulation get many of these wrong. A comment says how, beside the right value.
"""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from tests.streams.support import PROCESS, decode, record, value

KI, MI, GI, TI = 2.0**10, 2.0**20, 2.0**30, 2.0**40


@pytest.mark.parametrize(
    ("printed", "bytes_"),
    [
        ("88680K", 88680 * KI),  # str.replace('.K', '') with a regular expression eats the digit: 8868
        ("132.3M", 132.3 * MI),  # sizes are not decimal: 132.3 x 10^6 is 5 % too small
        ("519.1M", 519.1 * MI),
        ("1.2G", 1.2 * GI),  # '.2G' eaten by a pattern '.G' leaves 1
        ("2.0G", 2 * GI),
        ("1.5T", 1.5 * TI),
        ("0K", 0.0),  # '.K' eats the zero as well and leaves nothing: NaN
        ("5K", 5 * KI),  # K x 10^9 in one notebook: 4.9 TB for a small process
        (" 24K", 24 * KI),  # stray space in front
        ("24K ", 24 * KI),
        ("\t24K\r", 24 * KI),
        ("\u00a024K", 24 * KI),
        ("-1.5M", -1.5 * MI),  # growth may be negative
        ("-12K", -12 * KI),
        ("+12K", 12 * KI),
        ("612.3", 612.3),  # no letter: bytes
        ("612", 612.0),
        ("1e3K", 1000 * KI),
        (612, 612.0),
        (612.5, 612.5),
        (-4096, -4096.0),
        ("1234567890.25K", 1234567890.25 * KI),  # too long for the quick way
    ],
    ids=str,
)
def test_sizes_are_powers_of_1024_bytes(printed: Any, bytes_: float) -> None:
    assert value("memory", "RGROW", RGROW=printed) == bytes_


@pytest.mark.parametrize(
    ("printed", "bytes_"),
    [("612.3", 612.3 * KI), (612, 612 * KI), (" 24", 24 * KI), ("24K", 24 * KI), ("2.0G", 2 * GI)],
)
def test_letterless_sizes_are_kibibytes_on_request(printed: Any, bytes_: float) -> None:
    decoded = decode("memory", record("memory", VSIZE=printed), letterless_kib=True)
    assert decoded.records["VSIZE"].to_list() == [bytes_]


@pytest.mark.parametrize(
    "printed", ["", "K", "-", "12KB", "1 2K", "12k", "12P", "1,5M", "0x10K", "infK", "nanK", "inf"]
)
def test_what_is_no_size_rejects_the_record(printed: str) -> None:
    assert value("memory", "VSIZE", VSIZE=printed).startswith("VSIZE: not a size from 0 to ")


@pytest.mark.parametrize(
    ("column", "sized"), [("VSTEXT", "-1K"), ("VSIZE", -1), ("RSIZE", "-0.1M"), ("VGROW", "-2E18")]
)
def test_impossible_sizes_reject_the_record(column: str, sized: Any) -> None:
    assert value("memory", column, **{column: sized}).startswith(f"{column}: not a size")


@pytest.mark.parametrize(
    ("printed", "events"),
    [
        ("17", 17),
        ("24K", 24_000),  # counters are counted in thousands: 24 x 1024 is a size
        (" 24K", 24_000),
        ("1438e3", 1_438_000),  # atop 2.8 prints large counters so; int() fails, a digit filter makes it 14383
        ("2M", 2_000_000),
        ("1.1M", 1_100_000),  # 1.1 x 10^6 is 1100000.0000000002 in binary
        ("3G", 3_000_000_000),
        ("17.0", 17),  # what pandas writes when a column had a gap
        (17, 17),
        (17.0, 17),
        (1e3, 1000),
    ],
    ids=str,
)
def test_fault_counters_are_powers_of_1000(printed: Any, events: int) -> None:
    assert value("memory", "MINFLT", MINFLT=printed) == events


@pytest.mark.parametrize(
    "printed", ["", "K", "-1", -1, "17.5", 17.5, "1T", "24KK", "nan", "1e300", True, "1e19"], ids=str
)
def test_what_is_no_count_rejects_the_record(printed: Any) -> None:
    assert value("memory", "MAJFLT", MAJFLT=printed) == "MAJFLT: not a count from 0 to 9007199254740992"


@pytest.mark.parametrize(
    ("printed", "fraction"),
    [(0.13, 0.13), ("0.13", 0.13), ("13%", 0.13), (" 13 % ", 0.13), ("0%", 0.0), ("100%", 1.0), (1, 1.0), (0, 0.0)],
    ids=str,
)
def test_shares_are_fractions(printed: Any, fraction: float) -> None:
    assert value("memory", "MEM", MEM=printed) == fraction  # "13%" stripped of its sign is 13 times all memory
    assert value("process", "CPU", CPU=printed) == fraction


@pytest.mark.parametrize("printed", ["101%", 1.01, -0.01, "13", "%", "nan", "inf", ""], ids=str)
def test_impossible_shares_reject_the_record(printed: Any) -> None:
    assert value("memory", "MEM", MEM=printed) == "MEM: not a fraction from 0 to 1"


@pytest.mark.parametrize(
    ("pri", "printed_nice", "nice"),
    [
        (0, 0, 0),  # finished during the interval
        (0, 20, 0),
        (0, "-", 0),
        (100, 20, -20),  # kernel worker: the minus sign was lost in the published tables
        (109, 11, -11),
        (119, 1, -1),
        (120, 0, 0),
        (121, 0, 1),  # notebooks map five values of PRI and leave all others as printed
        (130, 10, 10),
        (139, 19, 19),
        (" 139", "19", 19),
        (99, -5, -5),  # real-time priorities keep what they came with
        (49, 0, 0),
        (1, "-", None),
        ("-", "-", None),
        ("-", 0, 0),
    ],
)
def test_nice_is_restored_from_the_priority(pri: Any, printed_nice: Any, nice: int | None) -> None:
    assert value("process", "NICE", PRI=pri, NICE=printed_nice) == nice


@pytest.mark.parametrize("column", ["POLI", "NICE", "PRI", "RTPR", "CPUNR"])
@pytest.mark.parametrize("printed", ["-", " - ", "", None])
def test_what_a_finished_process_has_no_more_is_null(column: str, printed: str | None) -> None:
    finished = {"CMD": "<grep>", "State": "E", "Status": "-E", "PRI": "-", "NICE": "-"}
    assert value("process", column, **(finished | {column: printed})) is None


@pytest.mark.parametrize("column", ["sequence", "PID", "TRUN", "EXC", "CPU", "ts", "machine", "State", "Status"])
@pytest.mark.parametrize("printed", ["", None])
def test_what_every_process_has_must_be_there(column: str, printed: str | None) -> None:
    assert value("process", column, **{column: printed}).startswith(f"{column}: ")


@pytest.mark.parametrize(
    ("printed", "program", "finished"),
    [
        ("apache2", "apache2", False),
        ("<grep>", "grep", True),
        ("<<a>>", "<a>", True),
        ("<>", "<>", False),
        ("<", "<", False),
        ("<grep", "<grep", False),
        ("a>", "a>", False),
        (" sshd", " sshd", False),  # a program may call itself so, to look like another
        ("kworker/u8:2", "kworker/u8:2", False),
        ("[kworker/0:1]", "[kworker/0:1]", False),
        ("\x1b[2J", "\x1b[2J", False),
        ("café", "café", False),
        ("true", "true", False),
        (7, "7", False),
    ],
)
def test_a_finished_program_is_flagged_and_keeps_its_name(printed: Any, program: str, finished: bool) -> None:
    row = decode("process", record("process", CMD=printed)).records.row(0, named=True)
    assert (row["CMD"], row["finished"], row["CMD_PID"]) == (program, finished, f"{program}_3081")


@pytest.mark.parametrize(("printed", "name"), [(4, "4"), ("4", "4"), (" 4 ", "4"), ("web-1", "web-1"), (4.0, "4")])
def test_machines_are_named_by_text(printed: Any, name: str) -> None:
    assert value("memory", "machine", machine=printed) == name


@pytest.mark.parametrize(
    ("ts", "event_time"),
    [
        (1554218915, "2019-04-02T15:28:35.000000"),
        ("1554218915", "2019-04-02T15:28:35.000000"),
        (1554218915.25, "2019-04-02T15:28:35.250000"),
        (" 1554218915.000001 ", "2019-04-02T15:28:35.000001"),
    ],
    ids=str,
)
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
