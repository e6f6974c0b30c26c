"""What is declared about streams beside themselves: aggregates, panels, correlations, enrichers, and their family.

Declarations are data: general code asks them and knows no stream by name. `hackwatch.streams.checks` refuses what is
incomplete. Conditions are SQL over the columns of the scored records: the stream's own, `score`, `prediction`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from hackwatch.streams.stream import Stream

__all__ = [
    "SUSPECT",
    "WINDOWS",
    "Aggregate",
    "Correlation",
    "Count",
    "Distinct",
    "Enricher",
    "EnricherState",
    "Family",
    "Mean",
    "Measure",
    "Outliers",
    "Panel",
    "Quantile",
    "Share",
    "StatefulEnricher",
    "Sum",
    "Top",
    "windows_of",
]

#: The condition of a suspect.
SUSPECT = "prediction = 1"
#: The aggregate that every stream has: `windows_of`.
WINDOWS = "windows"


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows. Integer."""

    name: str
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of a numeric column; nulls are left out. Float, 0 without rows."""

    name: str
    column: str
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a numeric column; nulls are left out. Float, null without rows."""

    name: str
    column: str
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """The share of the rows, 0..1, for which a condition holds. Float, null without rows."""

    name: str
    of: str
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Distinct:
    """How many distinct values of a column: exact up to `exact`, then a HyperLogLog estimate (standard error 0.8 %)."""

    name: str
    column: str
    where: str | None = None
    exact: int = 4096


@dataclass(frozen=True, slots=True)
class Top:
    """The most frequent values of a column with their numbers, and under null what all others sum to.

    A list of {value, count}. Up to `exact` values are counted exactly, beyond that estimated from below.
    """

    name: str
    column: str
    most: int = 10
    where: str | None = None
    exact: int = 1024


@dataclass(frozen=True, slots=True)
class Quantile:
    """Quantiles of a numeric column at `at` (0..1) by a KLL sketch (rank error about 1.3 %). A list of floats."""

    name: str
    column: str
    at: tuple[float, ...] = (0.5, 0.95, 0.99)
    where: str | None = None


Measure = Count | Sum | Mean | Share | Distinct | Top | Quantile


@dataclass(frozen=True, slots=True)
class Outliers:
    """How an aggregate is scored: a final value of `measure` that stands out against the key's own history alerts.

    `rule`: the id of the alert's rule; `title` may name {value}, {entity}, {seconds} and {usual}.
    """

    measure: str
    rule: str
    title: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Measures per key and tumbling interval of event time `[start, start + seconds)`, aligned to the Unix epoch.

    `keys`: columns; the first one that is the stream's entity names whom an alert is about. `where`: which rows count.
    `limit`: keys kept for each source; beyond, the least active fall into one whose keys are null, which is counted.
    """

    name: str
    stream: str
    keys: tuple[str, ...]
    measures: tuple[Measure, ...]
    seconds: int = 120
    where: str | None = None
    limit: int = 100_000
    outliers: Outliers | None = None


def windows_of(stream: Stream, seconds: int = 120) -> Aggregate:
    """The windows of a stream: records, suspects, and the distinct identities among these, of each entity."""
    return Aggregate(
        WINDOWS,
        stream.name,
        (stream.entity,),
        (Count("records"), Count("suspects", SUSPECT), Distinct("count", stream.identity, SUSPECT)),
        seconds,
        outliers=Outliers(
            "count", "anomalous-window", "{value} distinct suspects on {entity} in {seconds} s, usually {usual:g}"
        ),
    )


@dataclass(frozen=True, slots=True)
class Panel:
    """What people see of an aggregate: its keys with the greatest values of one measure, in the newest interval.

    `measure`: a Count, Sum or Distinct, since the values of all sources of a key are added; those that are not above 0
    are left out, as are keys beyond the aggregate's limit. `top`: how many keys, 1 to 20.
    """

    name: str
    title: str
    stream: str
    aggregate: str
    measure: str
    top: int = 5


@dataclass(frozen=True, slots=True)
class Correlation:
    """A join of the suspects of two streams on `keys` (columns of both), less than `seconds` apart in event time.

    `name` is that of its table in the lake. `rule`: the id of its alerts' rule. `title` may name {subject}, {left},
    {right} and {entity}; `subject` and `entity` are those of the left stream. Streams that are correlated, directly or
    through others, share a clock: they are a time group.
    """

    name: str
    left: str
    right: str
    keys: tuple[str, ...]
    seconds: float = 30.0
    rule: str = "correlated-suspects"
    title: str = "{subject} is suspect in {left} and {right} on {entity}"


@dataclass(frozen=True, slots=True, eq=False)
class Enricher:
    """Adds columns to the normalised records of a stream, between normalising and scoring.

    `adds`: columns of the stream's schema, which its decoder leaves out. `apply(records, tables)` is pure: it gives the
    records, as many in the same order, with these columns; of what it gives only they are taken. A record's values must
    not depend on the other records. `tables`: what it looks up, by name. Settings say where each is
    (`[enrichment.tables]`); the runtime opens them, ships them to Spark's tasks, and loads them again when a file has
    changed. Without one of its tables an enricher does not run, and its columns are null.
    """

    name: str
    stream: str
    adds: pl.Schema
    apply: Callable[[pl.DataFrame, Mapping[str, pl.DataFrame]], pl.DataFrame]
    tables: tuple[str, ...] = ()


class EnricherState(Protocol):
    """What a stateful enricher remembers of one partition."""

    def step(self, records: pl.DataFrame) -> pl.DataFrame:
        """The next records of the partition, in offset order, with the columns of `adds` filled (they come null).

        What comes out must not depend on how the records are cut into calls.
        """
        ...

    def snapshot(self) -> bytes:
        """All that `build` needs to go on from here."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class StatefulEnricher:
    """Adds columns that depend on the records before, in offset order of a partition: counts of a window, say.

    `build(snapshot)`: a state for a partition, of a snapshot or from nothing (None); it must bound itself. It comes
    after the pure enrichers and before scoring. Lateness and repeats are judged later: it sees such records too. On
    Spark its columns stay null.
    """

    name: str
    stream: str
    adds: pl.Schema
    build: Callable[[bytes | None], EnricherState]


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """What belongs together because it watches the same thing.

    `streams`: names of registered streams. `panels`: what `top` and others show of its aggregates. What is named as
    "module:name" is loaded only when it is asked for: `simulator` plays it (`hackwatch.feeds.simulator.Simulator`);
    `collectors` see it live (`hackwatch.feeds.collector.Collector`), each under the name of its command of `hackwatch
    feed`. `watch`: the collector, a `LocalCollector`, that `hackwatch watch` and `learn` run. `demo`: whether
    `hackwatch demo` plays it. `rules`: "package:file" of the rules that it ships.
    """

    name: str
    streams: tuple[str, ...]
    correlations: tuple[Correlation, ...] = ()
    aggregates: tuple[Aggregate, ...] = ()
    panels: tuple[Panel, ...] = ()
    enrichers: tuple[Enricher | StatefulEnricher, ...] = field(default=())
    simulator: str | None = None
    collectors: Mapping[str, str] = field(default_factory=dict)
    watch: str | None = None
    demo: bool = False
    rules: str | None = None
