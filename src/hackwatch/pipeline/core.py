"""The step of the pipeline: (state, batch, now) -> (state, output). No clock, no file, no network."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from hackwatch.pipeline.alert import Alert, AlertUpdate
from hackwatch.pipeline.alerting import AlertPolicy, Detectors, RuleBook
from hackwatch.pipeline.correlation import Correlator
from hackwatch.pipeline.detection import SCORED, Scored
from hackwatch.pipeline.duplicates import Duplicates
from hackwatch.pipeline.enriching import Enriching
from hackwatch.pipeline.options import AlertOptions, CorrelationOptions, StreamOptions
from hackwatch.pipeline.watermark import NEVER, Watermarks
from hackwatch.pipeline.windows import Windows
from hackwatch.streams.base import POSITION, Stream, microseconds

__all__ = ["STAMP", "Batch", "Counts", "Now", "Output", "Pipeline", "Snapshot", "accounted", "serialise"]

#: What the step itself adds to a record: whether it was late, and when it was processed.
STAMP = pl.Schema({"late": pl.Boolean(), "processing_time": pl.Datetime("us", "UTC")})

Snapshot = dict[str, pl.DataFrame | bytes]
Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Now:
    """The time of a step. `wall`: Unix seconds UTC. `elapsed`: engine time in seconds, never goes back."""

    wall: float
    elapsed: float


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step takes. `partitions`: (stream, partition) known to exist. `detectors`: those that scored it."""

    scored: Sequence[Scored] = ()
    partitions: Iterable[tuple[str, int]] = ()
    detectors: Detectors = field(default_factory=dict)


@dataclass(slots=True)
class Counts:
    """Where the records of one topic partition went: records = on_time + late + duplicate + rejected."""

    messages: int = 0
    records: int = 0
    on_time: int = 0
    late: int = 0
    duplicate: int = 0
    rejected: int = 0
    unknown_fields: int = 0
    suspects: int = 0

    def add(self, other: Counts) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def copy(self) -> Counts:
        return replace(self)


def accounted(scored: Scored, partition: Numbers, late: Mask, duplicate: Mask, suspects: Numbers) -> dict[int, Counts]:
    """Where the records of each partition went, but for unknown fields: those are known for all together.

    `partition`, `late`, `duplicate`: of each record. `suspects`: the partition of each suspect that was on time.
    """
    found = {}
    rejected = scored.rejected["partition"].to_numpy()
    for number, messages in scored.messages.items():
        mine = partition == number
        counts = found[number] = Counts(
            messages=messages,
            late=int(np.count_nonzero(late & mine)),
            duplicate=int(np.count_nonzero(duplicate & mine)),
            rejected=int(np.count_nonzero(rejected == number)),
            suspects=int(np.count_nonzero(suspects == number)),
        )
        counts.on_time = int(np.count_nonzero(mine)) - counts.late - counts.duplicate
        counts.records = counts.on_time + counts.late + counts.duplicate + counts.rejected
    return found


@dataclass(slots=True)
class Output:
    """What one step gives. `rows`: new rows per lake table. `counts`: per (stream, topic, partition).

    `scored`: what it took, enriched in order.
    """

    rows: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    counts: dict[tuple[str, str, int], Counts] = field(default_factory=dict)
    scored: list[Scored] = field(default_factory=list)

    def add(self, table: str, frame: pl.DataFrame) -> None:
        if len(frame):
            self.rows.setdefault(table, []).append(frame)


@dataclass(slots=True)
class _StreamState:
    stream: Stream
    options: StreamOptions
    watermarks: Watermarks
    windows: Windows
    duplicates: Duplicates
    topic: str = ""


