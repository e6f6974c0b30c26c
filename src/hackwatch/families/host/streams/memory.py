"""Stream `memory`: what each process of a Linux host occupies, as `atop -m` prints it (ToN_IoT `Linux_memory`)."""

from __future__ import annotations

import polars as pl

from hackwatch.families.host.streams import record
from hackwatch.streams.decode import Decoder
from hackwatch.streams.fields import Field, Kind
from hackwatch.streams.stream import Features, Pace, Stream

__all__ = ["STREAM"]

#: More than any address space that Linux offers (2^57 with five-level page tables).
_SIZE = 2.0**60
_EVENTS = 2.0**53
_FIELDS = (
    record.sequence,
    record.machine,
    record.pid,
    Field("MINFLT", Kind.COUNT, 0, _EVENTS),
    Field("MAJFLT", Kind.COUNT, 0, _EVENTS),
    Field("VSTEXT", Kind.SIZE, 0, _SIZE),
    Field("VSIZE", Kind.SIZE, 0, _SIZE),
    Field("RSIZE", Kind.SIZE, 0, _SIZE),
    Field("VGROW", Kind.SIZE, -_SIZE, _SIZE),
    Field("RGROW", Kind.SIZE, -_SIZE, _SIZE),
    Field("MEM", Kind.FRACTION, 0, 1),
    record.command,
    record.timestamp,
)

_SCHEMA = pl.Schema(
    {
        "sequence": pl.Int64(),
        "machine": pl.String(),
        "PID": pl.Int64(),
        "MINFLT": pl.Int64(),
        "MAJFLT": pl.Int64(),
        "VSTEXT": pl.Float64(),
        "VSIZE": pl.Float64(),
        "RSIZE": pl.Float64(),
        "VGROW": pl.Float64(),
        "RGROW": pl.Float64(),
        "MEM": pl.Float64(),
        **record.LAST,
    }
)

STREAM = Stream(
    name="memory",
    schema=_SCHEMA,
    **record.WHO,
    features=Features(
        numeric=("MEM",),
        log=("MINFLT", "MAJFLT", "VSTEXT", "VSIZE", "RSIZE", "VGROW", "RGROW"),
        categorical=("CMD",),
    ),
    units={
        "MINFLT": "events per interval",
        "MAJFLT": "events per interval",
        "VSTEXT": "bytes",
        "VSIZE": "bytes",
        "RSIZE": "bytes",
        "VGROW": "bytes",
        "RGROW": "bytes",
        "MEM": "fraction",
        "ts": "seconds",
    },
    decode=Decoder("memory", _SCHEMA, _FIELDS, record.derived, record.derive, **record.READ),
    pace=Pace(10.0, 20, 80, late=5, **record.REPLAYED),
)
