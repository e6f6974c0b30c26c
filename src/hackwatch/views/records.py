"""Records of the lake: pages of those of an entity, those around an alert, and the last ones of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import polars as pl

from hackwatch import streams
from hackwatch.alerts.alert import Alert
from hackwatch.errors import DataError
from hackwatch.lake import Lake
from hackwatch.streams.stream import POSITION, Stream
from hackwatch.views.pages import Page, cursor_of, key_of, page_size
from hackwatch.views.sql import Tables, literal, query

__all__ = ["Record", "around", "latest", "records"]

#: The order of records: by time, those of one time by where they came from.
_ORDER = ("event_time", *POSITION)


@dataclass(frozen=True, slots=True)
class Record:
    """A scored record. `values`: all its columns; `event_time`: Unix seconds UTC; `causes`: raised the alert."""

    stream: str
    event_time: float
    values: Mapping[str, Any]
    causes: bool = False


def records(
    tables: Tables, stream: Stream, *, entity: str | None = None, since: float | None = None,
    until: float | None = None, limit: int = 100, cursor: str | None = None,
) -> Page[Record]:  # fmt: skip
    """Records with `since <= event time < until`, the oldest first. DataError if the stream has no table yet."""
    after = key_of(f"records of {stream.name}", cursor, int, int, int, int)
    conditions, size = [_since(since), _until(until), _after(after)], page_size(limit)
    conditions.append(None if entity is None else f"{_quoted(stream.entity)} = ?")
    where = " AND ".join(condition for condition in conditions if condition) or "true"
    order = ", ".join(map(_quoted, _ORDER))
    text = f"SELECT * FROM {_quoted(stream.name)} WHERE {where} ORDER BY {order} LIMIT {size + 1}"
    with query(tables, text, () if entity is None else (entity,)) as answer:
        names = answer.names
        rows = [dict(zip(names, row, strict=True)) for row in answer.rows()]
    found = tuple(Record(stream.name, row["event_time"].timestamp(), row) for row in rows[:size])
    if len(rows) <= size:
        return Page(found)
    last = rows[size - 1]
    key = (_microseconds(last["event_time"]), *(last[name] for name in POSITION))
    return Page(found, cursor_of(f"records of {stream.name}", key))


def around(
    tables: Tables, alert: Alert, *, seconds: float = 60.0, limit: int = 100, cursors: Mapping[str, str] | None = None
) -> dict[str, Page[Record]]:
    """What its entity did from so many seconds before an alert's first record to as many after its last, by stream.

    For an alert of hackwatch about itself nothing. `cursors`: of the pages before, by stream.
    """
    names = [] if alert.kind == "system" else alert.stream.split("+")
    found: dict[str, Page[Record]] = {}
    for place, stream in enumerate(map(streams.find, names)):
        if stream is None or stream.name not in tables.of_lake:
            continue
        page = records(
            tables, stream, entity=alert.entity, since=alert.first_seen - seconds, until=alert.last_seen + seconds,
            limit=limit, cursor=(cursors or {}).get(stream.name),
        )  # fmt: skip
        # Of a correlation the causes are one of each stream, in their order.
        causes = alert.causes if len(names) == 1 else alert.causes[place : place + 1]
        marks = {(cause.partition, cause.offset, cause.index) for cause in causes}
        found[stream.name] = Page(tuple(_marked(record, marks) for record in page), page.next)
    return found


def latest(lake: Lake, stream: Stream, most: int) -> pl.DataFrame:
    """The last `most` records of a stream's table, by event time; with the truth, where somebody has added it."""
    if stream.name not in lake.tables():
        raise DataError(
            f"the lake has no records of {stream.name} yet",
            where=lake.location,
            next_step="run the engine for a while (hackwatch watch, or feed and run)",
        )
    scan = lake.scan(stream.name)
    with lake.reading():
        known = scan.collect_schema()
        wanted = [*stream.schema, *(name for name in ("score", "prediction", "label", "type") if name in known)]
        return scan.select(wanted).top_k(most, by="event_time").collect().sort("event_time")


def _marked(record: Record, causes: set[tuple[Any, ...]]) -> Record:
    return replace(record, causes=tuple(record.values[name] for name in POSITION) in causes)


def _since(seconds: float | None) -> str | None:
    return None if seconds is None else f"event_time >= {_moment(round(seconds * 1e6))}"


def _until(seconds: float | None) -> str | None:
    return None if seconds is None else f"event_time < {_moment(round(seconds * 1e6))}"


def _after(key: tuple[Any, ...] | None) -> str | None:
    """Behind a key. Said of the time alone too: only so are files skipped."""
    if key is None:
        return None
    places = ", ".join(map(_quoted, _ORDER))
    at, *position = key
    return f"event_time >= {_moment(at)} AND ({places}) > ({_moment(at)}, {', '.join(map(str, position))})"


def _moment(microseconds: int) -> str:
    at = datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)
    return f"TIMESTAMPTZ {literal(at.isoformat())}"


def _microseconds(moment: datetime) -> int:
    return round(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
