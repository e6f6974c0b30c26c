"""Reads what `atop -P PRG,PRC,PRM` prints, of one machine or several, as process and memory records.

Source: atop(1), section "PARSEABLE OUTPUT"; versions 2.4 to 2.11, which differ in what follows the fields used here.
Every interval ends with a line SEP; RESET marks one that counts since boot. One interval's lines of the three labels
are matched by host, PID and order of appearance. Lines of threads are left out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from hackwatch.families.host.collect.printed import NOT_KNOWN, POLICIES, command_expression, size_expression

__all__ = ["AtopParser", "AtopRecords"]

# A name has at most 15 bytes and may hold anything; the shortest match that the fields after it allow is the right
# one, for the command line further on can hold whatever its owner likes.
_HEAD = r" (?<host>\S+) (?<epoch>\d+) \S+ \S+ (?<interval>\d+) (?<PID>\d+) \((?<name>.*?)\) (?<State>\S)"
_PATTERNS = {
    # ... real uid and gid, thread group, threads, exit code, begin, (command line), parent, thread states,
    # six ids, elapsed, is a process, two OpenVZ ids, container, new, (cgroup), ...
    "PRG": _HEAD + r" -?\d+ -?\d+ \d+ (?<threads>\d+) (?<exit>-?\d+) (?<begin>\d+) \(.*\)"
    r" -?\d+ (?<TRUN>\d+) (?<TSLPI>\d+) (?<TSLPU>\d+)(?: -?\d+){7} (?<whole>[yn])"
    r"(?: -?\d+ -?\d+ \S+(?: (?<new>[N-])(?: .*)?)?)?$",
    # ... ticks a second, user and system ticks, nice, priority, real-time priority, policy, CPU, sleep average, ...
    "PRC": _HEAD + r" (?<hertz>\d+) (?<user>\d+) (?<system>\d+) (?<NICE>-?\d+) (?<PRI>-?\d+) (?<RTPR>-?\d+)"
    r" (?<policy>-?\d+) (?<CPUNR>-?\d+) -?\d+ -?\d+ (?<whole>[yn])(?: .*)?$",
    # ... page size, sizes and growth in KiB, faults, four more sizes, thread group, is a process, ...
    "PRM": _HEAD + r" \d+ (?<VSIZE>-?\d+) (?<RSIZE>-?\d+) (?<VSTEXT>-?\d+) (?<VGROW>-?\d+) (?<RGROW>-?\d+)"
    r" (?<MINFLT>-?\d+) (?<MAJFLT>-?\d+)(?: -?\d+){5} (?<whole>[yn])(?: .*)?$",
}
_PHYSICAL = r"^MEM (?<host>\S+) \d+ \S+ \S+ \d+ (?<page>\d+) (?<pages>\d+)"
_TEXTS = ("host", "name", "State", "whole", "new")
_SIZES = ("VSTEXT", "VSIZE", "RSIZE", "VGROW", "RGROW")
_COUNTS = ("MINFLT", "MAJFLT")
_THREADS = ("TRUN", "TSLPI", "TSLPU")
_SCHEDULING = ("POLI", "NICE", "PRI", "RTPR", "CPUNR")
_COMMON = ("sequence", "machine", "PID")
_PROCESS = (*_COMMON, *_THREADS, *_SCHEDULING, "Status", "EXC", "State", "CPU", "CMD", "ts")
_MEMORY = (*_COMMON, *_COUNTS, *_SIZES, "MEM", "CMD", "ts")
_KEY = ("block", "host", "PID", "turn")


@dataclass(frozen=True, slots=True)
class AtopRecords:
    """NDJSON by machine (process, memory); records of each stream and intervals in it.

    `unreadable`: process lines of an unknown form; `incomplete`: processes that lack one of their three lines.
    """

    payloads: dict[str, tuple[bytes, bytes]]
    records: int
    intervals: int
    unreadable: int
    incomplete: int


class AtopParser:
    """Whole intervals of text in, records out; counts the sequence of each machine over its life.

    `machine` replaces the host name that atop prints. MEM is a share of `memory_bytes`, or of what a MEM line of that
    host says (`-P MEM,PRG,PRC,PRM`); 0 without either.
    """

    def __init__(self, *, machine: str | None = None, memory_bytes: int | None = None) -> None:
        self._machine = machine
        self._memory_kib = (memory_bytes or 0) / 1024
        self._memory_of: dict[str, float] = {}
        self._sequences: dict[str, int] = {}

    def parse(self, text: bytes) -> AtopRecords:
        """The records of some whole intervals."""
        # Split at newlines alone: names may hold any other character that passes for the end of a line.
        lines = pl.Series("line", text.decode("utf-8", "backslashreplace").split("\n"), dtype=pl.String)
        table = pl.DataFrame({"line": lines}).with_columns(
            label=pl.col("line").str.head(4), block=(pl.col("line") == "SEP").cum_sum()
        )
        self._learn_memory(table)
        parts = {label: _fields(table, label) for label in _PATTERNS}
        unreadable = sum(part.height - part["host"].count() for part in parts.values())
        whole, most = _joined(parts)
        boots = table.filter(pl.col("line") == "RESET")["block"].unique()
        records = self._numbered(_printed(whole.with_columns(boot=pl.col("block").is_in(boots.implode()))))
        return AtopRecords(
            payloads=dict(_payloads(records)),
            records=records.height,
            intervals=int((table["line"] == "SEP").sum()),
            unreadable=unreadable,
            incomplete=most - records.height,
        )

    def _learn_memory(self, table: pl.DataFrame) -> None:
        """Remember how much memory each host has, from its MEM lines (page size, physical pages)."""
        found = table.filter(pl.col("label") == "MEM ").select(pl.col("line").str.extract_groups(_PHYSICAL))
        for row in found.unnest("line").drop_nulls().unique("host", keep="last").iter_rows():
            self._memory_of[row[0]] = int(row[1]) * int(row[2]) / 1024

    def _numbered(self, records: pl.DataFrame) -> pl.DataFrame:
        """Machine, MEM and sequence: what depends on what came before."""
        memory = pl.col("host").replace_strict(self._memory_of, default=self._memory_kib, return_dtype=pl.Float64)
        share = pl.when(memory > 0).then((pl.col("resident") / memory).round(2)).otherwise(0.0)
        machine = pl.lit(self._machine) if self._machine else pl.col("host")
        records = records.with_columns(machine.alias("machine"), share.alias("MEM"))
        start = pl.col("machine").replace_strict(self._sequences, default=0, return_dtype=pl.Int64)
        records = records.with_columns(sequence=pl.int_range(pl.len()).over("machine") + start)
        for name, last in records.group_by("machine").agg(pl.col("sequence").max()).iter_rows():
            self._sequences[name] = last + 1
        return records


def _fields(table: pl.DataFrame, label: str) -> pl.DataFrame:
    """The fields of one label's lines, all null where a line is unreadable; `turn` counts a PID's lines in a block."""
    groups = table.filter(pl.col("label") == label + " ").select(
        "block", pl.col("line").str.extract_groups(f"^{label}{_PATTERNS[label]}").alias("fields")
    )
    fields = groups.unnest("fields")
    numbers = [name for name in fields.columns if name not in (*_TEXTS, "block")]
    fields = fields.with_columns(pl.col(numbers).cast(pl.Int64, strict=False))
    return fields.with_columns(turn=pl.int_range(pl.len()).over("block", "host", "PID", "whole"))


def _joined(parts: dict[str, pl.DataFrame]) -> tuple[pl.DataFrame, int]:
    """Processes that have all three lines, in atop's order, and how many have any of them."""
    general, scheduling, memory = (
        parts[label].filter(pl.col("whole") == "y").drop("whole") for label in ("PRG", "PRC", "PRM")
    )
    repeated = ("epoch", "interval", "name", "State")
    joined = general.join(scheduling.drop(repeated), on=_KEY, maintain_order="left")
    joined = joined.join(memory.drop(repeated), on=_KEY, maintain_order="left")
    return joined, max(general.height, scheduling.height, memory.height)


