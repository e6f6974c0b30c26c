"""Ingest: messages of one stream in, scored rows into the lake, alerts of records and accounting into the store."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from hackwatch import streams
from hackwatch.engine.enrichments import Enrichments
from hackwatch.engine.models import Deciders, system_alert
from hackwatch.lake.distributed import commit_files, share
from hackwatch.pipeline.duplicates import Duplicates
from hackwatch.pipeline.watermark import NEVER, Watermarks
from hackwatch.spark.context import Context, Query, collected
from hackwatch.spark.plan import (
    REPORTS,
    Enriched,
    Plan,
    Report,
    read_reports,
    records_schema,
    rejected_schema,
    spark_type,
    to_ipc,
)
from hackwatch.spark.scorer import Scorer, rows_schema
from hackwatch.spark.shipping import pack
from hackwatch.spark.sources import KafkaTopic, SpoolTopic, source_of
from hackwatch.spark.spool import Rounds
from hackwatch.spark.tables import delay_seconds
from hackwatch.spark.work import finish, normalise, work
from hackwatch.store.base import BatchEntry

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["Ingest"]

#: In place of the name of Spark's query where there is none.
SPOOL = "spool"
#: Epochs whose watermarks are remembered.
HISTORY = 1000


class Ingest(Query):
    """One stream from its topic into the lake, scored.

    Late is what the embedded engine calls late: behind its own partition's watermark, in offset order. Windows and
    correlation read what is on time in the order of the batches; Spark's watermark there is the greatest event time
    of all partitions minus lateness and SKEW_SECONDS. So what is older than that is late here too, and Spark drops
    nothing that the lake calls on time.
    """

    def __init__(self, context: Context, stream: str) -> None:
        super().__init__(context, stream, (stream,))
        self.stream, self.source = streams.get(stream), source_of(context.settings, stream)
        settings = context.settings
        self.models.enrichments = Enrichments(
            (stream,), settings.enrichment.tables, settings.tables_folder / f"{settings.pipeline}-{stream}", self._tell
        )
        self._rounds: Rounds | None = None
        self._options = context.settings.streams[stream]
        folder = self._options.spark_ml
        self._scorer = Scorer(context.spark, folder, self.stream) if folder is not None else None
        if self._scorer is not None:
            context.given[stream] = self._scorer.detector
        state = self.ledger.state
        self._marks = Watermarks(self._options.lateness_seconds, context.settings.engine.idle_seconds)
        self._began: float | None = state.get("began")
        self._newest: int = state.get("newest", NEVER)
        if "marks" in state:
            self._marks.restore(state["marks"])
        self._duplicates = Duplicates() if self._options.duplicates_key is not None else None
        if self._duplicates is not None and (kept := self.ledger.part("duplicates")) is not None:
            self._duplicates.restore(kept)
        #: Epoch -> the stream's watermark after it, of the last ones: what is read of the table later is judged by it.
        self.history: dict[int, int] = {int(epoch): mark for epoch, mark in state.get("history", {}).items()}
        self._shipped: tuple[dict[str, str], object] | None = None
        self._schemas = {stream: records_schema(self.stream, self._options.detectors), "rejected": rejected_schema()}

    def _tell(self, rule: str, occurrence: str, title: str, detail: str) -> None:
        self.models.report(system_alert(self.name, rule, occurrence, title, detail, self.context.clock.wall()))

    def frame(self) -> DataFrame:
        assert isinstance(self.source, KafkaTopic)
        return self.source.frame(self.context.spark)

    def start(self, *, available_now: bool) -> None:
        if isinstance(self.source, KafkaTopic):
            super().start(available_now=available_now)
            return
        rounds = Rounds(f"spool {self.name}", self._round, self.source.planner(self.name), self._trigger)
        self.running, self._rounds = rounds, rounds
        rounds.done = self._positions()
        rounds.start(available_now=available_now)

    @property
    def _trigger(self) -> float:
        return self.context.settings.spark.trigger_seconds

    def _round(self, ends: dict[int, int] | None) -> bool:
        """A batch of a spool; False if nothing is there."""
        assert isinstance(self.source, SpoolTopic)
        assert self._rounds is not None
        planner, epoch = self._rounds.planner, self.ledger.epoch + 1
        logged = self.ledger.logged(epoch)
        ranges = logged.ranges if logged else planner.next(self._positions(), ends or planner.ends())
        if not ranges:
            return False
        with self.open_gate():
            wall = self.context.clock.wall()
            self.models.refresh(wall)
            versions = self.models.logged(self.models.current(), epoch)
            entry = self.patiently("store", lambda: self.ledger.begin(epoch - 1, SPOOL, wall, versions, ranges))
            assert entry is not None
            frame = self.source.batch(self.context.spark, entry.ranges)
            self.take(frame, entry, self.deciders(entry), SPOOL)
            self._rounds.done = self._positions()
            planner.reader.commit(self._rounds.done)
        return True

    def _positions(self) -> dict[int, int]:
        return {partition: at for (_, _, partition), at in self.ledger.offsets.items()}

    @property
    def watermark(self) -> int:
        """The stream's watermark, microseconds."""
        return self._marks.watermark

    def take(self, frame: DataFrame, entry: BatchEntry, deciders: Deciders, spark_query: str) -> None:
        began = self.context.clock.monotonic()
        plan = self.patiently("lake", lambda: self._plan(entry, deciders))
        if self._duplicates is not None:
            plan = self._without_duplicates(frame, plan)
        report, alerting = self.patiently("tasks of Spark", lambda: self._run(frame, plan))
        for table, actions in sorted(report.actions.items()):
            commit = partial(
                commit_files, self.lake, table, self._schemas[table], actions, entry.epoch, self.ledger.application
            )
            self.patiently(f"lake table {table}", commit)
        self._advance(entry, report)
        alerts = self.policy.records(
            self.stream, plan.topic, alerting, deciders.champions, entry.wall, on_suspect=self._options.alert_on_suspect
        )
        updates = self.policy.take_updates()
        self.policy.evict(self.watermark)
        if self._duplicates is not None:
            self._duplicates.evict(self.watermark)
        self.patiently("store", lambda: self.ledger.tell(alerts, updates))
        counts = {(self.name, plan.topic, number): found for number, found in report.counts.items()}
        self.patiently(
            "store",
            lambda: self.ledger.commit(
                entry,
                spark_query,
                self._state(),
                self.context.clock.wall(),
                offsets={(self.name, plan.topic, number): at for number, at in report.next_offsets.items()},
                counts=counts,
                parts={} if self._duplicates is None else {"duplicates": to_ipc(self._duplicates.snapshot())},
            ),
        )
        self.models.committed(entry.epoch)
        self.context.board.ingested(self.name, report, alerts, deciders.champions[self.name], self.watermark, began)

    def _without_duplicates(self, frame: DataFrame, plan: Plan) -> Plan:
        """A pass over the keys alone first: which records repeat others is known only from all tasks together."""
        assert self._duplicates is not None
        _, named = self._run(frame, replace(plan, keys_only=True))
        times, late = named["event_time"].to_numpy(), named["late"].to_numpy()
        repeated = self._duplicates.step(named["key"], times, late)
        places = named.filter(pl.Series(repeated)).select("partition", "offset", "index")
        return replace(plan, duplicates=to_ipc(places))

    def _advance(self, entry: BatchEntry, report: Report) -> None:
        """Move the watermarks by what the batch held. Times are those of the ledger: a repeated batch does the same."""
        elapsed = self._elapsed(entry)
        for number in report.counts:
            newest = report.newest.get(number)
            self._marks.observe(number, np.array([] if newest is None else [newest], dtype=np.int64), elapsed)
        self._newest = max([self._newest, *report.newest.values()])
        self.history[entry.epoch] = self._marks.advance(elapsed)
        for epoch in [epoch for epoch in self.history if epoch <= entry.epoch - HISTORY]:
            del self.history[epoch]

    def _elapsed(self, entry: BatchEntry) -> float:
        self._began = entry.wall if self._began is None else self._began
        return max(0.0, entry.wall - self._began)

    def _state(self) -> dict[str, Any]:
        return {
            "newest": self._newest,
            "began": self._began,
            "marks": self._marks.snapshot(),
            "history": {str(epoch): mark for epoch, mark in self.history.items()},
            "policy": self.policy.snapshot(),
        }

    def _run(self, frame: DataFrame, plan: Plan) -> tuple[Report, pl.DataFrame]:
        prepared = self.source.prepared(frame)
        if self._scorer is not None and not plan.keys_only:
            return self._run_given(prepared, plan, self._scorer)
        return read_reports(collected(prepared.mapInArrow(partial(work, plan), REPORTS)), plan)

    def _run_given(self, prepared: DataFrame, plan: Plan, scorer: Scorer) -> tuple[Report, pl.DataFrame]:
        """Two passes: what is rejected is written without Spark's model, then it scores the records."""
        report, _ = read_reports(
            collected(prepared.mapInArrow(partial(work, replace(plan, rejects_only=True)), REPORTS)), plan
        )
        columns = ", ".join(f"`{name}` {spark_type(kind)}" for name, kind in rows_schema(self.stream).items())
        scored = scorer.scored(prepared.mapInArrow(partial(normalise, plan), columns))
        found, alerting = read_reports(collected(scored.mapInArrow(partial(finish, plan), REPORTS)), plan)
        report.add(found)
        return report, alerting

    def _plan(self, entry: BatchEntry, deciders: Deciders) -> Plan:
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
            lateness_seconds=options.lateness_seconds,
            marks=self._marks.snapshot(),
            floor=NEVER if self._newest == NEVER else self._newest - round(delay_seconds(options) * 1e6),
            decode=self.source.decode,
            roles=deciders.panels[self.name].roles,
            on_suspect=options.alert_on_suspect,
            shares=shares,
            shipped=self._ship(deciders),  # type: ignore[arg-type]  # a broadcast variable
            spool=self.source.spool,
            enriched=self._enriched(),
        )

    def _enriched(self) -> Enriched | None:
        settings = self.context.settings
        url, streams_read = settings.kafka.enriched, settings.streams.values()
        return None if url is None else Enriched(url, settings.kafka, max(one.partitions for one in streams_read))

    def _ship(self, deciders: Deciders) -> object:
        """Models, tables and rules on all workers; sent again when a model or a table is another one."""
        panel, versions = deciders.panels[self.name], deciders.versions()
        if self._shipped is None or self._shipped[0] != versions:
            rules = tuple(rule for rule in self.context.rules if rule.stream == self.name)
            shipped = pack(self.name, panel, deciders.enrichments[self.name].tables, rules)
            self._shipped = versions, self.context.spark.sparkContext.broadcast(shipped)
        return self._shipped[1]