class Pipeline:
    """All state of a run: watermarks, windows, correlation, duplicates, suppression, accounting."""

    def __init__(
        self,
        streams: Mapping[str, tuple[Stream, StreamOptions]],
        correlation: CorrelationOptions | None,
        alerts: AlertOptions,
        rules: RuleBook | None = None,
        enriching: Enriching | None = None,
    ) -> None:
        self.enriching = enriching or Enriching()
        self._streams = {
            name: _StreamState(
                stream, options, Watermarks(options.lateness_seconds, options.idle_seconds),
                Windows(stream, options.window_seconds), Duplicates(),
            )
            for name, (stream, options) in streams.items()
        }  # fmt: skip
        self.policy = AlertPolicy(alerts, rules)
        self.totals: dict[tuple[str, str, int], Counts] = {}
        self.correlator: Correlator | None = None
        if correlation and {correlation.left, correlation.right} <= set(streams):
            self.correlator = Correlator(
                streams[correlation.left][0], streams[correlation.right][0], correlation.keys,
                correlation.seconds, pl.Schema({**POSITION, **SCORED}),
            )  # fmt: skip

    def step(self, batch: Batch, now: Now) -> Output:
        """Take the scored records of a batch."""
        output = Output()
        for name, partition in batch.partitions:
            self._streams[name].watermarks.know(partition, now.elapsed)
        suspects: dict[str, list[pl.DataFrame]] = {name: [] for name in self._streams}
        output.scored = [self.enriching.finish(scored) for scored in batch.scored]
        for scored in output.scored:
            suspects[scored.stream].append(self._take(scored, batch.detectors, now, output))
        self._correlate(suspects, batch.detectors, now, output)
        self._advance(now, output)
        return output

    # -- one stream --------------------------------------------------------------------------------

    def _take(self, scored: Scored, detectors: Detectors, now: Now, output: Output) -> pl.DataFrame:
        """Judge, count and window the records of one stream; returns its on-time suspects."""
        state = self._streams[scored.stream]
        state.topic = scored.topic
        event_time = microseconds(scored.records["event_time"])
        partition = scored.records["partition"].to_numpy()
        late = np.zeros(len(event_time), dtype=np.bool_)
        for number in scored.messages:
            mine = np.flatnonzero(partition == number)
            late[mine] = state.watermarks.observe(number, event_time[mine], now.elapsed)
        stamped = _stamp(scored.records, late, now)
        duplicate = self._duplicates(state, stamped, event_time, late)
        kept = stamped.filter(~pl.Series(duplicate)) if duplicate.any() else stamped
        kept = kept.drop("key") if "key" in kept.columns else kept
        on_time = kept.filter(~pl.col("late")) if late.any() else kept
        state.windows.add(on_time)
        output.alerts += self.policy.records(
            state.stream, scored.topic, kept, detectors, now.wall, on_suspect=state.options.alert_on_suspect
        )
        output.add(scored.stream, kept)
        if len(scored.rejected):
            output.add("rejected", scored.rejected.with_columns(_time(now).alias("processing_time")))
        suspects = on_time[np.flatnonzero(on_time["prediction"].to_numpy())]
        self._count(scored, partition, late, duplicate, suspects["partition"].to_numpy(), output)
        return suspects

    def _duplicates(self, state: _StreamState, records: pl.DataFrame, event_time: Times, late: Mask) -> Mask:
        if state.options.duplicates_key is None or "key" not in records.columns:
            return np.zeros(len(late), dtype=np.bool_)
        return state.duplicates.step(records["key"], event_time, late)

    def _count(
        self, scored: Scored, partition: Numbers, late: Mask, duplicate: Mask, suspects: Numbers, output: Output
    ) -> None:
        """Account for every record, per partition."""
        for number, counts in accounted(scored, partition, late, duplicate, suspects).items():
            key = (scored.stream, scored.topic, number)
            output.counts.setdefault(key, Counts()).add(counts)
            self.totals.setdefault(key, Counts()).add(counts)
        unknown = sum(scored.unknown_fields.values())
        if unknown:  # known per message only for all partitions together: counted at the first
            self.totals[(scored.stream, scored.topic, next(iter(scored.messages)))].unknown_fields += unknown

    # -- across streams ---------------------------------------------------------------------------------------------

    def _correlate(
        self, suspects: Mapping[str, list[pl.DataFrame]], detectors: Detectors, now: Now, output: Output
    ) -> None:
        if self.correlator is None:
            return
        left, right = self.correlator.left, self.correlator.right
        if not any(len(frame) for stream in (left, right) for frame in suspects[stream.name]):
            return
        pairs = self.correlator.step(*(_joined(self.correlator, s, suspects[s.name]) for s in (left, right)))
        if pairs.is_empty():
            return
        topics = {s.name: self._streams[s.name].topic for s in (left, right)}
        output.alerts += self.policy.attacks(left, right, topics, pairs, detectors, now.wall)
        output.add("attacks", pairs.with_columns(_time(now).alias("processing_time")))

    def _advance(self, now: Now, output: Output) -> None:
        """Move the watermarks; close windows and drop state that they have passed."""
        marks = {name: state.watermarks.advance(now.elapsed) for name, state in self._streams.items()}
        ahead = max((m for n, m in marks.items() if not self._streams[n].watermarks.idle), default=NEVER)
        for name, state in self._streams.items():
            if state.watermarks.idle and self._correlated(name):
                state.watermarks.follow(ahead)
            watermark = marks[name] = state.watermarks.watermark
            closed = state.windows.close(watermark)
            output.alerts += self.policy.windows(state.stream, closed, now.wall)
            if state.options.duplicates_key is not None:
                state.duplicates.evict(watermark)
        if self.correlator is not None:
            self.correlator.evict(marks[self.correlator.left.name], marks[self.correlator.right.name])
        self.policy.evict(min(marks.values()))

    def _correlated(self, name: str) -> bool:
        return self.correlator is not None and name in (self.correlator.left.name, self.correlator.right.name)

    # -- what the engine asks ------------------------------------------------------------------------------------

    def idle_due(self, elapsed: float) -> bool:
        """Whether a step without messages would change something, since a partition has become idle."""
        return any(state.watermarks.idle_due(elapsed) for state in self._streams.values())

    def newest(self, stream: str, partition: int) -> int:
        """The greatest event time read of a partition, in microseconds."""
        return self._streams[stream].watermarks.newest(partition)

    def watermark(self, stream: str) -> float | None:
        """The stream's watermark in Unix seconds; None before the first."""
        mark = self._streams[stream].watermarks.watermark
        return None if mark <= NEVER else mark / 1e6

    def state_rows(self) -> dict[str, int]:
        """How many rows each kind of state holds."""
        rows = {f"windows_{name}": len(state.windows) for name, state in self._streams.items()}
        rows |= {f"duplicates_{name}": len(state.duplicates) for name, state in self._streams.items()}
        correlated = 0 if self.correlator is None else len(self.correlator)
        return rows | {"correlation": correlated, "suppression": len(self.policy.suppressor)}

    def take_windows(self) -> list[tuple[str, str, int, int, int, int, int, bool]]:
        return [row for state in self._streams.values() for row in state.windows.take_changes()]

    def take_updates(self) -> list[AlertUpdate]:
        return self.policy.take_updates()

    def snapshot(self) -> Snapshot:
        """The state at the end of an epoch, after take_windows and take_updates. Frames are immutable."""
        small: dict[str, Any] = {"policy": self.policy.snapshot(), "streams": {}}
        frames: Snapshot = {}
        for name, state in self._streams.items():
            small["streams"][name] = {
                "watermarks": state.watermarks.snapshot(),
                "windows": state.windows.snapshot(),
                "topic": state.topic,
            }
            frames[f"duplicates.{name}"] = state.duplicates.snapshot()
        if self.correlator is not None:
            frames |= {f"correlation.{name}": frame for name, frame in self.correlator.snapshot().items()}
        small["totals"] = [
            [*key, [getattr(counts, name) for name in Counts.__slots__]] for key, counts in self.totals.items()
        ]
        return frames | self.enriching.snapshot() | {"state": orjson.dumps(small)}

    def restore(self, states: Mapping[str, bytes]) -> None:
        """Take up a snapshot (frames as Arrow IPC streams). Streams it does not know start empty."""
        small = orjson.loads(states["state"])
        self.policy.restore(small["policy"])
        self.enriching.restore(states)
        for name, state in self._streams.items():
            if (saved := small["streams"].get(name)) is not None:
                state.watermarks.restore(saved["watermarks"])
                state.windows.restore(saved["windows"])
                state.topic = saved["topic"]
            if f"duplicates.{name}" in states:
                state.duplicates.restore(states[f"duplicates.{name}"])
        if self.correlator is not None:
            names = (self.correlator.left.name, self.correlator.right.name)
            if all(f"correlation.{name}" in states for name in names):
                self.correlator.restore({name: states[f"correlation.{name}"] for name in names})
        self.totals = {
            (stream, topic, partition): Counts(*values) for stream, topic, partition, values in small["totals"]
        }


def serialise(snapshot: Snapshot) -> dict[str, bytes]:
    """A snapshot as bytes; may run in another thread."""
    return {name: _ipc(part) if isinstance(part, pl.DataFrame) else part for name, part in snapshot.items()}


def _ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()


def _time(now: Now) -> pl.Expr:
    return pl.lit(round(now.wall * 1e6)).cast(pl.Datetime("us", "UTC"))


def _stamp(records: pl.DataFrame, late: Mask, now: Now) -> pl.DataFrame:
    moment = np.full(len(records), round(now.wall * 1e6), dtype=np.int64)
    flag = pl.Series("late", late, dtype=pl.Boolean)
    return records.hstack([flag, pl.Series("processing_time", moment).cast(STAMP["processing_time"])])


def _joined(correlator: Correlator, stream: Stream, frames: list[pl.DataFrame]) -> pl.DataFrame:
    """The suspects of one side, with the columns that the correlator holds."""
    empty = correlator.empty(stream)
    same = [pl.DataFrame([frame.get_column(name) for name in empty.columns]) for frame in frames if len(frame)]
    return pl.concat(same) if same else empty
