"""The state of one stream in a run: its sources' clocks, aggregates with their history, and duplicate keys."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.alerts.alert import Alert
from hackwatch.alerts.policy import AlertPolicy
from hackwatch.config import AlertSettings
from hackwatch.pipeline.aggregates import Aggregates
from hackwatch.pipeline.clocks import NEVER, Marks, SourceClocks
from hackwatch.pipeline.duplicates import Duplicates
from hackwatch.pipeline.options import StreamOptions
from hackwatch.pipeline.outliers import OutlierWatch
from hackwatch.streams.declarations import Aggregate, windows_of
from hackwatch.streams.stream import Stream, microseconds

__all__ = ["Now", "StreamState", "declared_aggregates", "new_clocks", "source_names"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Now:
    """The time of a step. `wall`: Unix seconds UTC. `elapsed`: engine time in seconds, never goes back."""

    wall: float
    elapsed: float


class StreamState:
    """What is known of one stream between two steps."""

    def __init__(self, stream: Stream, options: StreamOptions, alerts: AlertSettings) -> None:
        self.stream, self.options, self.topic = stream, options, ""
        self.clocks = new_clocks(options)
        declared = declared_aggregates(stream, options)
        self.aggregates = [Aggregates(aggregate, stream) for aggregate in declared]
        self.outliers = [None if one.outliers is None else OutlierWatch(one.outliers, alerts) for one in declared]
        self.duplicates = Duplicates()
        self._crowded = False

    def judge(self, records: pl.DataFrame, now: Now) -> tuple[Mask, Mask]:
        """Which records are late, and which repeat another one."""
        event_time = microseconds(records["event_time"])
        keyed = self.options.stream.duplicates_key is not None and "key" in records.columns
        sources = source_names(self.stream, records)
        judged = self.clocks.observe(
            records["partition"].to_numpy(), sources, event_time, now.elapsed, now.wall, watermarks=keyed
        )
        for aggregates in self.aggregates:
            aggregates.expect(judged.seen)
        if judged.watermarks is None:
            return judged.late, np.zeros(len(event_time), dtype=np.bool_)
        return judged.late, self.duplicates.step(records["key"], sources, event_time, judged.watermarks, judged.late)

    def close(self, marks: Marks, policy: AlertPolicy, wall: float) -> list[Alert]:
        """Close what the watermarks have passed; alerts of what stands out, and of clocks that are wrong."""
        found: list[Alert] = []
        for aggregates, watch in zip(self.aggregates, self.outliers, strict=True):
            closed = aggregates.close(self._moved(marks, aggregates))
            if watch is not None and closed:
                found += policy.outliers(self.stream, watch.look(closed), wall)
        if self.options.stream.duplicates_key is not None:
            self.duplicates.evict(lambda names: [self.clocks.mark(name) for name in names])
        found += policy.skewed(self.stream, self.clocks.skew.due(self.clocks.elapsed, wall), wall)
        if self.clocks.crowded and not self._crowded:
            self._crowded = True
            found.append(policy.crowded(self.stream, self.options.max_sources, wall))
        return found

    def _moved(self, marks: Marks, aggregates: Aggregates) -> Mapping[str, int]:
        """The watermarks that have moved; that of the shared clock counts for every source without one."""
        if marks.others is None:
            return marks.moved
        beyond = [source for source in aggregates.sources() if not self.clocks.knows(source)]
        return {**marks.moved, **dict.fromkeys(beyond, marks.others)}

    def mark(self, entity: str) -> int:
        """The watermark that decides for an entity: its own where it is a source, else that of the slowest source."""
        return self.clocks.mark(entity) if self.stream.source == self.stream.entity else self.clocks.slowest()

    def waits(self, elapsed: float) -> bool:
        """Whether time alone may change something now."""
        if self.clocks.skew.waits:
            return True
        return any(one.has_open() for one in self.aggregates) and elapsed >= self.clocks.idle_after()

    def watermark(self) -> float | None:
        """The median of the watermarks of the stream's sources in Unix seconds; None before the first."""
        mark = self.clocks.watermark()
        return None if mark <= NEVER else mark / 1e6

    def rows(self) -> dict[str, int]:
        """How many rows each kind of state holds, but for duplicates."""
        held = {f"{one.aggregate.name}_{self.stream.name}": len(one) for one in self.aggregates}
        return {**held, f"sources_{self.stream.name}": len(self.clocks)}

    def snapshot(self, *, clocks: bool = True) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
        """(small values, frames); without those of the `clocks`, if they are kept elsewhere."""
        summary, frames = self.clocks.snapshot() if clocks else (self.clocks.summary(), {})
        small = {"topic": self.topic, "clocks": summary, "crowded": self._crowded}
        small["outliers"] = {
            one.aggregate.name: watch.snapshot()
            for one, watch in zip(self.aggregates, self.outliers, strict=True)
            if watch is not None
        }
        frames |= {f"aggregate.{one.aggregate.name}": one.snapshot() for one in self.aggregates}
        return small, {**frames, "duplicates": self.duplicates.snapshot()}

    def restore(self, small: Mapping[str, Any], parts: Mapping[str, bytes], history: Sequence[Any]) -> None:
        """Take up a snapshot; without frames of the clocks these are left as they are. `history`: of windows, where a
        version kept it elsewhere."""
        self.topic, self._crowded = small["topic"], small.get("crowded", False)
        if "duplicates" in parts:
            self.duplicates.restore(parts["duplicates"])
        if "clocks" not in small:
            self._restore_partitions(small, history)
            return
        if "clocks" in parts:
            self.clocks.restore(small["clocks"], parts)
        for one, watch in zip(self.aggregates, self.outliers, strict=True):
            name = one.aggregate.name
            if f"aggregate.{name}" in parts:
                one.restore(pl.read_ipc_stream(io.BytesIO(parts[f"aggregate.{name}"])))
            if watch is not None and name in small["outliers"]:
                watch.restore(small["outliers"][name])

    def _restore_partitions(self, small: Mapping[str, Any], history: Sequence[Any]) -> None:
        """Take up what a version left that had one watermark a stream and windows only."""
        marks = small["watermarks"]
        newest = {number: time for number, time, *_ in marks["partitions"]}
        opened = sorted({entity for entity, *_ in small["windows"]})
        elapsed = max((active_at for _, _, _, active_at, _ in marks["partitions"]), default=0.0)
        self.clocks.restore_partitions(marks["watermark"], newest, elapsed, opened)
        windows, watch = self.aggregates[0], self.outliers[0]
        windows.restore_windows(small["windows"], self.options.stream.window_seconds)
        if watch is not None:
            watch.restore([[[entity], counts] for entity, counts in history])


def new_clocks(options: StreamOptions) -> SourceClocks:
    """The clocks of a stream of which nothing is known yet."""
    return SourceClocks(
        options.stream.lateness_seconds,
        options.engine.idle_seconds,
        max_sources=options.max_sources,
        hold_seconds=options.hold_seconds,
    )


def declared_aggregates(stream: Stream, options: StreamOptions) -> tuple[Aggregate, ...]:
    """What is counted of a stream: its windows, and what else is declared."""
    return (windows_of(stream, options.stream.window_seconds), *options.aggregates)


def source_names(stream: Stream, records: pl.DataFrame) -> pl.Series:
    """Whose clock stamped each record: the stream's source, or its partition where it has none."""
    if stream.source is None:
        return records["partition"].cast(pl.String)
    return records[stream.source]
