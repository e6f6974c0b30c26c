"""The published schemas of OCSF and ECS, and alerts held against them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema  # type: ignore[import-untyped]  # no types

from hackwatch.alerts.alert import Alert
from hackwatch.alerts.forms import OCSF_VERSION, encode

__all__ = ["PUBLISHED_OCSF", "valid_ecs", "valid_ocsf"]

PUBLISHED_OCSF = jsonschema.Draft202012Validator(
    OcsfJsonSchemaEmbedded(get_ocsf_schema(OCSF_VERSION)).get_class_schema("detection_finding")
)
_ECS_FIELDS = json.loads((Path(__file__).parent / "ecs_fields.json").read_text())["fields"]
_ECS_TYPES = {"string": str, "number": int | float, "string | Array<string>": str | list}


def valid_ocsf(sent: Alert) -> dict[str, Any]:
    """An alert as a Detection Finding, which the schema allows."""
    document: dict[str, Any] = json.loads(encode(sent, "ocsf"))
    PUBLISHED_OCSF.validate(document)
    return document


def valid_ecs(sent: Alert) -> dict[str, Any]:
    """An alert in ECS; all fields but our own are published ones of the right types."""
    document: dict[str, Any] = json.loads(encode(sent, "ecs"))
    for field, value in _flat(document):
        if not field.startswith("hackwatch."):
            assert isinstance(value, _ECS_TYPES[_ECS_FIELDS[field]]), field
    return document


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
