"""Windows: Spark's own watermark and `window` over the rows that ingest has written, into the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from hackwatch import streams
from hackwatch.engine.models import Deciders
from hackwatch.pipeline.watermark import NEVER
from hackwatch.pipeline.windows import FinalWindow
from hackwatch.spark.context import Context, Query, as_frame, collected
from hackwatch.spark.ledger import Window
from hackwatch.spark.tables import delay_seconds, rows_of
from hackwatch.store.base import BatchEntry

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["Windows"]

#: Logarithm of the size of the sketches that count: a relative standard deviation of 0.8 %, and small counts exact.
#: (approx_count_distinct would do, but keeps its 1,639 words as columns, which takes seconds to plan and compile.)
SKETCH = 14


class Windows(Query):
    """The windows of one stream. Batches bring absolute values of the windows that have changed.

    A window is final once the stream's watermark has passed its end in an ingest batch that was read whole.
    """

    stateful = True

    def __init__(self, context: Context, stream: str, start: int, history: Mapping[int, int]) -> None:
        """`start`: the version of the stream's table from which on its rows are counted; `history`: see Ingest."""
        super().__init__(context, f"windows-{stream}", (stream,))
        self._history = history
        self.stream, self._start = streams.get(stream), start
        self._options = context.settings.streams[stream]
        self._read: int = self.ledger.state.get("read", 0)
        self._watermark: int = self.ledger.state.get("watermark", NEVER)
        #: (entity, start) -> [records, suspects, count] of windows that are not final.
        self._open: dict[tuple[str, int], list[int]] = {
            (entity, begin): values for entity, begin, *values in self.ledger.state.get("open", [])
        }

    @property
    def mode(self) -> str:
        return "update"

    def frame(self) -> DataFrame:
        from pyspark.sql import functions as F

        options, stream = self._options, self.stream
        suspect = F.col("prediction") == 1
        length = f"{options.window_seconds} seconds"
        return (
            rows_of(self.context, stream.name, self._start)
            .select(stream.entity, stream.identity, "event_time", "prediction", "epoch")
            .withWatermark("event_time", f"{round(delay_seconds(options) * 1000)} milliseconds")
            .groupBy(F.window("event_time", length), stream.entity)
            .agg(
                F.count("*").alias("records"),
                F.sum(F.col("prediction").cast("long")).alias("suspects"),
                F.hll_sketch_agg(F.when(suspect, F.col(stream.identity)), F.lit(SKETCH)).alias("sketch"),
                F.max("epoch").alias("epoch"),
            )
            .select(
                F.col(stream.entity).alias("entity"),
                F.unix_timestamp("window.start").alias("start"),
                "records",
                "suspects",
                F.coalesce(F.hll_sketch_estimate("sketch"), F.lit(0)).alias("count"),
                "epoch",
            )
        )

    def take(self, frame: DataFrame, entry: BatchEntry, deciders: Deciders, spark_query: str) -> None:
        changed = self._add(as_frame(collected(frame)))
        closed = self._close()
        rows = [self._row(key, values, final=False) for key, values in changed.items() if key in self._open]
        rows += [self._final_row(window) for window in closed]
        alerts = self.policy.windows(self.stream, closed, entry.wall)
        updates = self.policy.take_updates()
        self.policy.evict(self._watermark)
        self.patiently("store", lambda: self.ledger.tell(alerts, updates))
        self.patiently(
            "store",
            lambda: self.ledger.commit(entry, spark_query, self._state(), self.context.clock.wall(), windows=rows),
        )
        self.context.board.raised(alerts)

    def _add(self, rows: pl.DataFrame) -> dict[tuple[str, int], list[int]]:
        """Take the new values; the windows that have changed."""
        changed = {}
        columns = ("entity", "start", "records", "suspects", "count", "epoch")
        for entity, begin, records, suspects, count, epoch in rows.select(columns).iter_rows():
            changed[(entity, begin)] = self._open[(entity, begin)] = [records, suspects, count]
            self._read = max(self._read, epoch)
        return changed

    def _close(self) -> list[FinalWindow]:
        """The windows that no record on time can change any more, in order of start and entity."""
        # The last epoch may be read in parts; those before it were read whole.
        known = [epoch for epoch in tuple(self._history) if epoch < self._read]
        if known:
            self._watermark = max(self._watermark, self._history.get(max(known), NEVER))
        length = self._options.window_seconds
        due = sorted((begin, entity) for entity, begin in self._open if (begin + length) * 1_000_000 <= self._watermark)
        return [FinalWindow(entity, begin, begin + length, *self._open.pop((entity, begin))) for begin, entity in due]

    def _row(self, key: tuple[str, int], values: list[int], *, final: bool) -> Window:
        (entity, begin), (records, suspects, count) = key, values
        return (self.stream.name, entity, begin, begin + self._options.window_seconds, records, suspects, count, final)

    def _final_row(self, window: FinalWindow) -> Window:
        values = [window.records, window.suspects, window.count]
        return self._row((window.entity, window.start), values, final=True)

    def _state(self) -> dict[str, Any]:
        return {
            "read": self._read,
            "watermark": self._watermark,
            "open": [[entity, begin, *values] for (entity, begin), values in self._open.items()],
            "policy": self.policy.snapshot(),
        }
