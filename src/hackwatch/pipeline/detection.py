"""decode -> normalise -> enrich -> detect: the one pure function from raw messages to scored records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.detect.panel import Panel
from hackwatch.detect.rules import with_rules
from hackwatch.pipeline.enrichment import Enrichment, StatefulEnrichment, completed
from hackwatch.streams.found import Rejection, rejected_rows
from hackwatch.streams.stream import Decoded, DecodeOptions, Messages, Stream, microseconds

__all__ = ["SCORED", "RuleMatcher", "Scored", "detect_messages", "score_records"]

#: What decides about a record, added to the normalised columns: the champion's score (0..1, 0 without a champion),
#: whether it is a suspect (score >= threshold, or a rule matched that needs no second record), and the ids of all
#: rules matched. Behind these come the columns of `detect.panel.panel_schema`: versions, and what other roles say.
SCORED = pl.Schema({"score": pl.Float32(), "prediction": pl.Int8(), "rules": pl.List(pl.String())})


class RuleMatcher(Protocol):
    """What detection needs of a rule set: asked once a batch and stream, by several threads at a time."""

    @property
    def thresholds(self) -> frozenset[str]:
        """The ids of the rules that need several records: one of them alone is nothing special."""
        ...

    def match(self, stream: str, records: pl.DataFrame) -> pl.Series:
        """The ids of the rules that match, one list a row. Raises nothing: a null is no match."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The scored records of one stream in one batch, and what was rejected of it.

    `records`: the stream's schema, POSITION, SCORED and the panel's columns, each partition's in offset order.
    `rejected`: REJECTED_SCHEMA. `messages`: how many messages of each partition there were. `unknown_fields`: how often
    each unknown field occurred; `unknown`: how many unknown fields the messages of each partition had that had any.
    `pending`: what gives the scored records, when these are not yet: their stream has stateful enrichers, which come
    before.
    """

    stream: str
    topic: str
    records: pl.DataFrame
    rejected: pl.DataFrame
    messages: Mapping[int, int]
    unknown_fields: Mapping[str, int]
    unknown: Mapping[int, int] = field(default_factory=dict)
    pending: Callable[[pl.DataFrame], pl.DataFrame] | None = None

    def finished(self, stateful: StatefulEnrichment) -> Scored:
        """With what was left open: enriched in order, then scored. Each partition's messages come in offset order."""
        if self.pending is None:
            return self
        return replace(self, records=self.pending(stateful.enrich(self.stream, self.records)), pending=None)


def detect_messages(
    stream: Stream,
    runs: Sequence[Messages],
    options: DecodeOptions,
    panel: Panel,
    rules: RuleMatcher | None,
    *,
    latest: float,
    enrichment: Enrichment | None = None,
) -> Scored:
    """Decode, normalise, enrich and score runs of messages of one topic.

    Records after `latest` (Unix seconds) are rejected. Columns that are for an `enrichment` are null without one.
    """
    messages = _Joined(runs)
    decoded = stream.decode(messages.whole, options)
    records, rejected = _split_future(messages.whole, stream, decoded, latest)
    counts: dict[int, int] = {}
    for run in runs:
        counts[run.partition] = counts.get(run.partition, 0) + len(run)
    placed = messages.placed(records)
    whole = completed(stream, placed) if enrichment is None else enrichment(placed)
    score = partial(score_records, stream, panel=panel, rules=rules)
    later = enrichment is not None and bool(enrichment.stateful)
    return Scored(
        stream=stream.name,
        topic=messages.whole.topic,
        records=whole if later else score(whole),
        rejected=messages.placed(rejected),
        messages=counts,
        unknown_fields=decoded.unknown_fields,
        unknown=messages.by_partition(decoded.unknown_by_message),
        pending=score if later else None,
    )


