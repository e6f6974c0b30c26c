"""What every record of a host says, whatever its stream: who, which program, when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from hackwatch.streams.fields import LABELLED, Field, Kind, Option
from hackwatch.streams.small import Columns
from hackwatch.streams.stream import EventFields, Noun

__all__ = [
    "LAST",
    "LATEST",
    "PID_MAX",
    "READ",
    "REPLAYED",
    "WHO",
    "command",
    "derive",
    "derived",
    "event_time",
    "letterless_kib",
    "machine",
    "pid",
    "sequence",
    "timestamp",
]

#: Greatest process id that Linux allows (PID_MAX_LIMIT, include/linux/threads.h).
PID_MAX = 2.0**22
#: Latest plausible event time (year 2242); up to here microseconds are exact in a float64. Rejects milliseconds.
LATEST = 2.0**33

sequence = Field("sequence", Kind.INTEGER, 0, 2.0**53)
machine = Field("machine", Kind.TEXT, 1, 255)
pid = Field("PID", Kind.INTEGER, 0, PID_MAX)
#: A program may call itself anything, blanks included, so nothing of its name is trimmed.
command = Field("CMD", Kind.TEXT, 1, 4096, strip=False)
timestamp = Field("ts", Kind.TIME, 1, LATEST)

#: The last columns of every stream, those of `derived` included.
LAST = pl.Schema(
    {
        "CMD": pl.String(),
        "ts": pl.Float64(),
        "CMD_PID": pl.String(),
        "finished": pl.Boolean(),
        "event_time": pl.Datetime("us", "UTC"),
    }
)

_FIELDS = {"machine": "host.name", "CMD": "process.name", "PID": "process.pid"}
#: Who a record is about and whose clock stamped it: what every stream of a host declares alike.
WHO: Any = {
    "entity": "machine",
    "noun": Noun("machine", "machines"),
    "subject": "CMD",
    "identity": "CMD_PID",
    "source": "machine",
    "identifiers": ("PID", "CMD_PID", "machine", "sequence", "ts", "event_time"),
    "bounded": ("machine", "CMD"),
    "events": EventFields(
        ecs=_FIELDS,
        ocsf={"machine": "device.hostname", "CMD": "process.name", "PID": "process.pid"},
        resource="host",
    ),
    # Recordings of one machine tell neither who nor when: seconds from 1 are plainly no real time.
    "defaults": {
        "sequence": lambda name, row: row,
        "ts": lambda name, row: row + 1,
        "machine": lambda name, row: name,
    },
}


def _letterless(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    return tuple(replace(item, letterless=1024.0) if item.kind is Kind.SIZE else item for item in fields)


letterless_kib = Option("letterless_kib", "Memory sizes without a unit letter are KiB instead of bytes.", _letterless)
#: How the decoders of all streams of a host read.
READ: Any = {"truth": LABELLED, "options": (letterless_kib,)}

#: Of the pace of recordings, whose machines were numbers in the course that they come from.
REPLAYED: Any = {"order": "sequence", "entities": ("4", "5", "6", "7", "8")}

#: atop prints a process that ended during the interval as `<name>`.
_finished = pl.col("CMD").str.starts_with("<") & pl.col("CMD").str.ends_with(">") & (pl.col("CMD").str.len_bytes() > 2)
_program = pl.when(_finished).then(pl.col("CMD").str.slice(1).str.head(-1)).otherwise(pl.col("CMD"))

event_time = (pl.col("ts") * 1e6).round().cast(pl.Int64).cast(pl.Datetime("us", "UTC")).alias("event_time")
derived = {
    "CMD": _program.alias("CMD"),
    "CMD_PID": pl.concat_str(_program, pl.col("PID"), separator="_").alias("CMD_PID"),
    "finished": _finished.alias("finished"),
    "event_time": event_time,
}


def derive(columns: Columns) -> Columns:
    """The same as `derived`, of plain values."""
    finished = [name[0] == "<" and name[-1] == ">" and len(name) > 2 for name in columns["CMD"]]
    programs = [name[1:-1] if over else name for name, over in zip(columns["CMD"], finished, strict=True)]
    return {
        "CMD": programs,
        "CMD_PID": [f"{program}_{pid}" for program, pid in zip(programs, columns["PID"], strict=True)],
        "finished": finished,
        "event_time": np.rint(np.array(columns["ts"]) * 1e6).astype(np.int64).tolist(),
    }
