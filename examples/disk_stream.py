"""A stream of your own: what each process reads from and writes to disks, as `atop -d` prints it.

Put this file into a package of yours, register it there, and install the package beside hackwatch:

    [project.entry-points."hackwatch.streams"]
    disk = "disk_stream:STREAM"

Then name it in hackwatch.toml as [streams.disk]. Feeds, rules, detectors, windows, alerts and the lake know it by that.
"""

from __future__ import annotations

import polars as pl

from hackwatch.families.host.streams import record
from hackwatch.streams.decode import Decoder
from hackwatch.streams.fields import Field, Kind
from hackwatch.streams.stream import Features, Noun, Stream

#: How each field of a message is printed, and which values are possible.
FIELDS = (
    record.machine,
    record.pid,
    Field("RDDSK", Kind.SIZE, 0, 2.0**60),
    Field("WRDSK", Kind.SIZE, 0, 2.0**60),
    Field("WCANCL", Kind.SIZE, 0, 2.0**60),
    Field("DSK", Kind.FRACTION, 0, 1),
    record.command,
    record.timestamp,
)

#: The columns of the lake: those fields, and what follows from them.
SCHEMA = pl.Schema(
    {
        "machine": pl.String(),
        "PID": pl.Int64(),
        "RDDSK": pl.Float64(),
        "WRDSK": pl.Float64(),
        "WCANCL": pl.Float64(),
        "DSK": pl.Float64(),
        "CMD": pl.String(),
        "ts": pl.Float64(),
        "CMD_PID": pl.String(),
        "finished": pl.Boolean(),
        "event_time": pl.Datetime("us", "UTC"),
    }
)

STREAM = Stream(
    name="disk",
    schema=SCHEMA,
    entity="machine",  # whom a record is about
    noun=Noun("machine", "machines"),  # what people call one, and several
    subject="CMD",  # what an alert names within the entity
    identity="CMD_PID",  # what distinct suspects are counted by
    source="machine",  # whose clock stamped the record
    identifiers=("machine", "PID", "CMD_PID", "ts", "event_time"),  # who and when: no model looks at them
    features=Features(numeric=("DSK",), log=("RDDSK", "WRDSK", "WCANCL"), categorical=("CMD",)),
    units={"RDDSK": "bytes", "WRDSK": "bytes", "WCANCL": "bytes", "DSK": "fraction", "ts": "seconds"},
    decode=Decoder("disk", SCHEMA, FIELDS, record.derived, options=(record.letterless_kib,)),
)