def _printed(fields: pl.DataFrame) -> pl.DataFrame:
    """The fields as atop's screen prints them."""
    finished, signal = pl.col("finished"), pl.col("exit") >= 256
    started = pl.col("begin") > pl.col("epoch") - pl.col("interval")
    new = pl.col("boot") | pl.when(pl.col("new").is_null()).then(started).otherwise(pl.col("new") == "N")
    ending = pl.when(~finished).then(pl.lit("")).when(signal).then(pl.lit("S")).otherwise(pl.lit("E"))
    idle = pl.col("State") == "I"
    ticks = pl.col("hertz") * pl.col("interval")
    policy = pl.col("policy").replace_strict(POLICIES, default="?", return_dtype=pl.String)
    return fields.with_columns(finished=pl.col("State") == "E").select(
        "host",
        "PID",
        # Idle kernel threads count as sleeping, in every version.
        TRUN=pl.when(finished).then(0).otherwise(pl.col("TRUN")),
        TSLPI=pl.when(finished).then(0).when(idle).then(pl.col("threads")).otherwise(pl.col("TSLPI")),
        TSLPU=pl.when(finished | idle).then(0).otherwise(pl.col("TSLPU")),
        POLI=_unless(finished, policy),
        NICE=_unless(finished, pl.col("NICE")),
        PRI=_unless(finished, pl.col("PRI").clip(lower_bound=0)),
        RTPR=_unless(finished, pl.col("RTPR")),
        CPUNR=_unless(finished, pl.col("CPUNR")),
        Status=pl.concat_str(pl.when(new).then(pl.lit("N")).otherwise(pl.lit("-")), ending),
        EXC=pl.when(signal).then(pl.col("exit") - 256).otherwise(pl.col("exit")),
        State=pl.col("State"),
        CPU=pl.when(ticks > 0).then(((pl.col("user") + pl.col("system")) / ticks).round(2)).otherwise(0.0),
        CMD=command_expression("name", "finished"),
        ts=pl.col("epoch"),
        **{name: pl.col(name).clip(lower_bound=0) for name in _COUNTS},
        **{name: size_expression(name) for name in _SIZES},
        resident=pl.col("RSIZE"),
    )


def _unless(finished: pl.Expr, value: pl.Expr) -> pl.Expr:
    """A scheduling column as text: `-` for a finished process."""
    return pl.when(finished).then(pl.lit(NOT_KNOWN)).otherwise(value.cast(pl.String))


def _payloads(records: pl.DataFrame) -> Iterator[tuple[str, tuple[bytes, bytes]]]:
    """NDJSON of both streams by machine."""
    for (machine,), part in records.group_by("machine", maintain_order=True):
        process, memory = io.BytesIO(), io.BytesIO()
        part.select(_PROCESS).write_ndjson(process)
        part.select(_MEMORY).write_ndjson(memory)
        yield str(machine), (process.getvalue(), memory.getvalue())
