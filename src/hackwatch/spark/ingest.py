"""Ingest: messages of one stream in, scored rows into the lake, alerts of records and accounting into the store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hackwatch import streams
from hackwatch.lake.distributed import commit_files, share
from hackwatch.pipeline.watermark import NEVER
from hackwatch.spark.context import Context, Detectors, Query, collected
from hackwatch.spark.shipping import pack
from hackwatch.spark.sources import source_of
from hackwatch.spark.work import REPORTS, Plan, Report, read_reports, records_schema, rejected_schema, work
from hackwatch.store.base import BatchEntry

if TYPE_CHECKING:
    import polars as pl
    from pyspark.sql import DataFrame

__all__ = ["Ingest"]


class Ingest(Query):
    """One stream from its topic into the lake, scored.

    A record is late if its event time lies more than the lateness behind the greatest one of all earlier batches,
    over all partitions. Both the windows and the correlation read what is on time in the order of the batches, so
    their own watermarks are never ahead of this one, and Spark drops nothing that the lake calls on time.
    """

    def __init__(self, context: Context, stream: str) -> None:
        super().__init__(context, stream, (stream,))
        self.stream, self.source = streams.get(stream), source_of(context.settings, stream)
        self._options = context.settings.streams[stream]
        self._newest: int = self.ledger.state.get("newest", NEVER)
        self._shipped: tuple[str | None, object] | None = None
        self._schemas = {stream: records_schema(self.stream), "rejected": rejected_schema()}

    def frame(self) -> DataFrame:
        return self.source.frame(self.context.spark)

    @property
    def watermark(self) -> int:
        """Event time that is late when it is before this, microseconds."""
        return NEVER if self._newest == NEVER else self._newest - round(self._options.lateness_seconds * 1e6)

    def take(self, frame: DataFrame, entry: BatchEntry, detectors: Detectors, spark_query: str) -> None:
        began = self.context.clock.monotonic()
        plan = self._plan(entry, detectors)
        done: list[tuple[Report, pl.DataFrame]] = []
        self.patiently("tasks of Spark", lambda: done.append(self._run(frame, plan)))
        report, alerting = done[-1]
        for table, actions in sorted(report.actions.items()):
            commit = partial(
                commit_files, self.lake, table, self._schemas[table], actions, entry.epoch, self.ledger.application
            )
            self.patiently(f"lake table {table}", commit)
        self._newest = max(self._newest, report.newest)
        alerts = self.policy.records(
            self.stream, plan.topic, alerting, detectors, entry.wall, on_suspect=self._options.alert_on_suspect
        )
        updates = self.policy.take_updates()
        self.policy.evict(self.watermark)
        self.patiently("store", lambda: self.ledger.tell(alerts, updates))
        counts = {(self.name, plan.topic, number): found for number, found in report.counts.items()}
        self.patiently(
            "store",
            lambda: self.ledger.commit(
                entry,
                spark_query,
                {"newest": self._newest, "policy": self.policy.snapshot()},
                self.context.clock.wall(),
                offsets={(self.name, plan.topic, number): at for number, at in report.next_offsets.items()},
                counts=counts,
            ),
        )
        self.context.board.ingested(self.name, report, alerts, detectors[self.name], self.watermark, began)

    def _run(self, frame: DataFrame, plan: Plan) -> tuple[Report, pl.DataFrame]:
        prepared = self.source.prepared(frame)
        return read_reports(collected(prepared.mapInArrow(partial(work, plan), REPORTS)), plan)

    def _plan(self, entry: BatchEntry, detectors: Detectors) -> Plan:
        application, options = self.ledger.application, self._options
        shares = {
            table: share(self.lake, table, schema)
            for table, schema in self._schemas.items()
            if (self.lake.last_epoch(table, application) or 0) < entry.epoch
        }
        return Plan(
            stream=self.name,
            topic=self.source.topic,
            site=self.context.settings.site,
            epoch=entry.epoch,
            wall=entry.wall,
            latest=entry.wall + options.future_seconds,
            late_before=self.watermark,
            decode=self.source.decode,
            on_suspect=options.alert_on_suspect,
            shares=shares,
            shipped=self._ship(detectors),  # type: ignore[arg-type]  # a broadcast variable
            spool=self.source.spool,
        )

    def _ship(self, detectors: Detectors) -> object:
        """The model and the rules on all workers; sent again when the model is another one."""
        detector = detectors[self.name]
        version = detector.version if detector else None
        if self._shipped is None or self._shipped[0] != version:
            rules = tuple(rule for rule in self.context.rules if rule.stream == self.name)
            self._shipped = version, self.context.spark.sparkContext.broadcast(pack(detector, rules))
        return self._shipped[1]
