"""What a batch tells its tasks, and what they report."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import orjson
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from hackwatch import streams
from hackwatch.config import KafkaSettings
from hackwatch.detect.panel import panel_schema
from hackwatch.lake.distributed import Share
from hackwatch.lake.log import Action
from hackwatch.pipeline.core import STAMP, Counts
from hackwatch.pipeline.detection import SCORED
from hackwatch.pipeline.watermark import NEVER
from hackwatch.spark.shipping import Shipped
from hackwatch.spark.spool import Spool
from hackwatch.streams.base import POSITION, REJECTED_SCHEMA, DecodeOptions, Stream

__all__ = [
    "ADDED",
    "KEYS",
    "REPORTS",
    "Enriched",
    "Plan",
    "Report",
    "read_reports",
    "records_schema",
    "rejected_schema",
    "spark_type",
    "to_ipc",
]

#: What a task gives back, as Spark sees it.
REPORTS = "report BINARY, rows BINARY"
#: What names a record, of those streams that drop duplicates.
KEYS = pl.Schema({**POSITION, "key": pl.String(), "event_time": pl.Int64(), "late": pl.Boolean()})
_PLACED = pl.Schema({"date": pl.Date(), "site": pl.String()})
#: Columns that a row gets only for its table.
ADDED = ["topic", "epoch", *_PLACED]


def records_schema(stream: Stream, roles: tuple[str, ...] = ()) -> pl.Schema:
    """The columns of a stream's table, as both engines write them. `roles`: those beside the champion."""
    judged = {**SCORED, **panel_schema(roles), **STAMP}
    return pl.Schema({**stream.schema, **POSITION, **judged, "topic": pl.String(), "epoch": pl.Int64(), **_PLACED})


def rejected_schema() -> pl.Schema:
    """The columns of the table of rejected messages."""
    return pl.Schema({**REJECTED_SCHEMA, "processing_time": STAMP["processing_time"], **_PLACED})


_TYPES: dict[pl.DataType, str] = {
    pl.Int8(): "TINYINT",
    pl.Int32(): "INT",
    pl.Int64(): "BIGINT",
    pl.Float32(): "FLOAT",
    pl.Float64(): "DOUBLE",
    pl.Boolean(): "BOOLEAN",
    pl.String(): "STRING",
    pl.Datetime("us", "UTC"): "TIMESTAMP",
}


@dataclass(frozen=True, slots=True)
class Enriched:
    """The topic that scored records are also sent to; made with so many `partitions` unless it exists."""

    url: str
    kafka: KafkaSettings
    partitions: int


class Box(Protocol):
    """A broadcast variable."""

    @property
    def value(self) -> Shipped: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How the tasks of one batch work; equal when the batch is repeated.

    `marks`: the watermarks of the partitions before the batch. `floor`: whatever they say, earlier event times are
    late, microseconds. `latest`: later ones are rejected, Unix seconds. `shares`: by table; a table that has the batch
    already has none. `roles`: those beside the champion. `keys_only`: tasks only report the keys of their records,
    `rejects_only`: they leave out the records (Spark scores them). `duplicates`: positions of records that repeat
    another one, as an Arrow stream.
    """

    stream: str
    topic: str
    site: str
    epoch: int
    wall: float
    latest: float
    lateness_seconds: float
    marks: dict[str, Any]
    floor: int
    decode: DecodeOptions
    on_suspect: bool
    shares: Mapping[str, Share]
    shipped: Box
    roles: tuple[str, ...] = ()
    spool: Spool | None = None
    enriched: Enriched | None = None
    keys_only: bool = False
    rejects_only: bool = False
    duplicates: bytes | None = None


@dataclass(slots=True)
class Report:
    """What a task did. `newest` (microseconds), `counts`, `next_offsets`: by partition.

    `entities`: records and suspects of each.
    """

    newest: dict[int, int] = field(default_factory=dict)
    counts: dict[int, Counts] = field(default_factory=dict)
    next_offsets: dict[int, int] = field(default_factory=dict)
    actions: dict[str, list[Action]] = field(default_factory=dict)
    entities: dict[str, tuple[int, int]] = field(default_factory=dict)
    unknown_fields: int = 0

    def add(self, other: Report) -> None:
        for number, counts in other.counts.items():
            self.counts.setdefault(number, Counts()).add(counts)
        for number, offset in other.next_offsets.items():
            self.next_offsets[number] = max(offset, self.next_offsets.get(number, offset))
        for table, actions in other.actions.items():
            self.actions.setdefault(table, []).extend(actions)
        for entity, (records, suspects) in other.entities.items():
            before = self.entities.get(entity, (0, 0))
            self.entities[entity] = (before[0] + records, before[1] + suspects)
        for number, newest in other.newest.items():
            self.newest[number] = max(newest, self.newest.get(number, NEVER))
        self.unknown_fields += other.unknown_fields

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_NON_STR_KEYS)

    @classmethod
    def from_json(cls, text: bytes) -> Report:
        told = orjson.loads(text)
        return cls(
            counts={int(number): Counts(**counts) for number, counts in told["counts"].items()},
            next_offsets={int(number): offset for number, offset in told["next_offsets"].items()},
            actions=told["actions"],
            entities={entity: (records, suspects) for entity, (records, suspects) in told["entities"].items()},
            newest={int(number): newest for number, newest in told["newest"].items()},
            unknown_fields=told["unknown_fields"],
        )


def read_reports(table: pa.Table, plan: Plan) -> tuple[Report, pl.DataFrame]:
    """The reports of all tasks as one, and the rows they gave in order of their positions.

    These are the rows that may raise alerts, or the keys of all records if the plan asks for them.
    """
    schema = records_schema(streams.get(plan.stream), plan.roles)
    whole = Report()
    frames = [(KEYS if plan.keys_only else schema).to_frame().drop(ADDED, strict=False)]
    for report, rows in zip(table["report"].to_pylist(), table["rows"].to_pylist(), strict=True):
        whole.add(Report.from_json(report))
        if rows:
            frames.append(pl.read_ipc_stream(io.BytesIO(rows)))
    return whole, pl.concat(frames).sort("partition", "offset", "index")


def spark_type(kind: pl.DataType) -> str:
    """The name of a column's type in Spark."""
    return _TYPES[kind]


def to_ipc(frame: pl.DataFrame) -> bytes:
    """A frame as an Arrow stream."""
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="zstd")
    return buffer.getvalue()
