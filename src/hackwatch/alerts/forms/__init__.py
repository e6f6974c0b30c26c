"""The forms in which alerts leave hackwatch: its own, OCSF Detection Finding, Elastic Common Schema, and text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from hackwatch.alerts.alert import Alert
from hackwatch.alerts.forms.ecs import ECS_VERSION, ecs
from hackwatch.alerts.forms.ocsf import OCSF_VERSION, ocsf
from hackwatch.alerts.forms.text import summary, text
from hackwatch.alerts.forms.values import plain
from hackwatch.words import Form

__all__ = ["ECS_VERSION", "FORMS", "OCSF_VERSION", "Form", "ecs", "encode", "native", "ocsf", "summary", "text"]


def native(alert: Alert) -> dict[str, Any]:
    """Every field of the alert under its own name; times are Unix seconds UTC."""
    return {field.name: plain(getattr(alert, field.name)) for field in fields(alert)}


#: Form -> the function that makes it.
FORMS: Mapping[Form, Callable[[Alert], dict[str, Any]]] = {"native": native, "ocsf": ocsf, "ecs": ecs}


def encode(alert: Alert, form: Form = "native") -> str:
    """The alert as one line of JSON in pure ASCII: nothing that an attacker named can steer a terminal."""
    document = json.dumps(plain(FORMS[form](alert)), ensure_ascii=True, allow_nan=False)
    return document.replace("\x7f", "\\u007f")
