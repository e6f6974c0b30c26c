"""The step of the pipeline: (state, batch, now) -> (state, output). No clock, no file, no network."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import polars as pl

from hackwatch.alerts.alert import Alert, AlertUpdate
from hackwatch.alerts.observed import Detectors, Pairs, Records
from hackwatch.alerts.policy import AlertPolicy
from hackwatch.counts import COUNTERS, Counts
from hackwatch.pipeline.clocks import NEVER
from hackwatch.pipeline.correlation import Correlator, pair_date
from hackwatch.pipeline.detection import SCORED, Scored
from hackwatch.pipeline.enrichment import StatefulEnrichment
from hackwatch.pipeline.judged import judged, processed_at
from hackwatch.pipeline.options import StreamOptions
from hackwatch.pipeline.streamstate import Now, StreamState
from hackwatch.streams.declarations import Aggregate, Correlation
from hackwatch.streams.stream import POSITION, Stream

__all__ = [
    "Batch",
    "Changed",
    "Now",
    "Output",
    "Pipeline",
    "Snapshot",
    "changes_of",
    "serialise",
    "time_groups",
]

#: With state that waits for idle sources, a step is due this often without messages (engine time).
TICK_SECONDS = 1.0
#: Suspects and occurrences are looked through so often (engine time).
SWEEP_SECONDS = 0.25

Snapshot = dict[str, pl.DataFrame | bytes]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step takes. `partitions`: (stream, partition) known to exist. `detectors`: those that scored it.

    `waiting`: (stream, partition) that have more messages than this batch took of them.
    """

    scored: Sequence[Scored] = ()
    partitions: Iterable[tuple[str, int]] = ()
    waiting: Iterable[tuple[str, int]] = ()
    detectors: Detectors = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """Intervals of an aggregate that have changed. `rows`: its keys, source, start, end, measures, final."""

    aggregate: Aggregate
    rows: pl.DataFrame


