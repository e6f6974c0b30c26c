"""Ingest: messages of one stream in, scored rows into the lake, aggregates and alerts into the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from hackwatch import streams
from hackwatch.alerts.observed import Records
from hackwatch.config import Settings
from hackwatch.counts import Counts
from hackwatch.lake.distributed import commit_files, share
from hackwatch.pipeline.core import TICK_SECONDS, Now, changes_of, serialise
from hackwatch.pipeline.judged import records_schema, rejected_schema
from hackwatch.pipeline.options import StreamOptions
from hackwatch.pipeline.streamstate import StreamState
from hackwatch.runtime.detectors import Deciders
from hackwatch.runtime.options import enriched_topic, stream_options
from hackwatch.spark.context import Context, SparkQuery, collected
from hackwatch.spark.judging import known, merged
from hackwatch.spark.partitionfiles import PartitionFiles
from hackwatch.spark.plan import (
    REPORTS,
    Plan,
    Report,
    Told,
    nothing_told,
    read_told,
    spark_type,
)
from hackwatch.spark.querycheckpoint import QueryCheckpoint
from hackwatch.spark.rounds import Rounds
from hackwatch.spark.scorer import Scorer
from hackwatch.spark.shipping import pack
from hackwatch.spark.sources import KafkaTopic, SpoolTopic, source_of
from hackwatch.spark.suspects import EpochSuspects, Suspects
from hackwatch.spark.upgrade import Before, is_of_before, keys_before, take_up_stream
from hackwatch.spark.work import finish, normalise, work
from hackwatch.store.commits import BatchEntry

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from hackwatch.spark.spool import Offsets, Planner, Waiting

__all__ = ["Ingest", "spark_options"]

#: How often it is looked whether Spark waits for messages, seconds.
LOOK_SECONDS = 0.5
_FRAMES = "stream."
#: Sources of a stream with a clock of their own, unless the settings say how many.
MAX_SOURCES = 2_000_000


class Ingest(SparkQuery):
    """One stream from its topic into the lake, scored.

    The tasks judge, count and write the records of their partitions; here, all that they tell is merged into the state
    of the stream, which is that of the embedded engine: clocks, aggregates, alerts. The suspects of each epoch are left
    for the correlations.
    """

    def __init__(
        self, context: Context, stream: str, suspects: Suspects, files: PartitionFiles, correlations: Sequence[str]
    ) -> None:
        """`suspects`: where those go that one of the `correlations` takes. `files`: for clocks and keys."""
        super().__init__(context, stream, (stream,), context.enrichments(stream))
        settings = context.settings
        self.stream, self.source = streams.get(stream), source_of(settings, stream)
        self.suspects, self.files = suspects, files
        known = self.checkpoint.state.get("since", {})
        #: By correlation: the last epoch whose suspects were not kept for it.
        self.since: dict[str, int] = {name: known.get(name, self.checkpoint.epoch) for name in correlations}
        self._options = spark_options(settings, stream)
        folder = settings.streams[stream].spark_ml
        keyed = self._options.stream.duplicates_key is not None
        self._scorer = Scorer(context.spark, folder, self.stream, keyed=keyed) if folder is not None else None
        if self._scorer is not None:
            context.given[stream] = self._scorer.detector
        self.state = StreamState(self.stream, self._options, settings.alerts)
        self.state.topic = self.source.topic
        #: What version 0.1 has left, if it was the last one that ran.
        self.before: Before | None = None
        if is_of_before(self.checkpoint):
            self.before = Before.of(self.stream, self.source.topic, settings.site, self.checkpoint)
        self._restore()
        self._shipped: tuple[dict[str, str], object] | None = None
        columns = records_schema(self.stream, settings.streams[stream].detectors)
        self._schemas = {stream: columns, "rejected": rejected_schema()}
        #: Whether all has been read that was there when it was last looked.
        self.caught_up = False
        self._ticks: Rounds | None = None

    def _restore(self) -> None:
        kept, parts = self.checkpoint.state, self.checkpoint.parts
        if "stream" in kept:
            frames = {name.removeprefix(_FRAMES): part for name, part in parts.items() if name.startswith(_FRAMES)}
            self.state.restore(kept["stream"], frames, ())
        elif self.before is not None:
            windows = QueryCheckpoint(self.context.checkpoints, self.context.settings.pipeline, f"windows-{self.name}")
            take_up_stream(self.before, self.state, self.policy, self.checkpoint, windows, self.lake)
        if "files" in kept:
            self.files.restore(kept["files"], self.state.clocks, kept["stream"]["clocks"])
        else:
            keys = keys_before(parts, self._positions())
            self.files.begin(self.state.clocks, keys, self.checkpoint.epoch)

    @property
    def committed(self) -> int:
        """The last epoch that is done."""
        return self.checkpoint.epoch

    @property
    def topic(self) -> str:
        return self.source.topic

    @property
    def totals(self) -> Counts:
        """Where the records of all partitions went since the pipeline began."""
        whole = Counts()
        for counts in self.checkpoint.totals.values():
            whole.add(counts)
        return whole

    # -- how batches come ----------------------------------------------------------------------------------------

    def frame(self) -> DataFrame:
        assert isinstance(self.source, KafkaTopic)
        return self.source.frame(self.context.spark)

    def start(self, *, available_now: bool) -> None:
        if isinstance(self.source, SpoolTopic):
            self._start_rounds(self.source.planner(self.name), available_now=available_now)
            return
        if self.checkpoint.tick_logged():
            with self.open_gate():
                self._tick(self.now())
        super().start(available_now=available_now)
        if not available_now:
            self._ticks = Rounds(f"ticks of {self.name}", self._look, LOOK_SECONDS)
            self._ticks.start(available_now=False)

    def failure(self) -> Exception | None:
        return super().failure() or (self._ticks.exception() if self._ticks is not None else None)

    def stop(self, timeout: float) -> None:
        super().stop(timeout)
        if self._ticks is not None:
            self._ticks.stop()

    def _start_rounds(self, planner: Planner, *, available_now: bool) -> None:
        ends = planner.ends() if available_now else None
        self.running = Rounds(
            f"spool {self.name}",
            lambda: self._round(planner, ends),
            self.context.settings.spark.trigger_seconds,
            progress=lambda: _progress(planner.ends(), self._positions()),
            close=planner.reader.close,
        )
        self.running.start(available_now=available_now)

    def _round(self, planner: Planner, ends: Offsets | None) -> bool:
        """A batch of a spool; False if nothing is there."""
        assert isinstance(self.source, SpoolTopic)
        now = self.now()
        if self.checkpoint.tick_logged():
            with self.open_gate():
                self._tick(now)
            return True
        logged = self.checkpoint.logged(self.checkpoint.epoch + 1)
        if logged is not None:
            ranges, waiting = logged.ranges, logged.waiting
        else:
            ranges, waiting = planner.next(self._positions(), ends or planner.ends())
        if not ranges:
            self.caught_up = True
            return ends is None and self._tick_if_due(now)
        with self.open_gate():
            versions = self.versions()
            begin = partial(self.checkpoint.begin, None, self.checkpoint.spark_query, now, versions, ranges, waiting)
            entry = self.patiently("store", begin)
            assert entry is not None
            self.take(self.source.batch(self.context.spark, entry.ranges), entry, self.deciders(entry))
            planner.reader.commit(self._positions())
        return True

    def _positions(self) -> dict[int, int]:
        return {partition: at for (_, _, partition), at in self.checkpoint.offsets.items()}

    # -- time without messages -----------------------------------------------------------------------------------

    def _look(self) -> bool:
        """Let time pass while Spark waits for messages of Kafka: it has read what was there, no batch is at work."""
        assert self.running is not None
        assert not isinstance(self.running, Rounds)
        told = self.running.status
        if told["isTriggerActive"] or not str(told["message"]).startswith("Waiting for") or self._gate.locked():
            return False
        self.caught_up = self.caught_up or not told["isDataAvailable"]
        return self._tick_if_due(self.now())

    def _tick_if_due(self, now: Now) -> bool:
        """A batch without messages, if sources are idle and state waits for them."""
        if now.elapsed - self.checkpoint.elapsed < TICK_SECONDS or not self.state.waits(now.elapsed):
            return False
        with self.open_gate():
            if self.checkpoint.logged(self.checkpoint.epoch + 1) is None:
                self._tick(now)
        return True

    def _tick(self, now: Now) -> None:
        versions = self.versions()
        entry = self.patiently("store", lambda: self.checkpoint.tick(self.name, now, versions))
        self._commit(entry, nothing_told(self.stream), self.deciders(entry), self.context.clock.monotonic())

    # -- a batch --------------------------------------------------------------------------------------------------

    def take(self, frame: DataFrame, entry: BatchEntry, deciders: Deciders) -> None:
        began = self.context.clock.monotonic()
        plan = self.patiently("lake", lambda: self._plan(entry, deciders))
        told = self.patiently("tasks of Spark", lambda: self._run(frame, plan))
        for table, actions in sorted(told.report.actions.items()):
            commit = partial(
                commit_files, self.lake, table, self._schemas[table], actions, entry.epoch, self.checkpoint.application
            )
            self.patiently(f"lake table {table}", commit)
        self._commit(entry, told, deciders, began)

    def _commit(self, entry: BatchEntry, told: Told, deciders: Deciders, began: float) -> None:
        """Merge what the tasks have told into the state, and make all of it durable."""
        state, topic, waiting = self.state, self.source.topic, self._waiting(entry, told.report)
        marks = merged(state, told, entry.elapsed, [partition for _, partition in waiting])
        alerts = self.policy.records(
            Records(self.stream, topic, told.alerting),
            deciders.champions,
            entry.wall,
            on_suspect=self._options.stream.alert_on_suspect,
        )
        alerts += state.close(marks, self.policy, entry.wall)
        updates = self.policy.take_updates()
        self.policy.evict(lambda _, entity: state.mark(entity))
        if self.since:
            left = EpochSuspects.of(told.suspects, marks, state.clocks.slowest(), state.clocks.typical())
            self.patiently("checkpoint folder", partial(self.suspects.write, entry.epoch, left))
        self.patiently("store", lambda: self.checkpoint.tell(alerts, updates))
        files = self.files.take(state.clocks, told.arrivals, told.keys, entry.epoch)
        self.patiently("checkpoint folder", partial(self.files.folder.write, files))
        changed = changes_of(state)
        small, frames = state.snapshot(clocks=False)
        parts = serialise({f"{_FRAMES}{name}": frame for name, frame in frames.items()})
        commit = partial(
            self.checkpoint.commit,
            entry,
            {
                "stream": small,
                "policy": self.policy.snapshot(),
                "since": self.since,
                "files": self.files.snapshot(),
            },
            self.context.clock.wall(),
            changed=changed,
            offsets={(self.name, topic, number): at for number, at in told.report.next_offsets.items()},
            counts={(self.name, topic, number): found for number, found in told.report.counts.items()},
            parts=parts,
        )
        self.patiently("store", commit)
        self.patiently("checkpoint folder", self.files.drop)
        self.caught_up = not waiting
        self.models.committed(entry.epoch)
        champion = deciders.champions[self.name]
        self.context.observer.ingested(self.name, told.report, self.totals, alerts, champion, state, began)

    def _waiting(self, entry: BatchEntry, report: Report) -> Waiting:
        """The partitions that have more messages; of Kafka all, once a batch is as large as it may be."""
        if isinstance(self.source, SpoolTopic):
            return entry.waiting
        before = self._positions()
        taken = {
            number: at - before.get(number, at - report.counts[number].messages)
            for number, at in report.next_offsets.items()
        }
        full = sum(taken.values()) + len(taken) >= self.context.settings.spark.max_messages
        return tuple((self.name, number) for number in taken) if full and taken else ()

    # -- what tasks are told ---------------------------------------------------------------------------------------

    def _run(self, frame: DataFrame, plan: Plan) -> Told:
        prepared = self.source.prepared(frame)
        if self._scorer is not None:
            return self._run_given(prepared, plan, self._scorer)
        return read_told(collected(prepared.mapInArrow(partial(work, plan), REPORTS)), plan)

    def _run_given(self, prepared: DataFrame, plan: Plan, scorer: Scorer) -> Told:
        """Two passes: what is rejected is written without Spark's model, then it scores the records."""
        first = collected(prepared.mapInArrow(partial(work, replace(plan, rejects_only=True)), REPORTS))
        columns = ", ".join(f"`{name}` {spark_type(kind)}" for name, kind in plan.rows_schema.items())
        scored = scorer.scored(prepared.mapInArrow(partial(normalise, plan), columns))
        second = collected(scored.mapInArrow(partial(finish, plan), REPORTS))
        return read_told(second, plan).reported(read_told(first, plan).report)

    def _plan(self, entry: BatchEntry, deciders: Deciders) -> Plan:
        application, settings = self.checkpoint.application, self.context.settings
        shares = {
            table: share(self.lake, table, schema)
            for table, schema in self._schemas.items()
            if (self.lake.last_epoch(table, application) or 0) < entry.epoch
        }
        return Plan(
            stream=self.name,
            topic=self.source.topic,
            site=settings.site,
            epoch=entry.epoch,
            wall=entry.wall,
            elapsed=entry.elapsed,
            latest=entry.wall + settings.streams[self.name].future_seconds,
            options=self._options,
            decode=self.source.decode,
            known=known(self.state, self.files),
            shares=shares,
            shipped=self._ship(deciders),  # type: ignore[arg-type]  # a broadcast variable
            suspects=bool(self.since),
            roles=deciders.panels[self.name].roles,
            spool=self.source.spool,
            enriched=enriched_topic(settings),
        )

    def _ship(self, deciders: Deciders) -> object:
        """Models, tables and rules on all workers; sent again when a model or a table is another one."""
        panel, versions = deciders.panels[self.name], deciders.versions()
        if self._shipped is None or self._shipped[0] != versions:
            rules = tuple(rule for rule in self.context.rules if rule.stream == self.name)
            shipped = pack(self.name, panel, deciders.enrichments[self.name].tables, rules)
            self._shipped = versions, self.context.spark.sparkContext.broadcast(shipped)
        return self._shipped[1]


def spark_options(settings: Settings, stream: str) -> StreamOptions:
    """How a stream is read in event time here: with clocks for more sources than the embedded engine has."""
    options = stream_options(settings, stream)
    most = settings.engine.max_sources or MAX_SOURCES
    return replace(options, engine=options.engine.model_copy(update={"max_sources": most}))


def _progress(ends: Offsets, done: Mapping[int, int]) -> dict[str, object]:
    """What Spark would say of a source."""
    latest = {str(number): end for number, end in ends.items()}
    return {"sources": [{"endOffset": {name: done.get(int(name), 0) for name in latest}, "latestOffset": latest}]}
