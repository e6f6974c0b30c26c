"""Stream `process`: what each process of a Linux host does, as `atop -s` prints it (ToN_IoT `Linux_process`)."""

from __future__ import annotations

import polars as pl

from hackwatch.families.host.streams import record
from hackwatch.streams.decode import Decoder
from hackwatch.streams.fields import Field, Kind
from hackwatch.streams.small import Columns
from hackwatch.streams.stream import Features, Pace, Stream

__all__ = ["STREAM"]

_THREADS = 2.0**22
_FIELDS = (
    record.sequence,
    record.machine,
    record.pid,
    Field("TRUN", Kind.INTEGER, 0, _THREADS),
    Field("TSLPI", Kind.INTEGER, 0, _THREADS),
    Field("TSLPU", Kind.INTEGER, 0, _THREADS),
    Field("POLI", Kind.TEXT, 1, 32, nullable=True),
    # 20 is a printed -20 that lost its sign; the true one is restored from PRI.
    Field("NICE", Kind.INTEGER, -20, 20, nullable=True),
    Field("PRI", Kind.INTEGER, 0, 139, nullable=True),
    Field("RTPR", Kind.INTEGER, 0, 139, nullable=True),
    Field("CPUNR", Kind.INTEGER, 0, 65535, nullable=True),
    Field("Status", Kind.TEXT, 1, 32),
    Field("EXC", Kind.INTEGER, -(2.0**31), 2.0**31 - 1),
    Field("State", Kind.TEXT, 1, 32),
    # A fraction of one core in some exports: as many as there are cores.
    Field("CPU", Kind.FRACTION, 0, 1024),
    record.command,
    record.timestamp,
)

_PRI, _NICE = pl.col("PRI"), pl.col("NICE")
_nice = pl.when(_PRI == 0).then(pl.lit(0, pl.Int64)).when(_PRI >= 100).then(_PRI - 120).otherwise(_NICE).alias("NICE")


def _derive(columns: Columns) -> Columns:
    """The same, of plain values."""
    pairs = zip(columns["NICE"], columns["PRI"], strict=True)
    restored = [nice if pri is None or 0 < pri < 100 else pri and pri - 120 for nice, pri in pairs]
    return {**record.derive(columns), "NICE": restored}


_SCHEMA = pl.Schema(
    {
        "sequence": pl.Int64(),
        "machine": pl.String(),
        "PID": pl.Int64(),
        "TRUN": pl.Int64(),
        "TSLPI": pl.Int64(),
        "TSLPU": pl.Int64(),
        "POLI": pl.String(),
        "NICE": pl.Int64(),
        "PRI": pl.Int64(),
        "RTPR": pl.Int64(),
        "CPUNR": pl.Int64(),
        "Status": pl.String(),
        "EXC": pl.Int64(),
        "State": pl.String(),
        "CPU": pl.Float64(),
        **record.LAST,
    }
)

STREAM = Stream(
    name="process",
    schema=_SCHEMA,
    **record.WHO,
    features=Features(
        numeric=("NICE", "PRI", "RTPR", "CPUNR", "CPU"),
        log=("TRUN", "TSLPI", "TSLPU", "EXC"),
        categorical=("POLI", "Status", "State", "CMD"),
    ),
    units={
        "TRUN": "threads",
        "TSLPI": "threads",
        "TSLPU": "threads",
        "NICE": "niceness",
        "PRI": "priority",
        "RTPR": "real-time priority",
        "CPUNR": "CPU number",
        "EXC": "exit code",
        "CPU": "fraction",
        "ts": "seconds",
    },
    decode=Decoder("process", _SCHEMA, _FIELDS, {**record.derived, "NICE": _nice}, _derive, **record.READ),
    pace=Pace(5.0, 10, 50, **record.REPLAYED),
)
