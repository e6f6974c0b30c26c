"""What the forms of alerts share: values as JSON knows them, and what a record says under the names of a standard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import polars as pl

from hackwatch import streams
from hackwatch.alerts.alert import Alert
from hackwatch.detect.rules import TACTICS
from hackwatch.streams.stream import Stream

__all__ = ["iso", "milliseconds", "objects", "plain", "present", "product_version", "rest", "stream_of", "tactic_of"]


def rest(alert: Alert) -> dict[str, Any]:
    """What the other forms have no place for."""
    names = ("kind", "stream", "site", "subject", "drivers", "evidence", "causes", "models")
    return {name: plain(getattr(alert, name)) for name in names}


def stream_of(alert: Alert) -> Stream | None:
    """The stream whose records caused an alert, of a correlation the left one; None for hackwatch's own alerts."""
    return None if alert.kind == "system" else streams.find(alert.stream.partition("+")[0])


def objects(
    alert: Alert, stream: Stream, places: Mapping[str, str], required: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The values of an alert's record at dotted places; `required`: what an object of that name must have besides."""
    found: dict[str, Any] = {}
    for column, place in places.items():
        value = alert.entity if column == stream.entity else _value(alert, stream, column)
        if value is None:
            continue
        *parents, name = place.split(".")
        inner = found
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    for name, more in (required or {}).items():
        if name in found:
            found[name] |= more
    return found


def _value(alert: Alert, stream: Stream, column: str) -> Any:
    """What the record had in a column, if it is of the column's type; a pair has its sides' columns under prefixes."""
    value = alert.evidence.get(column, alert.evidence.get(f"{stream.name}_{column}"))
    kind = stream.schema[column]
    wanted = str if kind == pl.String() else bool if kind == pl.Boolean() else int if kind.is_integer() else float
    return value if isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)) else None


def tactic_of(alert: Alert) -> tuple[str | None, str | None]:
    """The id and the name of an alert's ATT&CK tactic; one that is not ATT&CK's has a name only."""
    return TACTICS.get(alert.tactic or "", (None, alert.tactic))


def present(**values: Any) -> dict[str, Any]:
    """Those of the values that say something."""
    return {name: value for name, value in values.items() if value}


def plain(value: Any) -> Any:
    """As JSON knows it: NaN and infinity become null, times ISO 8601, anything unknown its text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        # Half a surrogate pair is no Unicode text: strict readers would refuse the whole message.
        return value.encode(errors="backslashreplace").decode()
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else str(value)


def milliseconds(seconds: float) -> int:
    """Unix seconds as whole milliseconds."""
    return round(seconds * 1000)


def iso(seconds: float) -> str:
    """Unix seconds as ISO 8601 in UTC, to the millisecond.

    >>> iso(1_700_000_000.25)
    '2023-11-14T22:13:20.250Z'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(maxsize=1)
def product_version() -> str:
    """The version of hackwatch that is installed."""
    return version("hackwatch")
