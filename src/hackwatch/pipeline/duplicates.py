"""Records that were sent twice: the same key of the same source again within the lateness."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["Duplicates"]

_SCHEMA = pl.Schema({"source": pl.String(), "key": pl.String(), "event_time": pl.Int64()})
#: Keys that are kept beyond those needed, before they are looked through.
SLACK = 10_000

Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Duplicates:
    """Remembers the keys of on-time records until their source's watermark has passed their event time.

    Whether a key is still remembered is judged by the watermark before each record, so it does not depend on the cut
    into batches. A key belongs to its source: nobody can claim another's. A null key is never a duplicate.
    """

    def __init__(self) -> None:
        self._seen = pl.DataFrame(schema=_SCHEMA)
        self._needed = 0

    def __len__(self) -> int:
        return len(self._seen)

    def step(self, keys: pl.Series, sources: pl.Series, event_time: Times, watermarks: Times, late: Mask) -> Mask:
        """True where an on-time record repeats a key; first come, first kept.

        `watermarks`: of each record's source in its partition, before the record.
        """
        rows = pl.DataFrame(
            {"source": sources.fill_null(""), "key": keys, "event_time": event_time, "watermark": watermarks}
        ).with_row_index("row")
        rows = rows.filter(pl.Series(~late) & pl.col("key").is_not_null())
        known = self._seen.unique(["source", "key"], keep="last", maintain_order=True)
        rows = rows.join(known, on=["source", "key"], how="left", suffix="_seen", maintain_order="left")
        rows = self._from_before(rows)
        again = rows.filter(pl.col("event_time_seen").is_not_null() | pl.struct("source", "key").is_duplicated())
        duplicate = np.zeros(len(event_time), np.bool_)
        duplicate[_repeats(again)] = True
        kept = rows.filter(~pl.Series(duplicate)[rows["row"]])
        self._seen = pl.concat([self._seen, kept.select(_SCHEMA.names())])
        return duplicate

    def _from_before(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Keys of a version that did not keep their sources count for every source."""
        old = self._seen.filter(pl.col("source").is_null())
        if old.is_empty():
            return rows
        old = old.unique("key", keep="last").select("key", pl.col("event_time").alias("old"))
        joined = rows.join(old, on="key", how="left", maintain_order="left")
        return joined.with_columns(pl.coalesce("event_time_seen", "old").alias("event_time_seen")).drop("old")

    def evict(self, marks: Callable[[Sequence[str]], Sequence[int]]) -> None:
        """Forget what is needed no more. `marks`: the watermarks of sources, microseconds."""
        if len(self._seen) < 2 * self._needed + SLACK:
            return
        names = self._seen["source"].drop_nulls().unique().to_list()
        found = list(marks(names))
        schema = {"source": pl.String(), "mark": pl.Int64()}
        passed = pl.DataFrame({"source": [*names, None], "mark": [*found, max(found, default=0)]}, schema)
        joined = self._seen.join(passed, on="source", how="left", nulls_equal=True, maintain_order="left")
        self._seen = joined.filter(pl.col("event_time") >= pl.col("mark")).select(_SCHEMA.names())
        self._needed = len(self._seen)

    def snapshot(self) -> pl.DataFrame:
        """What is remembered, as a frame of its own that another thread may write (see Correlator.snapshot)."""
        return self._seen.clone()

    def restore(self, snapshot: bytes) -> None:
        frame = pl.read_ipc_stream(io.BytesIO(snapshot))
        if "source" not in frame.columns:
            frame = frame.with_columns(pl.lit(None, pl.String()).alias("source"))
        self._seen = frame.select(_SCHEMA.names())


def _repeats(rows: pl.DataFrame) -> list[int]:
    """The rows that repeat a key that is still remembered, one after the other: there are few of them."""
    remembered: dict[tuple[Any, Any], int] = {}
    found = []
    columns = ("row", "source", "key", "event_time", "watermark", "event_time_seen")
    for row, source, key, time, watermark, seen in rows.select(columns).iter_rows():
        before = remembered.setdefault((source, key), -(2**62) if seen is None else seen)
        if before >= watermark and before > -(2**62):
            found.append(row)
        else:
            remembered[(source, key)] = time
    return found