class Pipeline:
    """All state of a run: clocks, aggregates, correlations, duplicates, suppression, accounting."""

    def __init__(
        self,
        streams: Mapping[str, tuple[Stream, StreamOptions]],
        correlations: Sequence[Correlation],
        policy: AlertPolicy,
        enrichment: StatefulEnrichment | None = None,
    ) -> None:
        """Correlations of streams that are not read are left out."""
        self.enrichment = enrichment or StatefulEnrichment()
        self.policy = policy
        self._streams = {
            name: StreamState(stream, options, policy.options) for name, (stream, options) in streams.items()
        }
        self.totals: dict[tuple[str, str, int], Counts] = {}
        carried = pl.Schema({**POSITION, **SCORED})
        self.correlators = {
            one.name: Correlator(one, streams[one.left][0], streams[one.right][0], carried)
            for one in correlations
            if {one.left, one.right} <= set(streams)
        }
        self.groups = time_groups(streams, [one.declared for one in self.correlators.values()])
        self._swept, self._stepped = float("-inf"), 0.0

    def step(self, batch: Batch, now: Now) -> Output:
        """Take the scored records of a batch."""
        output = Output()
        for name, partition in batch.partitions:
            self._streams[name].clocks.know(partition)
        suspects: dict[str, list[pl.DataFrame]] = {name: [] for name in self._streams}
        output.scored = [scored.finished(self.enrichment) for scored in batch.scored]
        for scored in output.scored:
            suspects[scored.stream].append(self._take(scored, batch.detectors, now, output))
        for correlator in self.correlators.values():
            self._correlate(correlator, suspects, batch.detectors, now, output)
        self._advance(batch, now, output)
        self._stepped = now.elapsed
        return output

    # -- one stream --------------------------------------------------------------------------------

    def _take(self, scored: Scored, detectors: Detectors, now: Now, output: Output) -> pl.DataFrame:
        """Judge, count and aggregate the records of one stream; returns its on-time suspects."""
        state = self._streams[scored.stream]
        state.topic = scored.topic
        late, duplicate = state.judge(scored.records, now)
        found = judged(scored, late, duplicate, now.wall)
        for aggregates in state.aggregates:
            aggregates.add(found.on_time)
        output.alerts += self.policy.records(
            Records(state.stream, scored.topic, found.kept),
            detectors,
            now.wall,
            on_suspect=state.options.stream.alert_on_suspect,
        )
        output.add(scored.stream, found.kept)
        output.add("rejected", found.rejected)
        for number, counts in found.counts.items():
            key = (scored.stream, scored.topic, number)
            output.counts.setdefault(key, Counts()).add(counts)
            self.totals.setdefault(key, Counts()).add(counts)
        return found.suspects

    # -- across streams ---------------------------------------------------------------------------------------------

    def _correlate(
        self, correlator: Correlator, suspects: Mapping[str, list[pl.DataFrame]], detectors: Detectors, now: Now,
        output: Output,
    ) -> None:  # fmt: skip
        left, right = correlator.left, correlator.right
        if not any(len(frame) for stream in (left, right) for frame in suspects[stream.name]):
            return
        pairs = correlator.step(*(_joined(correlator, s, suspects[s.name]) for s in (left, right)))
        if pairs.is_empty():
            return
        topics = {s.name: self._streams[s.name].topic for s in (left, right)}
        output.alerts += self.policy.pairs(Pairs(correlator.declared, left, right, topics, pairs), detectors, now.wall)
        output.add(correlator.declared.name, processed_at(pairs, now.wall).with_columns(pair_date(left, right)))

    def _advance(self, batch: Batch, now: Now, output: Output) -> None:
        """Move the watermarks; close intervals and drop state that they have passed."""
        for name, state in self._streams.items():
            waiting = [partition for stream, partition in batch.waiting if stream == name]
            marks = state.clocks.advance(now.elapsed, waiting)
            output.alerts += state.close(marks, self.policy, now.wall)
        if now.elapsed - self._swept >= SWEEP_SECONDS:
            self._swept = now.elapsed
            self._sweep()

    def _sweep(self) -> None:
        """Let go of suspects and occurrences that are over: nothing depends on when."""
        for correlator in self.correlators.values():
            left, right = (self._streams[side.name].clocks for side in (correlator.left, correlator.right))
            if len(correlator):
                correlator.evict(left.mark, right.mark, (left.slowest(), right.slowest()))
        self.policy.evict(self._mark)

    def _mark(self, stream: str, entity: str) -> int:
        """The watermark that decides for what was counted of an entity; `stream` may be a pair, `left+right`."""
        state = self._streams.get(stream.partition("+")[0])
        return NEVER if state is None else state.mark(entity)

    # -- what the engine asks ------------------------------------------------------------------------------------

    def tick_due(self, elapsed: float) -> bool:
        """Whether a step without messages would change something: sources are idle, and state waits for them."""
        if elapsed - self._stepped < TICK_SECONDS:
            return False
        return any(state.waits(elapsed) for state in self._streams.values())

    def typical(self, stream: str, partition: int) -> int:
        """How far a partition has been read: the median of its sources' clocks, in microseconds."""
        return self._streams[stream].clocks.typical(partition)

    def state(self, stream: str) -> StreamState:
        """What is known of a stream, to be looked at."""
        return self._streams[stream]

    def state_rows(self) -> dict[str, int]:
        """How many rows each kind of state holds."""
        rows: dict[str, int] = {}
        for name, state in self._streams.items():
            rows |= {**state.rows(), f"duplicates_{name}": len(state.duplicates)}
        correlated = sum(map(len, self.correlators.values()))
        return rows | {"correlation": correlated, "suppression": len(self.policy.suppressor)}

    def take_aggregates(self) -> list[Changed]:
        """What has changed of all aggregates since the last call, with absolute values."""
        return [changed for state in self._streams.values() for changed in changes_of(state)]

    def take_updates(self) -> list[AlertUpdate]:
        return self.policy.take_updates()

    def snapshot(self) -> Snapshot:
        """The state at the end of an epoch, after take_aggregates and take_updates. Frames are immutable."""
        small: dict[str, Any] = {"policy": self.policy.snapshot(), "streams": {}}
        small["times"] = [max(self._swept, -1e9), self._stepped]
        frames: Snapshot = {}
        for name, state in self._streams.items():
            small["streams"][name], parts = state.snapshot()
            frames |= {f"{part}.{name}": frame for part, frame in parts.items()}
        for correlator in self.correlators.values():
            name = correlator.declared.name
            frames |= {f"correlation.{name}.{side}": frame for side, frame in correlator.snapshot().items()}
        small["totals"] = [[*key, [getattr(counts, name) for name in COUNTERS]] for key, counts in self.totals.items()]
        return frames | self.enrichment.snapshot() | {"state": orjson.dumps(small)}

    def restore(self, states: Mapping[str, bytes]) -> None:
        """Take up a snapshot (frames as Arrow IPC streams). Streams it does not know start empty."""
        small = orjson.loads(states["state"])
        self.policy.restore(small["policy"])
        self._swept, self._stepped = small.get("times", (0.0, 0.0))
        self.enrichment.restore(states)
        for name, state in self._streams.items():
            if (saved := small["streams"].get(name)) is not None:
                parts = {key.removesuffix(f".{name}"): part for key, part in states.items() if key.endswith(f".{name}")}
                history = [
                    [who, counts] for stream, who, counts in small["policy"].get("history", ()) if stream == name
                ]
                state.restore(saved, parts, history)
        for correlator in self.correlators.values():
            sides = [side.name for side in (correlator.left, correlator.right)]
            kept = {side: _correlated(states, correlator.declared.name, side) for side in sides}
            found = {side: part for side, part in kept.items() if part is not None}
            if len(found) == len(sides):
                correlator.restore(found)
        self.totals = {
            (stream, topic, partition): Counts(*values) for stream, topic, partition, values in small["totals"]
        }


def changes_of(state: StreamState) -> list[Changed]:
    """What has changed of the aggregates of a stream since the last call, with absolute values."""
    found = [Changed(one.aggregate, one.take_changes()) for one in state.aggregates]
    return [changed for changed in found if len(changed.rows)]


def _correlated(states: Mapping[str, bytes], name: str, side: str) -> bytes | None:
    """The suspects of one side; a version that knew one correlation did not name it."""
    return states.get(f"correlation.{name}.{side}", states.get(f"correlation.{side}"))


def time_groups(streams: Iterable[str], correlations: Iterable[Correlation]) -> dict[str, int]:
    """Stream -> the number of its time group: streams that are correlated, directly or through others, share one."""
    group = {name: number for number, name in enumerate(streams)}
    for one in correlations:
        old, new = group[one.right], group[one.left]
        group = {name: new if number == old else number for name, number in group.items()}
    return group


def serialise(snapshot: Snapshot) -> dict[str, bytes]:
    """A snapshot as bytes; may run in another thread."""
    return {name: _ipc(part) if isinstance(part, pl.DataFrame) else part for name, part in snapshot.items()}


def _ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()


def _joined(correlator: Correlator, stream: Stream, frames: list[pl.DataFrame]) -> pl.DataFrame:
    """The suspects of one side, with the columns that the correlator holds."""
    empty = correlator.empty(stream)
    same = [pl.DataFrame([frame.get_column(name) for name in empty.columns]) for frame in frames if len(frame)]
    return pl.concat(same) if same else empty
