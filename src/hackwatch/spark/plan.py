"""What a batch tells its tasks, and what they report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

import orjson
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from hackwatch import streams
from hackwatch.counts import Counts
from hackwatch.lake.distributed import Share
from hackwatch.lake.log import Action
from hackwatch.pipeline.arrivals import Arrival, from_frame
from hackwatch.pipeline.detection import SCORED
from hackwatch.pipeline.judged import LAYOUT, records_schema
from hackwatch.pipeline.lengths import Lengths
from hackwatch.pipeline.options import StreamOptions
from hackwatch.runtime.options import EnrichedTopic
from hackwatch.spark.clockfiles import KnownClocks
from hackwatch.spark.folder import LocalFolder
from hackwatch.spark.ipc import from_ipc
from hackwatch.spark.scorer import rows_schema
from hackwatch.spark.shipping import Shipped
from hackwatch.spark.spool import Spool
from hackwatch.streams.stream import POSITION, DecodeOptions, Stream

__all__ = [
    "REPORTS",
    "Known",
    "Plan",
    "Report",
    "Told",
    "nothing_told",
    "pack_told",
    "read_told",
    "spark_type",
    "suspects_schema",
]

#: What a task gives back, as Spark sees it: its report, and under their names the frames that go with it.
REPORTS = "report BINARY, name STRING, frame BINARY"
#: The frames that go with a report; of the last two one a (name of an aggregate, partition), behind a slash.
ALERTING, SUSPECTS, ARRIVED, COUNTED, KEYS = "alerting", "suspects", "arrivals", "counted/", "keys/"


def suspects_schema(stream: Stream) -> pl.Schema:
    """The columns of a suspect that correlations hold."""
    return pl.Schema({**stream.schema, **POSITION, **SCORED})


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


class Box(Protocol):
    """A broadcast variable."""

    @property
    def value(self) -> Shipped: ...


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a stream before a batch, for its tasks.

    `keys`: by partition the epoch whose file holds the keys that must not be repeated, in the folder of the clocks;
    tasks write the new ones there themselves if that is `keys_folder`. `lengths`: of the intervals of each aggregate.
    """

    clocks: KnownClocks
    keys: Mapping[int, int]
    keys_folder: LocalFolder | None
    lengths: tuple[Lengths, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How the tasks of one batch work; equal when the batch is repeated.

    `wall`, `elapsed`: the time of the batch. `latest`: later event times are rejected, Unix seconds. `shares`: by
    table; a table that has the batch already has none. `suspects`: whether they are wanted. `roles`: those beside the
    champion. `rejects_only`: tasks leave out the records (Spark scores them).
    """

    stream: str
    topic: str
    site: str
    epoch: int
    wall: float
    elapsed: float
    latest: float
    options: StreamOptions
    decode: DecodeOptions
    known: Known
    shares: Mapping[str, Share]
    shipped: Box
    suspects: bool
    roles: tuple[str, ...] = ()
    spool: Spool | None = None
    enriched: EnrichedTopic | None = None
    rejects_only: bool = False

    @property
    def rows_schema(self) -> pl.Schema:
        """The columns that go through Spark where it scores."""
        return rows_schema(streams.get(self.stream), keyed=self.options.stream.duplicates_key is not None)


@dataclass(slots=True)
class Report:
    """What a task did. `counts`, `next_offsets`: by partition. `entities`: records and suspects of each."""

    counts: dict[int, Counts] = field(default_factory=dict)
    next_offsets: dict[int, int] = field(default_factory=dict)
    actions: dict[str, list[Action]] = field(default_factory=dict)
    entities: dict[str, tuple[int, int]] = field(default_factory=dict)

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
        )


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What all tasks of a batch have told.

    `alerting`: the rows that may raise alerts, and `suspects`, both in order of their positions. `arrivals`: what each
    source sent. `counted`: partial states of each aggregate. `keys`: of each partition that has new ones, None where
    the task has written them into a file.
    """

    report: Report
    alerting: pl.DataFrame
    suspects: pl.DataFrame
    arrivals: list[Arrival]
    counted: Mapping[str, Sequence[pl.DataFrame]]
    keys: Mapping[int, bytes | None]

    def reported(self, also: Report) -> Told:
        """The same with another report, of another pass over the batch."""
        also.add(self.report)
        return replace(self, report=also)


def nothing_told(stream: Stream) -> Told:
    """What a batch without messages tells."""
    return Told(Report(), _alerting(stream), suspects_schema(stream).to_frame(), [], {}, {})


def _alerting(stream: Stream, roles: tuple[str, ...] = ()) -> pl.DataFrame:
    """No rows that may raise alerts: with their columns, but not those of the lake's layout."""
    return records_schema(stream, roles).to_frame().drop(LAYOUT.names())


def pack_told(report: Report, frames: Mapping[str, bytes]) -> pa.RecordBatch:
    """What one task tells, as REPORTS."""
    names, contents = list(frames), list(frames.values())
    return pa.record_batch(
        {
            "report": pa.array([report.to_json(), *[None] * len(names)], pa.binary()),
            "name": pa.array([None, *names], pa.string()),
            "frame": pa.array([None, *contents], pa.binary()),
        }
    )


def read_told(table: pa.Table, plan: Plan) -> Told:
    """What the tasks have told, put together."""
    whole, frames = Report(), dict[str, list[bytes]]()
    rows = zip(*(table[name].to_pylist() for name in ("report", "name", "frame")), strict=True)
    for report, name, frame in rows:
        if report is not None:
            whole.add(Report.from_json(report))
        else:
            frames.setdefault(name, []).append(frame)
    stream = streams.get(plan.stream)
    places = list(POSITION)
    seen = [one for frame in frames.get(ARRIVED, ()) for one in from_frame(from_ipc(frame))]
    return Told(
        whole,
        _joined(frames.get(ALERTING, ()), records_schema(stream, plan.roles).to_frame().drop(LAYOUT.names())).sort(
            places
        ),
        _joined(frames.get(SUSPECTS, ()), suspects_schema(stream).to_frame()).sort(places),
        sorted(seen, key=lambda one: one.partition),
        {_under(name): [*map(from_ipc, found)] for name, found in frames.items() if name.startswith(COUNTED)},
        {int(_under(name)): found[0] or None for name, found in frames.items() if name.startswith(KEYS)},
    )


def _under(name: str) -> str:
    return name.partition("/")[2]


def _joined(found: Sequence[bytes], empty: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([empty, *map(from_ipc, found)])


def spark_type(kind: pl.DataType) -> str:
    """The name of a column's type in Spark."""
    return _TYPES[kind]
