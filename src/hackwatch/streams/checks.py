"""Whether a declaration is complete: all that is wrong with it at once, each with what to write."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import polars as pl

from hackwatch.streams.declarations import (
    Aggregate,
    Correlation,
    Count,
    Distinct,
    Enricher,
    Family,
    Panel,
    Quantile,
    Share,
    StatefulEnricher,
    Sum,
    Top,
)
from hackwatch.streams.exact import PARTS
from hackwatch.streams.fields import Kind
from hackwatch.streams.stream import POSITION, Stream

__all__ = ["FEEDS", "RESERVED", "aggregate_problems", "correlation_problems", "family_problems", "stream_problems"]

#: Columns that the pipeline adds to every record.
RESERVED = frozenset(
    {
        *POSITION,
        *("score", "prediction", "rules", "model", "late", "processing_time"),
        *("topic", "epoch", "date", "site", "key", "label", "type"),
    }
)
#: Columns that every aggregate has beside its keys and measures.
AGGREGATE_COLUMNS = frozenset({"source", "start", "end", "final"})
#: Keys that a panel shows, and characters of its title, at the most: a screen of 80 columns holds more than that.
MOST_KEYS, LONGEST_TITLE = 20, 40
#: Commands of `hackwatch feed` that feed any stream.
FEEDS = ("follow", "replay", "simulate")
_REFERENCE = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")
_COMMAND = re.compile(r"[a-z][a-z0-9-]*")
_TIME = pl.Datetime("us", "UTC")
_STRING = pl.String()


def stream_problems(stream: Stream) -> list[str]:
    """What is wrong with a stream; empty if nothing is."""
    return list(_stream_problems(stream))


def _stream_problems(stream: Stream) -> Iterator[str]:
    schema = stream.schema
    if not stream.name.isidentifier() or stream.name == "table":  # logged versions of tables are named so
        yield f"name: {stream.name!r} is no name of a table; use letters, digits and underscores"
    if schema.get("event_time") != _TIME:
        yield "schema: a column event_time of type Datetime('us', 'UTC') is missing: when the record happened"
    if taken := sorted(RESERVED & set(schema)):
        yield f"schema: {', '.join(taken)}: these names are the pipeline's own; name the columns otherwise"
    for role, why in (
        ("entity", "whom a record is about"),
        ("subject", "what an alert names within the entity"),
        ("identity", "what distinct suspects are counted by"),
        ("source", "whose clock stamped a record, or None for that of the partition"),
    ):
        column = getattr(stream, role)
        if column is None and role == "source":
            continue
        if column not in schema:
            yield f"{role}: there is no column {column!r}; name the one that says {why}"
        elif schema[column] != _STRING:
            yield f"{role}: {column!r} is {schema[column]}; it must be a text (String)"
    for what, named in (
        ("features", stream.features.columns),
        ("identifiers", stream.identifiers),
        ("bounded", stream.bounded),
        ("units", tuple(stream.units)),
        ("events.ecs", tuple(stream.events.ecs)),
        ("events.ocsf", tuple(stream.events.ocsf)),
    ):
        if unknown := [name for name in named if name not in schema]:
            yield f"{what}: {', '.join(map(repr, unknown))}: no such column; take them out or correct them"
    if both := sorted(set(stream.features.columns) & set(stream.identifiers)):
        yield f"features: {', '.join(both)}: identifiers say who and when, so no model may look at them"
    for column in (*stream.features.text, *stream.features.limited):
        if stream.schema.get(column, _STRING) != _STRING:
            yield f"features: {column!r} is {schema[column]}; text and limited categories are of texts (String)"
    for column in (column for column, most in stream.features.limited.items() if most < 1):
        yield f"features: {column!r}: a limited vocabulary holds at least 1 category"
    if twice := _twice(list(stream.features.columns)):
        yield f"features: {', '.join(twice)}: of two kinds; leave each column one kind"
    if not (stream.noun.singular and stream.noun.plural):
        yield 'noun: say what people call an entity: Noun("client", "clients")'
    yield from _reading_problems(stream)


def _reading_problems(stream: Stream) -> Iterator[str]:
    """What is wrong with how its messages are read."""
    fields = {item.name: item for item in stream.fields}
    if unbounded := [name for name, item in fields.items() if item.is_bounded and math.isinf(item.high - item.low)]:
        yield f"fields: {', '.join(unbounded)}: say which values are possible: low and high"
    if fields and (unknown := [name for name in stream.defaults if name not in fields]):
        yield f"defaults: {', '.join(map(repr, unknown))}: no such field; take them out or correct them"
    for what, names in (
        ("formats", [one.name for one in stream.formats]),
        ("options", [one.name for one in stream.options]),
    ):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            yield f"{what}: {', '.join(twice)}: declared twice; give each a name of its own"
    if any(one.columns is not None for one in stream.formats) and not any(
        item.name not in PARTS and not item.optional for item in fields.values()
    ):
        yield f"fields: one that every record has, beside {', '.join(PARTS)}, must tell a record from an envelope"
    yield from _pace_problems(stream)


def _pace_problems(stream: Stream) -> Iterator[str]:
    """What is wrong with how its recordings are replayed."""
    pace, fields = stream.pace, {item.name: item for item in stream.fields}
    if pace is None:
        return
    if pace.seconds <= 0 or not 0 <= pace.least <= pace.most or pace.late < 0:
        yield "pace: more than 0 seconds; least and late from 0, most from least"
    if pace.order is not None and pace.order not in fields:
        yield f"pace: order: there is no field {pace.order!r}; name the one that numbers rows, or None"
    if not any(item.kind in (Kind.TIME, Kind.MOMENT) for item in fields.values()):
        yield "pace: no field is a time (Kind.TIME or Kind.MOMENT), by which records are stamped again"


def family_problems(family: Family, stream: Callable[[str], Stream | None]) -> list[str]:
    """What is wrong with a family. `stream`: a registered stream by name, None if there is none."""
    found = []
    for name in family.streams:
        if stream(name) is None:
            found.append(f"streams: there is no stream {name!r}; register it as an entry point of hackwatch.streams")
    for correlation in family.correlations:
        found += correlation_problems(correlation, stream)
    for aggregate in family.aggregates:
        found += aggregate_problems(aggregate, stream(aggregate.stream))
    for panel in family.panels:
        found += _panel_problems(panel, family.aggregates)
    for enricher in family.enrichers:
        found += _enricher_problems(enricher, stream(enricher.stream))
    filled = [f"{enricher.stream}.{name}" for enricher in family.enrichers for name in enricher.adds]
    found += [f"{name}: two enrichers add it; leave it to one" for name in _twice(filled)]
    named = [correlation.name for correlation in family.correlations]
    named += [f"enricher {enricher.stream}.{enricher.name}" for enricher in family.enrichers]
    named += [f"{aggregate.stream}.{aggregate.name}" for aggregate in family.aggregates]
    named += [f"panel {panel.name}" for panel in family.panels]
    found += [f"{name}: declared twice; give each a name of its own" for name in _twice(named)]
    return [*found, *_program_problems(family)]


def _program_problems(family: Family) -> Iterator[str]:
    """What is wrong with what a family names of its programs: it is not loaded for that."""
    references = {f"collector {name}": reference for name, reference in family.collectors.items()}
    for what, reference in {"simulator": family.simulator, **references}.items():
        if reference is not None and not _REFERENCE.fullmatch(reference):
            yield f'{what}: {reference!r} names no object; write "module:name"'
    if family.rules is not None and not all(family.rules.partition(":")):
        yield f'rules: {family.rules!r} names no file; write "package:file"'
    for name in family.collectors:
        if name in FEEDS or not _COMMAND.fullmatch(name):
            yield f"collector {name!r}: name a command of small letters, digits and -, none of: {', '.join(FEEDS)}"
    if family.watch is not None and family.watch not in family.collectors:
        yield f"watch: there is no collector {family.watch!r}; name one of `collectors`"
    if family.demo and family.simulator is None:
        yield "demo: there is nothing to show without a simulator"


def _twice(names: list[str]) -> list[str]:
    return sorted(name for name, times in Counter(names).items() if times > 1)


def correlation_problems(correlation: Correlation, stream: Callable[[str], Stream | None]) -> list[str]:
    """What is wrong with a correlation."""
    where = f"correlation {correlation.name}"
    sides = {name: stream(name) for name in (correlation.left, correlation.right)}
    found = [f"{where}: there is no stream {name!r}" for name, side in sides.items() if side is None]
    if correlation.left == correlation.right:
        found.append(f"{where}: both sides are {correlation.left!r}; a correlation joins two streams")
    if not correlation.name.isidentifier() or stream(correlation.name) is not None:
        found.append(f"{where}: the name is that of its table: letters, digits, underscores, and no stream's name")
    if correlation.seconds <= 0:
        found.append(f"{where}: seconds must be greater than 0")
    if not correlation.keys:
        found.append(f"{where}: keys: name at least one column that both streams have")
    left, right = sides[correlation.left], sides[correlation.right]
    for key in correlation.keys if left is not None and right is not None else ():
        kinds = [side.schema.get(key) for side in (left, right) if side is not None]
        if kinds[0] is None or kinds[0] != kinds[1]:
            found.append(
                f"{where}: keys: {key!r} is not a column of the same type in both streams ({kinds[0]}, {kinds[1]})"
            )
    return found


def aggregate_problems(aggregate: Aggregate, stream: Stream | None) -> list[str]:
    """What is wrong with an aggregate of a stream."""
    where = f"aggregate {aggregate.name}"
    if stream is None:
        return [f"{where}: there is no stream {aggregate.stream!r}"]
    columns = {*stream.schema, "score", "prediction"}
    found = [f"{where}: keys: {stream.name} has no column {key!r}" for key in aggregate.keys if key not in columns]
    names = [measure.name for measure in aggregate.measures]
    if not names:
        found.append(f"{where}: measures: name at least one, such as Count('records')")
    found += [f"{where}: two measures are called {name!r}" for name in sorted(set(names)) if names.count(name) > 1]
    for measure in aggregate.measures:
        column = getattr(measure, "column", None)
        if column is not None and column not in columns:
            found.append(f"{where}: {measure.name}: {stream.name} has no column {column!r}")
        for condition in (measure.where, measure.of if isinstance(measure, Share) else None):
            found += _condition_problems(f"{where}: {measure.name}", condition, stream)
    found += _condition_problems(where, aggregate.where, stream)
    if aggregate.seconds < 1 or aggregate.limit < 1:
        found.append(f"{where}: seconds and limit must be at least 1")
    if taken := sorted(AGGREGATE_COLUMNS & {*aggregate.keys, *names}):
        found.append(f"{where}: {', '.join(taken)}: every aggregate has such columns; name these otherwise")
    if aggregate.outliers is not None and aggregate.outliers.measure not in names:
        found.append(f"{where}: outliers: there is no measure {aggregate.outliers.measure!r}")
    for measure in aggregate.measures:
        judged = aggregate.outliers is not None and aggregate.outliers.measure == measure.name
        if judged and isinstance(measure, Top | Quantile):
            found.append(f"{where}: outliers: {measure.name!r} is a list; name a measure that is one number")
    return found


def _panel_problems(panel: Panel, aggregates: Sequence[Aggregate]) -> Iterator[str]:
    """What is wrong with a panel of one of a family's aggregates."""
    where = f"panel {panel.name}"
    if not 1 <= panel.top <= MOST_KEYS:
        yield f"{where}: top: {panel.top} keys cannot be shown; name 1 to {MOST_KEYS}"
    if not 1 <= len(panel.title) <= LONGEST_TITLE:
        yield f"{where}: title: say in 1 to {LONGEST_TITLE} characters what is shown"
    named = [one for one in aggregates if (one.stream, one.name) == (panel.stream, panel.aggregate)]
    if not named:
        yield f"{where}: the family has no aggregate {panel.aggregate!r} of {panel.stream!r}"
        return
    measure = next((one for one in named[0].measures if one.name == panel.measure), None)
    if measure is None:
        yield f"{where}: the aggregate {panel.aggregate!r} has no measure {panel.measure!r}"
    elif not isinstance(measure, Count | Sum | Distinct):
        yield f"{where}: {panel.measure!r} does not add up over sources; name a Count, Sum or Distinct"


