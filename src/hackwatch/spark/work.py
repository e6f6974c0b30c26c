"""What a task of Spark does with its messages: detect them, write their rows into files, and report in one row.

Rows do not go back to the JVM. A task writes its own Parquet files, with the writer of the embedded engine, and
reports the actions that add them to their tables; the driver commits the reports of all tasks at once. So a record
passes from the JVM to Python once and never back, and every sink is served in one pass.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np
import orjson
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from hackwatch import streams
from hackwatch.lake.distributed import Share
from hackwatch.lake.log import Action
from hackwatch.pipeline.core import STAMP, Counts
from hackwatch.pipeline.detection import SCORED, Scored, detect_messages
from hackwatch.pipeline.watermark import NEVER
from hackwatch.spark.messages import kafka_messages
from hackwatch.spark.shipping import Shipped
from hackwatch.spark.spool import Spool
from hackwatch.streams.base import POSITION, REJECTED_SCHEMA, DecodeOptions, Messages, Stream

__all__ = ["REPORTS", "Plan", "Report", "read_reports", "records_schema", "rejected_schema", "work"]

#: What a task gives back, as Spark sees it.
REPORTS = "report BINARY, alerting BINARY"
#: Rows that wait for their file, at the most.
ROWS_PER_FILE = 1_000_000
READ_BYTES = 10 << 20
_PLACED = pl.Schema({"date": pl.Date(), "site": pl.String()})


def records_schema(stream: Stream) -> pl.Schema:
    """The columns of a stream's table, as both engines write them."""
    return pl.Schema(
        {**stream.schema, **POSITION, **SCORED, **STAMP, "topic": pl.String(), "epoch": pl.Int64(), **_PLACED}
    )


def rejected_schema() -> pl.Schema:
    """The columns of the table of rejected messages."""
    return pl.Schema({**REJECTED_SCHEMA, "processing_time": STAMP["processing_time"], **_PLACED})


class Box(Protocol):
    """A broadcast variable."""

    @property
    def value(self) -> Shipped: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How the tasks of one batch work; equal when the batch is repeated.

    `late_before`: records with an earlier event time are late, microseconds. `latest`: later ones are rejected, Unix
    seconds. `shares`: by table; a table that has the batch already has none.
    """

    stream: str
    topic: str
    site: str
    epoch: int
    wall: float
    latest: float
    late_before: int
    decode: DecodeOptions
    on_suspect: bool
    shares: Mapping[str, Share]
    shipped: Box
    spool: Spool | None = None


@dataclass(slots=True)
class Report:
    """What a task did. `counts`, `next_offsets`: by partition; `entities`: records and suspects of each."""

    counts: dict[int, Counts] = field(default_factory=dict)
    next_offsets: dict[int, int] = field(default_factory=dict)
    actions: dict[str, list[Action]] = field(default_factory=dict)
    entities: dict[str, tuple[int, int]] = field(default_factory=dict)
    newest: int = NEVER
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
        self.newest = max(self.newest, other.newest)
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
            newest=told["newest"],
            unknown_fields=told["unknown_fields"],
        )


def read_reports(table: pa.Table, plan: Plan) -> tuple[Report, pl.DataFrame]:
    """The reports of all tasks as one, and the rows that may raise alerts, in order of their positions."""
    whole, frames = Report(), [records_schema(streams.get(plan.stream)).to_frame()]
    for report, alerting in zip(table["report"].to_pylist(), table["alerting"].to_pylist(), strict=True):
        whole.add(Report.from_json(report))
        if alerting:
            frames.append(pl.read_ipc_stream(io.BytesIO(alerting)))
    return whole, pl.concat(frames).sort("partition", "offset", "index")


def work(plan: Plan, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The body of a task: rows of a source in, one report out (none without messages)."""
    task = _Task(plan)
    for runs in _runs(plan, batches):
        task.take(runs)
    report = task.finish()
    if report.counts:
        alerting = _ipc(task.alerting)
        yield pa.record_batch({"report": pa.array([report.to_json()]), "alerting": pa.array([alerting], pa.binary())})


def _runs(plan: Plan, batches: Iterable[pa.RecordBatch]) -> Iterator[list[Messages]]:
    for batch in batches:
        if plan.spool is None:
            if batch.num_rows:
                yield list(kafka_messages(batch, plan.topic))
        else:
            for partition, start, end in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield from _spooled(plan.spool, partition, start, end)


def _spooled(spool: Spool, partition: int, start: int, end: int) -> Iterator[list[Messages]]:
    reader = spool.reader()
    try:
        while start < end:
            messages = reader.read(partition, start, max_bytes=READ_BYTES, end=end)
            if messages is None:
                break
            yield [messages]
            start = messages.next_offset
    finally:
        reader.close()


