"""Walks the tables of the settings and of given values side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hackwatch.config.key_lines import KeyPath
from hackwatch.config.routes import ROUTE_TYPES

__all__ = ["Place", "nested_model", "tables"]


@dataclass(frozen=True, slots=True)
class Place:
    """One table: where it is, the fields it may have, and the values given for them (changes reach the caller's)."""

    path: KeyPath
    fields: Mapping[str, FieldInfo]
    values: dict[str, Any]


def tables(model: type[BaseModel], values: dict[str, Any], path: KeyPath = ()) -> Iterator[Place]:
    """Every table of the model that exists without being named, and every one that the values name."""
    yield Place(path, model.model_fields, values)
    for name, info in model.model_fields.items():
        given = values.get(name)
        if (nested := nested_model(info)) is not None and not isinstance(info.annotation, type):
            for key, item in given.items() if isinstance(given, dict) else ():
                if isinstance(item, dict):
                    yield from tables(nested, item, (*path, name, key))
        elif nested is not None:
            yield from tables(nested, given if isinstance(given, dict) else {}, (*path, name))
        elif name == "routes" and isinstance(given, list):
            for number, item in enumerate(given):
                kind = item.get("type") if isinstance(item, dict) else None
                if isinstance(kind, str) and kind in ROUTE_TYPES:
                    yield from tables(ROUTE_TYPES[kind], item, (*path, name, number))


def nested_model(info: FieldInfo) -> type[BaseModel] | None:
    """The table that a field holds: directly, or as the values of a mapping by name."""
    kind = info.annotation
    if get_origin(kind) is dict:
        kind = get_args(kind)[1]
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