def _condition_problems(where: str, condition: str | None, stream: Stream) -> list[str]:
    if condition is None:
        return []
    empty = pl.DataFrame(schema={**stream.schema, "score": pl.Float32(), "prediction": pl.Int8()})
    try:
        kind = empty.select(pl.sql_expr(condition)).to_series().dtype
    except Exception as error:  # Polars and its SQL parser raise what they like
        return [f"{where}: the condition {condition!r} is not understood: {error}"]
    return [] if kind == pl.Boolean() else [f"{where}: {condition!r} is no condition but a value of type {kind}"]


def _enricher_problems(enricher: Enricher | StatefulEnricher, stream: Stream | None) -> list[str]:
    where = f"enricher {enricher.name}"
    if stream is None:
        return [f"{where}: there is no stream {enricher.stream!r}"]
    found = [] if enricher.name.isidentifier() else [f"{where}: use letters, digits and underscores for the name"]
    if not enricher.adds:
        found.append(f"{where}: adds: name the columns that it fills")
    for name, kind in enricher.adds.items():
        if name not in stream.schema:
            found.append(f"{where}: adds {name!r}, which the stream's schema does not declare")
        elif stream.schema[name] != kind:
            found.append(f"{where}: adds {name!r} as {kind}, in the stream's schema it is {stream.schema[name]}")
        elif name == "event_time":
            found.append(f"{where}: adds 'event_time': the decoder itself must give it")
    return found
