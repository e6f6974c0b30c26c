"""What becomes of the records of a step once they are judged: rows of the lake, and where each record went.

Both engines decide what is late and what repeats by the clocks and keys of a stream (`pipeline.streamstate`); what
follows from that is here, once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.counts import Counts
from hackwatch.detect.panel import panel_schema
from hackwatch.detect.rules import with_rules
from hackwatch.pipeline.detection import SCORED, Scored
from hackwatch.streams.stream import POSITION, REJECTED_SCHEMA, Stream

__all__ = [
    "LAYOUT",
    "Judged",
    "judged",
    "lake_rows",
    "processed_at",
    "records_schema",
    "rejected_schema",
]

#: What the step itself adds to a record: whether it was late, and when it was processed.
_STAMP = pl.Schema({"late": pl.Boolean(), "processing_time": pl.Datetime("us", "UTC")})
#: Columns by which the lake lays out its tables.
_PARTITIONED = pl.Schema({"date": pl.Date(), "site": pl.String()})
#: Columns that a record gets only for its table.
LAYOUT = pl.Schema({"topic": pl.String(), "epoch": pl.Int64(), **_PARTITIONED})

Mask = npt.NDArray[np.bool_]


def records_schema(stream: Stream, roles: tuple[str, ...] = ()) -> pl.Schema:
    """The columns of a stream's table. `roles`: those beside the champion."""
    return pl.Schema({**stream.schema, **POSITION, **SCORED, **panel_schema(roles), **_STAMP, **LAYOUT})


def rejected_schema() -> pl.Schema:
    """The columns of the table of rejected messages."""
    return pl.Schema({**REJECTED_SCHEMA, "processing_time": _STAMP["processing_time"], **_PARTITIONED})


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """The records of one stream in one step, judged.

    `kept`: all that repeat no other, with `late` and `processing_time`: what goes to the stream's table. `on_time`:
    those of them that are not late, which are counted; `suspects`: those of these that are, which are correlated.
    `rejected`: with `processing_time`. `counts`: by partition.
    """

    kept: pl.DataFrame
    on_time: pl.DataFrame
    suspects: pl.DataFrame
    rejected: pl.DataFrame
    counts: dict[int, Counts]

    def alerting(self, *, on_suspect: bool) -> pl.DataFrame:
        """The kept records that may raise an alert. `on_suspect`: whether a single suspect does."""
        if on_suspect:
            matched = pl.col("rules").list.len() > 0
            return self.kept.filter(matched.fill_null(False) | (pl.col("prediction") == 1))
        return self.kept[with_rules(self.kept["rules"])]


def judged(scored: Scored, late: Mask, duplicate: Mask, wall: float) -> Judged:
    """What follows for scored records of which these are late, and these repeat one. `wall`: now, Unix seconds."""
    kept = _stamped(scored.records, late, wall)
    if duplicate.any():
        kept = kept.filter(~pl.Series(duplicate))
    on_time = kept.filter(~pl.col("late")) if late.any() else kept
    rows = np.flatnonzero(on_time["prediction"].to_numpy())
    suspects = on_time[rows] if len(rows) else on_time.clear()
    counts = _counted(scored, late, duplicate, suspects["partition"].to_numpy())
    return Judged(kept, on_time, suspects, processed_at(scored.rejected, wall), counts)


def _stamped(records: pl.DataFrame, late: Mask, wall: float) -> pl.DataFrame:
    """The records with the columns of the step, without that by which repeats are known."""
    moment = np.full(len(records), round(wall * 1e6), dtype=np.int64)
    rows = records.drop("key") if "key" in records.columns else records
    flag = pl.Series("late", late, dtype=pl.Boolean)
    return rows.hstack([flag, pl.Series("processing_time", moment).cast(_STAMP["processing_time"])])


def processed_at(rows: pl.DataFrame, wall: float) -> pl.DataFrame:
    """The rows with the time at which they were processed."""
    moment = pl.lit(round(wall * 1e6)).cast(_STAMP["processing_time"])
    return rows.with_columns(moment.alias("processing_time")) if len(rows) else rows


def _counted(scored: Scored, late: Mask, duplicate: Mask, suspects: npt.NDArray[np.int32]) -> dict[int, Counts]:
    """Where the records of each partition went. `suspects`: the partition of each that was on time."""
    found = {}
    partition, rejected = (frame["partition"].to_numpy() for frame in (scored.records, scored.rejected))
    for number, messages in scored.messages.items():
        mine = partition == number
        counts = found[number] = Counts(
            messages=messages,
            late=int(np.count_nonzero(late & mine)),
            duplicate=int(np.count_nonzero(duplicate & mine)),
            rejected=int(np.count_nonzero(rejected == number)),
            unknown_fields=scored.unknown.get(number, 0),
            suspects=int(np.count_nonzero(suspects == number)),
        )
        counts.on_time = int(np.count_nonzero(mine)) - counts.late - counts.duplicate
        counts.records = counts.on_time + counts.late + counts.duplicate + counts.rejected
    return found


def lake_rows(rows: pl.DataFrame, site: str, *, topic: str | None = None, epoch: int | None = None) -> pl.DataFrame:
    """The rows as their table has them: with its layout.

    `topic`, `epoch`: of records; they lie by the date of the event, other rows by a date that they have, or that of
    their processing.
    """
    added = [pl.lit(site).alias("site")]
    if "date" not in rows.columns:
        added = [pl.col("processing_time" if topic is None else "event_time").dt.date().alias("date"), *added]
    if topic is not None:
        added = [pl.lit(topic).alias("topic"), pl.lit(epoch, dtype=pl.Int64).alias("epoch"), *added]
    return rows.with_columns(added)