class _Task:
    """Gathers what becomes of messages."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._stream = plan, streams.get(plan.stream)
        self._shipped = plan.shipped.value
        self._records: list[pl.DataFrame] = []
        self._waiting = 0
        self._rejected: list[pl.DataFrame] = []
        self.alerting: list[pl.DataFrame] = []
        self.report = Report()

    def take(self, runs: Sequence[Messages]) -> None:
        plan, shipped = self._plan, self._shipped
        scored = detect_messages(
            self._stream, runs, plan.decode, shipped.detector, shipped.book, latest=plan.latest
        )  # fmt: skip
        for run in runs:
            self.report.next_offsets[run.partition] = run.next_offset
        self.take_scored(scored)

    def take_scored(self, scored: Scored) -> None:
        records = self._stamped(scored.records)
        self._count(scored, records)
        matched = records["rules"].list.len() > 0
        wanted = matched | (records["prediction"] == 1) if self._plan.on_suspect else matched
        if wanted.any():
            self.alerting.append(records.filter(wanted))
        self._records.append(records)
        self._waiting += len(records)
        if len(scored.rejected):
            self._rejected.append(scored.rejected)
        if self._waiting >= ROWS_PER_FILE:
            self._write()

    def finish(self) -> Report:
        self._write()
        return self.report

    def _stamped(self, records: pl.DataFrame) -> pl.DataFrame:
        """The rows as the table has them."""
        plan = self._plan
        if "key" in records.columns:
            records = records.drop("key")
        number = len(records)
        late = records["event_time"].to_physical().to_numpy() < plan.late_before
        moment = np.full(number, round(plan.wall * 1e6), dtype=np.int64)
        return records.hstack(
            [
                pl.Series("late", late, dtype=pl.Boolean),
                pl.Series("processing_time", moment).cast(STAMP["processing_time"]),
                pl.repeat(plan.topic, number, dtype=pl.String, eager=True).alias("topic"),
                pl.repeat(plan.epoch, number, dtype=pl.Int64, eager=True).alias("epoch"),
                records["event_time"].dt.date().alias("date"),
                pl.repeat(plan.site, number, dtype=pl.String, eager=True).alias("site"),
            ]
        )

    def _count(self, scored: Scored, records: pl.DataFrame) -> None:
        report = self.report
        partition, late = records["partition"].to_numpy(), records["late"].to_numpy()
        suspect = records["prediction"].to_numpy() == 1
        rejected = scored.rejected["partition"].to_numpy()
        for number, messages in scored.messages.items():
            mine = partition == number
            counts = Counts(
                messages=messages,
                late=int(np.count_nonzero(late & mine)),
                rejected=int(np.count_nonzero(rejected == number)),
                suspects=int(np.count_nonzero(suspect & mine & ~late)),
            )
            counts.on_time = int(np.count_nonzero(mine)) - counts.late
            counts.records = counts.on_time + counts.late + counts.rejected
            report.counts.setdefault(number, Counts()).add(counts)
        unknown = sum(scored.unknown_fields.values())
        report.unknown_fields += unknown
        if unknown:
            report.counts[next(iter(scored.messages))].unknown_fields += unknown
        if len(records):
            report.newest = max(report.newest, int(records["event_time"].to_physical().max()))  # type: ignore[arg-type]
            self._count_entities(records)

    def _count_entities(self, records: pl.DataFrame) -> None:
        suspects = pl.col("prediction").cast(pl.Int64).sum()
        counted = records.group_by(self._stream.entity).agg(pl.len(), suspects)
        report = Report(entities={entity: (number, found) for entity, number, found in counted.iter_rows()})
        self.report.add(report)

    def _write(self) -> None:
        """Write what waits into files."""
        plan = self._plan
        moment = pl.lit(round(plan.wall * 1e6)).cast(STAMP["processing_time"])
        if self._rejected:
            rejected = pl.concat(self._rejected).with_columns(moment.alias("processing_time"))
            site = pl.lit(plan.site).alias("site")
            self._append("rejected", rejected.with_columns(moment.dt.date().alias("date"), site))
        if self._waiting:
            self._append(plan.stream, pl.concat(self._records))
        self._records, self._rejected, self._waiting = [], [], 0

    def _append(self, table: str, frame: pl.DataFrame) -> None:
        share = self._plan.shares.get(table)
        if share is not None:
            self.report.actions.setdefault(table, []).extend(share.write(frame, self._plan.epoch))


def _ipc(frames: list[pl.DataFrame]) -> bytes | None:
    if not frames:
        return None
    buffer = io.BytesIO()
    pl.concat(frames).write_ipc_stream(buffer, compression="zstd")
    return buffer.getvalue()
