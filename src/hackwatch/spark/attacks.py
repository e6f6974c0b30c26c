"""Attacks: Spark's stream-stream join of the suspects that ingest has written, into lake and store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from hackwatch import streams
from hackwatch.engine.models import Deciders
from hackwatch.pipeline.correlation import attack_schema
from hackwatch.pipeline.detection import SCORED
from hackwatch.pipeline.options import CorrelationOptions
from hackwatch.pipeline.watermark import NEVER
from hackwatch.spark.context import Context, Query, as_frame, collected
from hackwatch.spark.sources import source_of
from hackwatch.spark.tables import delay_seconds, rows_of
from hackwatch.store.base import BatchEntry
from hackwatch.streams.base import POSITION, Stream

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

__all__ = ["Attacks"]


class Attacks(Query):
    """The correlation: pairs of suspects of two streams. Its state is bounded by the watermarks of both."""

    stateful = True

    def __init__(self, context: Context, starts: dict[str, int]) -> None:
        """`starts`: by stream, the version of its table from which on its rows are correlated."""
        self._correlation = CorrelationOptions(seconds=context.settings.correlation.seconds or 30.0)
        left, right = self._correlation.left, self._correlation.right
        super().__init__(context, "attacks", (left, right))
        self.left, self.right, self._starts = streams.get(left), streams.get(right), starts
        self._topics = {name: source_of(context.settings, name).topic for name in (left, right)}
        carried = pl.Schema({**POSITION, **SCORED})
        self.schema = attack_schema(self.left, self.right, self._correlation.keys, carried)
        self._newest: int = self.ledger.state.get("newest", NEVER)

    def frame(self) -> DataFrame:
        from pyspark.sql import functions as F

        left, right = self._suspects(self.left), self._suspects(self.right)
        times = F.col(f"{self.left.name}_event_time"), F.col(f"{self.right.name}_event_time")
        reach = F.expr(f"INTERVAL '{self._correlation.seconds:.6f}' SECOND")
        close = (times[1] > times[0] - reach) & (times[1] < times[0] + reach)
        same = [left[key] == right[f"{self.right.name}_{key}"] for key in self._correlation.keys]
        condition = close
        for one in same:
            condition = condition & one
        return left.join(right, condition, "inner").select(*self.schema.names())

    def _suspects(self, stream: Stream) -> DataFrame:
        """One side's suspects; its watermark is that of all its rows.

        Spark moves a filter below the watermark if it does not look at the event time; then the watermark would only
        see suspects, and hardly ever move. So this filter looks at it.
        """
        from pyspark.sql import functions as F

        names = [*stream.schema, *POSITION, *SCORED]
        keys = self._correlation.keys if stream is self.left else ()
        delay = delay_seconds(self.context.settings.streams[stream.name])
        columns: list[Column] = [F.col(name).alias(name if name in keys else f"{stream.name}_{name}") for name in names]
        time, prediction = f"{stream.name}_event_time", F.col(f"{stream.name}_prediction")
        suspect = F.when(F.col(time).isNull(), F.lit(False)).otherwise(prediction == 1)
        rows = rows_of(self.context, stream.name, self._starts[stream.name]).select(*columns)
        return rows.withWatermark(time, f"{round(delay * 1000)} milliseconds").where(suspect)

    def take(self, frame: DataFrame, entry: BatchEntry, deciders: Deciders, spark_query: str) -> None:
        pairs = self._ordered(as_frame(collected(frame)))
        moment = pl.lit(round(entry.wall * 1e6)).cast(pl.Datetime("us", "UTC"))
        if len(pairs):
            rows = pairs.with_columns(
                moment.alias("processing_time"),
                moment.dt.date().alias("date"),
                pl.lit(self.context.settings.site).alias("site"),
            )
            self.patiently(
                "lake table attacks",
                lambda: self.lake.append("attacks", rows, entry.epoch, self.ledger.application),
            )
        alerts = self.policy.attacks(self.left, self.right, self._topics, pairs, deciders.champions, entry.wall)
        updates = self.policy.take_updates()
        if self._newest != NEVER:
            delay = max(delay_seconds(self.context.settings.streams[s.name]) for s in (self.left, self.right))
            self.policy.evict(self._newest - round((delay + self._correlation.seconds) * 1e6))
        state = {"newest": self._newest, "policy": self.policy.snapshot()}
        self.patiently("store", lambda: self.ledger.tell(alerts, updates))
        self.patiently("store", lambda: self.ledger.commit(entry, spark_query, state, self.context.clock.wall()))
        self.context.board.raised(alerts)

    def _ordered(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """The pairs with the types of the lake, in an order that a repeated batch has too."""
        typed = pairs.select(pl.col(name).cast(kind) for name, kind in self.schema.items())
        places = [f"{s.name}_{name}" for s in (self.left, self.right) for name in POSITION]
        ordered = typed.sort(places)
        if len(ordered):
            times = [ordered[f"{s.name}_event_time"].to_physical().max() for s in (self.left, self.right)]
            self._newest = max(self._newest, *(int(time) for time in times if isinstance(time, int)))
        return ordered
