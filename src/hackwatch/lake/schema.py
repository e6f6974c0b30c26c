"""Polars schemas as Delta schemas: the types of tables, and how they may grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from hackwatch.errors import DataError, InternalError

__all__ = ["PARTITIONS", "conform", "delta_schema", "merge", "polars_schema"]

#: Every table is partitioned by the date of the record (UTC) and the site that saw it.
PARTITIONS = ("date", "site")

_PRIMITIVES: dict[str, pl.DataType] = {
    "boolean": pl.Boolean(),
    "byte": pl.Int8(),
    "short": pl.Int16(),
    "integer": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "string": pl.String(),
    "date": pl.Date(),
    "timestamp": pl.Datetime("us", "UTC"),
}
_NAMES = {kind: name for name, kind in _PRIMITIVES.items()}

DeltaSchema = dict[str, Any]


def delta_schema(schema: Mapping[str, pl.DataType]) -> DeltaSchema:
    """The schema as Delta writes it in its log; every column nullable. InternalError for types it cannot hold."""
    return {"type": "struct", "fields": [_field(name, kind) for name, kind in schema.items()]}


def _field(name: str, kind: pl.DataType) -> dict[str, Any]:
    return {"name": name, "type": _delta_type(name, kind), "nullable": True, "metadata": {}}


def _delta_type(name: str, kind: pl.DataType) -> Any:
    if isinstance(kind, pl.List):
        element = _delta_type(name, pl.String() if kind.inner == pl.Null() else kind.inner)  # type: ignore[arg-type]
        return {"type": "array", "elementType": element, "containsNull": True}
    if kind not in _NAMES:
        raise InternalError(f"the lake has no type for column {name} of type {kind}")
    return _NAMES[kind]


def polars_schema(schema: DeltaSchema) -> pl.Schema:
    """The schema of a Delta log as Polars sees the table."""
    return pl.Schema({field["name"]: _polars_type(field["type"]) for field in schema["fields"]})


def _polars_type(kind: Any) -> pl.DataType:
    if isinstance(kind, dict) and kind.get("type") == "array":
        return pl.List(_polars_type(kind["elementType"]))
    if isinstance(kind, str) and kind in _PRIMITIVES:
        return _PRIMITIVES[kind]
    raise DataError(f"a column of the type {kind} is not one of hackwatch", next_step="use another lake folder")


def merge(known: DeltaSchema, frame: Mapping[str, pl.DataType], where: str) -> DeltaSchema | None:
    """The table's schema with the columns of the frame that are new at its end; None if there are none.

    Raises DataError when a column has another type than in the table, or another case of a known name, which
    engines that ignore case could not tell apart.
    """
    types = polars_schema(known)
    problems = [
        f"{name}: {types[name]} in the table, {kind} now"
        for name, kind in frame.items()
        if name in types and kind != types[name]
    ]
    new = [_field(name, kind) for name, kind in frame.items() if name not in types]
    folded = {name.casefold(): name for name in types}
    for field in new:
        other = folded.setdefault(field["name"].casefold(), field["name"])
        if other != field["name"]:
            problems.append(f"{field['name']}: differs from {other} only by case")
    if problems:
        raise DataError(
            "the records do not fit the table: " + "; ".join(problems),
            where=where,
            next_step="move the table away to begin a new one, or go back to the version that wrote it",
        )
    return {**known, "fields": [*known["fields"], *new]} if new else None


def conform(frame: pl.DataFrame, known: DeltaSchema | None) -> pl.DataFrame:
    """The frame without columns that hold nothing of any type: those of the type Null, unless the table knows one."""
    untyped = [name for name, kind in frame.schema.items() if kind == pl.Null()]
    if not untyped:
        return frame
    types: Mapping[str, pl.DataType] = polars_schema(known) if known else {}
    typed = [pl.col(name).cast(types[name]) for name in untyped if name in types]
    return frame.with_columns(typed).drop(_missing(untyped, types))


def _missing(names: Sequence[str], types: Mapping[str, pl.DataType]) -> list[str]:
    return [name for name in names if name not in types]