class _Joined:
    """Runs of several partitions as one, so that small batches cost one pass and not one for each partition.

    The joined messages are numbered from 0; `placed` puts partition and offset back.
    """

    def __init__(self, runs: Sequence[Messages]) -> None:
        self._runs = runs
        if len(runs) == 1:
            self.whole = runs[0]
            return
        count = sum(map(len, runs))
        payload = b"".join([run.payload for run in runs])
        self.whole = Messages(runs[0].topic, -1, payload, np.arange(count, dtype=np.int64), count, _ends(runs))
        self._partitions = np.repeat([run.partition for run in runs], [len(run) for run in runs]).astype(np.int32)
        self._offsets = np.concatenate([run.offsets for run in runs])

    def placed(self, frame: pl.DataFrame) -> pl.DataFrame:
        if len(self._runs) == 1 or frame.is_empty():
            return frame
        number = frame["offset"].to_numpy()
        placed = frame.clone()
        for name, values in (("partition", self._partitions), ("offset", self._offsets)):
            placed.replace_column(frame.get_column_index(name), pl.Series(name, values[number]))
        return placed

    def by_partition(self, counts: npt.NDArray[np.int64] | None) -> dict[int, int]:
        """The sums of what each message counts, of each partition with any."""
        if counts is None:
            return {}
        found: dict[int, int] = {}
        ends = np.cumsum([len(run) for run in self._runs])
        for run, part in zip(self._runs, np.split(counts, ends[:-1]), strict=True):
            if number := int(part.sum()):
                found[run.partition] = found.get(run.partition, 0) + number
        return found


def _ends(runs: Sequence[Messages]) -> npt.NDArray[np.int64] | None:
    """The newlines of the joined payload, if those of all runs are known."""
    starts = np.cumsum([0, *(len(run.payload) for run in runs)])
    known = [run.ends + start for run, start in zip(runs, starts[:-1], strict=True) if run.ends is not None]
    return np.concatenate(known) if len(known) == len(runs) else None


def score_records(stream: Stream, records: pl.DataFrame, panel: Panel, rules: RuleMatcher | None) -> pl.DataFrame:
    """Add the SCORED columns and those of the panel to normalised records."""
    detector = panel.champion
    if detector is None or records.is_empty():
        score = np.zeros(len(records), dtype=np.float32)
        suspect = np.zeros(len(records), dtype=np.bool_)
    else:
        score = detector.score(records)
        suspect = score >= np.float32(detector.threshold)
    if rules is None or records.is_empty():
        matched = pl.Series("rules", [], dtype=pl.List(pl.String())).extend_constant([], len(records))
    else:
        matched = rules.match(stream.name, records).alias("rules")
        suspect = suspect | _alone(matched, rules.thresholds)
    added = [
        pl.Series("score", score, dtype=pl.Float32),
        pl.Series("prediction", suspect.astype(np.int8), dtype=pl.Int8),
        matched,
        *panel.columns(records),
    ]
    return records.hstack(added)


def _alone(matched: pl.Series, thresholds: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Rows at which a rule matched that needs no other record."""
    rows = with_rules(matched)
    alone = np.zeros(len(matched), dtype=np.bool_)
    if len(rows):
        # Rows that match a rule are few, and a set is quicker than an expression over lists.
        alone[rows] = [not thresholds.issuperset(rules) for rules in matched[rows].to_list()]
    return alone


def _split_future(
    messages: Messages, stream: Stream, decoded: Decoded, latest: float
) -> tuple[pl.DataFrame, pl.DataFrame]:
    records = decoded.records
    limit = round(latest * 1e6)
    event_time = microseconds(records["event_time"])
    if event_time.max(initial=limit) <= limit:
        return records, decoded.rejected
    ahead = pl.Series(event_time > limit)
    return records.filter(~ahead), pl.concat(
        [decoded.rejected, _future_rejected(stream, messages, records.filter(ahead), latest)]
    )


def _future_rejected(stream: Stream, messages: Messages, ahead: pl.DataFrame, latest: float) -> pl.DataFrame:
    """A clock far ahead must not close every window: such records are kept raw, with the reason."""
    lines = messages.payload.split(b"\n")
    numbers = np.searchsorted(messages.offsets, ahead["offset"].to_numpy())
    reason = "event time is too far ahead of the clock"
    found = [
        Rejection(number, index, reason, lines[number])
        for number, index in zip(numbers.tolist(), ahead["index"].to_list(), strict=True)
    ]
    return rejected_rows(stream.name, found, messages)
