"""What a task of Spark does with its messages: detect them, write their rows into files, and report in one row.

Rows do not go back to the JVM. A task writes its own Parquet files, with the writer of the embedded engine, and
reports the actions that add them to their tables; the driver commits the reports of all tasks at once. So a record
passes from the JVM to Python once and never back, and every sink is served in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from hackwatch import streams
from hackwatch.detect.detector import Driver
from hackwatch.detect.panel import CHAMPION, Panel
from hackwatch.pipeline.detection import Scored, detect_messages, score_records
from hackwatch.pipeline.judged import judged, lake_rows
from hackwatch.runtime.options import EnrichedTopic
from hackwatch.spark.ipc import to_ipc
from hackwatch.spark.judging import Judge
from hackwatch.spark.messages import kafka_messages
from hackwatch.spark.plan import ALERTING, Plan, Report, pack_told
from hackwatch.spark.spool import Spool
from hackwatch.streams.stream import REJECTED_SCHEMA, Messages, Stream

__all__ = ["finish", "normalise", "work"]

#: Rows that wait for their file, at the most.
ROWS_PER_FILE = 1_000_000
READ_BYTES = 10 << 20


def work(plan: Plan, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The body of a task: rows of a source in, what it has to tell out (nothing without messages)."""
    task = _Task(plan)
    for runs in _runs(plan, batches):
        task.take(runs)
    yield from task.finish()


def normalise(plan: Plan, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The normalised records of messages, for a detector that is not in Python."""
    stream, enrichment = streams.get(plan.stream), plan.shipped.value.enrichment
    for runs in _runs(plan, batches):
        scored = detect_messages(stream, runs, plan.decode, Panel(), None, latest=plan.latest, enrichment=enrichment)
        yield from (
            scored.records.select(plan.rows_schema.names()).to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()
        )


def finish(plan: Plan, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What is left to do with records that `normalise` gave and Spark has scored: rules, lateness, files, a report."""
    task = _Task(plan)
    for batch in batches:
        task.take_given(batch)
    yield from task.finish()


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


class _Given:
    """Predictions of another model as a detector: 1 is suspect."""

    stream, threshold = "", 0.5

    def __init__(self, predictions: pl.Series, version: str) -> None:
        self._predictions, self.version = predictions, version

    def score(self, records: pl.DataFrame) -> npt.NDArray[np.float32]:
        return self._predictions.cast(pl.Float32).to_numpy()

    def explain(self, records: pl.DataFrame, top: int = 4) -> list[list[Driver]]:
        return [[] for _ in range(len(records))]


class _Task:
    """Detects, judges, counts and writes."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._stream, self._shipped = plan, streams.get(plan.stream), plan.shipped.value
        self._judge = Judge(plan, self._stream)
        self.report = Report()
        self._alerting: list[pl.DataFrame] = []
        self._records: list[pl.DataFrame] = []
        self._rejected: list[pl.DataFrame] = []

    def take(self, runs: Sequence[Messages]) -> None:
        """Take messages of one or more partitions, each in offset order."""
        shipped, plan = self._shipped, self._plan
        panel, rules = (Panel(), None) if plan.rejects_only else (shipped.panel, shipped.book)
        enrichment = shipped.enrichment
        scored = detect_messages(
            self._stream, runs, plan.decode, panel, rules, latest=plan.latest, enrichment=enrichment
        )
        for run in runs:
            self.report.next_offsets[run.partition] = run.next_offset
        if plan.rejects_only:
            scored = replace(scored, records=scored.records.clear())
        self._take(scored)

    def take_given(self, batch: pa.RecordBatch) -> None:
        """Take records that are scored already."""
        given = pl.from_arrow(batch)
        assert isinstance(given, pl.DataFrame)
        records = given.select(pl.col(name).cast(kind) for name, kind in self._plan.rows_schema.items())
        panel = self._shipped.panel
        champion = _Given(given["given_prediction"], panel.versions()[CHAMPION])
        scored = score_records(self._stream, records, replace(panel, champion=champion), self._shipped.book)
        score = given["given_score"].cast(pl.Float32).alias("score")
        places = dict.fromkeys(records["partition"].unique().to_list(), 0)
        whole = scored.with_columns(score)
        self._take(Scored(self._stream.name, self._plan.topic, whole, REJECTED_SCHEMA.to_frame(), places, {}))

    def _take(self, scored: Scored) -> None:
        """Judge them, and hold their rows for the file; those that may raise an alert also go to the driver."""
        late, duplicate = self._judge.judge(scored.records)
        found = judged(scored, late, duplicate, self._plan.wall)
        self._judge.count(found.on_time)
        self.report.add(Report(counts=found.counts, entities=self._entities(scored.records)))
        alerting = found.alerting(on_suspect=self._plan.options.stream.alert_on_suspect)
        if len(alerting):
            self._alerting.append(alerting)
        self._records.append(found.kept)
        if len(found.rejected):
            self._rejected.append(found.rejected)
        if sum(map(len, self._records)) >= ROWS_PER_FILE:
            self._write()

    def finish(self) -> Iterator[pa.RecordBatch]:
        """Write what is left, and tell."""
        self._write()
        if self.report.counts:
            alerting = {ALERTING: to_ipc(pl.concat(self._alerting))} if self._alerting else {}
            yield pack_told(self.report, self._judge.found() | alerting)

    def _entities(self, records: pl.DataFrame) -> dict[str, tuple[int, int]]:
        """How many records and suspects there are of each entity."""
        suspects = pl.col("prediction").cast(pl.Int64).sum()
        counted = records.group_by(self._stream.entity).agg(pl.len(), suspects)
        return {entity: (number, found) for entity, number, found in counted.iter_rows()}

    def _write(self) -> None:
        """Write what waits into files."""
        plan = self._plan
        if self._rejected:
            self._append("rejected", lake_rows(pl.concat(self._rejected), plan.site))
        records = pl.concat(self._records) if self._records else pl.DataFrame()
        if len(records):
            rows = lake_rows(records, plan.site, topic=plan.topic, epoch=plan.epoch)
            if plan.enriched is not None:
                _send(plan.enriched, self._stream, rows, plan.epoch)
            self._append(plan.stream, rows)
        self._records, self._rejected = [], []

    def _append(self, table: str, frame: pl.DataFrame) -> None:
        share = self._plan.shares.get(table)
        if share is not None:
            self.report.actions.setdefault(table, []).extend(share.write(frame, self._plan.epoch))


def _send(topic: EnrichedTopic, stream: Stream, rows: pl.DataFrame, epoch: int) -> None:
    """Send rows to the topic of enriched records, before they count: so at least once."""
    sink = topic.open({stream.name: stream})
    try:
        sink.write(stream.name, rows, epoch)
    finally:
        sink.close()
