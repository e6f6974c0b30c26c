"""Taking up what version 0.1 left: it had windows and suspects in Spark's state, which is made again from the lake.

That version judged by one watermark a stream, read the tables of ingest with queries of Spark (`windows-STREAM`,
`attacks`), and counted their batches in checkpoints of their own. Its ingest goes on where it was; what the other
queries had not read yet is found by what is in lake and store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
import polars as pl

from hackwatch.alerts.policy import AlertPolicy
from hackwatch.lake import Lake
from hackwatch.pipeline.clocks import NEVER
from hackwatch.pipeline.correlation import Correlator
from hackwatch.pipeline.streamstate import StreamState
from hackwatch.spark.folder import Folder
from hackwatch.spark.plan import suspects_schema
from hackwatch.spark.querycheckpoint import QueryCheckpoint
from hackwatch.streams.stream import POSITION, Stream

__all__ = ["Before", "Earlier", "earlier_pairs", "is_of_before", "keys_before", "take_up_stream"]

#: What the parts of a store were called with the keys of a partition, before these were in files.
_KEYS = "keys."


def is_of_before(checkpoint: QueryCheckpoint) -> bool:
    """Whether a checkpoint of ingest was last written by version 0.1."""
    return "marks" in checkpoint.state


@dataclass(frozen=True, slots=True)
class Before:
    """How far version 0.1 had come with a stream: its rows in the lake of the epochs that count.

    `began`: when its first batch was processed, Unix seconds.
    """

    stream: Stream
    topic: str
    site: str
    epoch: int
    began: float

    @classmethod
    def of(cls, stream: Stream, topic: str, site: str, checkpoint: QueryCheckpoint) -> Before:
        return cls(stream, topic, site, checkpoint.epoch, float(checkpoint.state.get("began", 0.0)))

    def rows(self, lake: Lake, after: int) -> pl.LazyFrame | None:
        """On-time rows with event times from `after` (microseconds) on; None without a table."""
        if self.stream.name not in lake.tables():
            return None
        mine = (pl.col("site") == self.site) & (pl.col("topic") == self.topic) & ~pl.col("late")
        mine &= (pl.col("epoch") <= self.epoch) & (pl.col("processing_time") >= _moment(self.began - 0.001))
        if after > NEVER:
            mine &= pl.col("event_time") >= _moment(after / 1e6)
        return lake.scan(self.stream.name).filter(mine)


def _moment(seconds: float) -> pl.Expr:
    return pl.lit(datetime.fromtimestamp(seconds, UTC))


# -- streams -----------------------------------------------------------------------------------------------------------


def take_up_stream(
    before: Before,
    state: StreamState,
    policy: AlertPolicy,
    checkpoint: QueryCheckpoint,
    windows: QueryCheckpoint,
    lake: Lake,
) -> None:
    """Give clocks, open windows, their history and what was counted for alerts to the state of a stream.

    `checkpoint`, `windows`: those of ingest and of the windows, as version 0.1 left them.
    """
    marks = checkpoint.state["marks"]
    closed = windows.state.get("watermark", NEVER)
    # A window that ends at the watermark was closed.
    rows = before.rows(lake, closed - state.aggregates[0].aggregate.seconds * 1_000_000)
    found = pl.DataFrame() if rows is None else _with(rows, state.stream.schema, "prediction").collect()
    if len(found):
        counted = state.aggregates[0].partial(found)
        ends = (pl.col("start") + pl.col("_seconds")) * 1_000_000
        state.aggregates[0].merge(counted.filter(ends > closed))
    newest = {number: time for number, time, *_ in marks["partitions"]}
    state.clocks.restore_partitions(marks["watermark"], newest, 0.0, sorted(state.aggregates[0].sources()))
    told = windows.state.get("policy", {})
    if (watch := state.outliers[0]) is not None:
        watch.restore([[[entity], counts] for _, entity, counts in told.get("history", ())])
    counts = [one.get("suppressor", {}) for one in (checkpoint.state.get("policy", {}), told)]
    joined = {name: [each for one in counts for each in one.get(name, ())] for name in ("tallies", "recent")}
    policy.restore({"suppressor": joined})


def keys_before(parts: Mapping[str, bytes], partitions: Iterable[int]) -> dict[int, bytes]:
    """The keys of each partition that a version has left in the store; version 0.1 did not tell partitions apart."""
    if (kept := parts.get("duplicates")) is not None:
        return dict.fromkeys(partitions, kept)
    return {int(name.removeprefix(_KEYS)): keys for name, keys in parts.items() if name.startswith(_KEYS)}


def _with(rows: pl.LazyFrame, schema: Mapping[str, pl.DataType], *more: str) -> pl.LazyFrame:
    """These columns with these types; those that a table of before lacks are null."""
    there = rows.collect_schema().names()
    columns = [
        pl.col(name).cast(kind) if name in there else pl.lit(None, kind).alias(name) for name, kind in schema.items()
    ]
    return rows.select(*columns, *more, *[name for name in POSITION if name not in schema and name not in more])


# -- correlations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Earlier:
    """Pairs of suspects of before: `fresh` are not in the lake yet, of `untold` no alert has been told.

    `ahead`: positions of pairs that are in the lake and will be found once more, with `told`.
    """

    fresh: pl.DataFrame
    untold: pl.DataFrame
    ahead: pl.DataFrame


def earlier_pairs(
    correlator: Correlator,
    before: Sequence[Before],
    lake: Lake,
    checkpoint: QueryCheckpoint,
    offsets: Folder,
    wall: float,
) -> Earlier:
    """Fill the correlator with the suspects that may still match, and find the pairs among them.

    `checkpoint`: that of Spark's query. `offsets`: the folder in its checkpoint that says how far its watermark was.
    `wall`: the time of the batch that takes up, which may have written before it was killed.
    """
    there = _there(correlator, before, lake, checkpoint, wall)
    after = _passed(offsets) - correlator.reach
    suspects = []
    for each in before:
        rows, schema = each.rows(lake, after), suspects_schema(each.stream)
        found = None if rows is None else _with(rows.filter(pl.col("prediction") == 1), schema).collect()
        suspects.append(schema.to_frame() if found is None else found.select(schema.names()).sort(list(POSITION)))
    pairs = correlator.step(suspects[0], suspects[1])
    places = _places(correlator)
    fresh = pairs.join(there, on=places, how="anti")
    told = there.filter("told").select(places)
    mine = pairs.select(places)
    return Earlier(fresh, pairs.join(told, on=places, how="anti"), there.join(mine, on=places, how="anti"))


def _passed(offsets: Folder) -> int:
    """The watermark of Spark's last batch, microseconds: what is older was late, or has found its partners."""
    numbers = [int(name) for name in offsets.names() if name.isdigit()]
    content = offsets.read(str(max(numbers))) if numbers else None
    if content is None:
        return NEVER
    return int(orjson.loads(content.split(b"\n")[1])["batchWatermarkMs"]) * 1000 or NEVER


def _places(correlator: Correlator) -> list[str]:
    """The columns that say which pair it is."""
    sides = (correlator.left, correlator.right)
    return [f"{side.name}_{name}" for side in sides for name in (*POSITION, "event_time")]


def _there(
    correlator: Correlator, before: Sequence[Before], lake: Lake, checkpoint: QueryCheckpoint, wall: float
) -> pl.DataFrame:
    """The pairs of before in the lake: their positions, and whether the batch that wrote them was done (`told`)."""
    table, places = correlator.declared.name, _places(correlator)
    schema = {name: correlator.schema[name] for name in places} | {"told": pl.Boolean()}
    if table not in lake.tables():
        return pl.DataFrame(schema=schema)
    unfinished = checkpoint.logged(checkpoint.epoch + 1)
    processed, began = pl.col("processing_time").dt.epoch("us"), min(each.began for each in before)
    rows = lake.scan(table).filter(
        (pl.col("site") == before[0].site)
        & (pl.col("processing_time") >= _moment(began - 0.001))
        & (processed != round(wall * 1e6))
    )
    told = (processed != (-1 if unfinished is None else round(unfinished.wall * 1e6))).alias("told")
    return rows.select(*(pl.col(name).cast(correlator.schema[name]) for name in places), told).collect()
