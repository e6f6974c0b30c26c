"""Alerts as OCSF Detection Findings: https://schema.ocsf.io/1.5.0/classes/detection_finding."""

from __future__ import annotations

from typing import Any

from hackwatch.alerts.alert import Alert, Kind
from hackwatch.alerts.forms.text import summary
from hackwatch.alerts.forms.values import (
    milliseconds,
    objects,
    plain,
    present,
    product_version,
    rest,
    stream_of,
    tactic_of,
)
from hackwatch.words import SEVERITIES

__all__ = ["OCSF_VERSION", "ocsf"]

OCSF_VERSION = "1.5.0"
#: OCSF analytic type of each kind of alert.
_ANALYTICS: dict[Kind, tuple[int, str]] = {
    "rule": (1, "Rule"),
    "window": (3, "Statistical"),
    "attack": (4, "Learning (ML/DL)"),
    "anomaly": (4, "Learning (ML/DL)"),
    "system": (99, "system"),
}
#: What OCSF asks of an object beside what the records say of it.
_REQUIRED = {name: {"type_id": 0, "type": "Unknown"} for name in ("device", "file")}


def ocsf(alert: Alert) -> dict[str, Any]:
    """An OCSF Detection Finding (class 2004), activity Create; what OCSF has no place for is under `unmapped`."""
    severity = SEVERITIES.index(alert.severity) + 1
    stream = stream_of(alert)
    evidence: dict[str, Any] = {"data": plain(alert.evidence)}
    if stream is not None:
        evidence |= objects(alert, stream, stream.events.ocsf, _REQUIRED)
    return {
        "activity_id": 1,
        "activity_name": "Create",
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "type_uid": 200401,
        "type_name": "Detection Finding: Create",
        "severity_id": severity,
        "severity": alert.severity.capitalize(),
        "status_id": 1,
        "status": "New",
        "is_alert": True,
        "time": milliseconds(alert.created),
        "start_time": milliseconds(alert.first_seen),
        "end_time": milliseconds(alert.last_seen),
        "count": alert.count,
        "message": alert.title,
        "risk_score": alert.risk,
        "metadata": {
            "version": OCSF_VERSION,
            "uid": alert.id,
            "product": {"name": "hackwatch", "vendor_name": "hackwatch", "version": product_version()},
        },
        "finding_info": _finding(alert),
        "resources": [{"name": alert.entity, "type": stream.events.resource if stream else alert.stream}],
        "evidences": [evidence],
        "unmapped": {"hackwatch": rest(alert)},
    }


def _finding(alert: Alert) -> dict[str, Any]:
    analytic, analytic_name = _ANALYTICS[alert.kind]
    return {
        "uid": alert.id,
        "title": alert.title,
        "desc": summary(alert),
        "types": [alert.kind],
        "created_time": milliseconds(alert.created),
        "first_seen_time": milliseconds(alert.first_seen),
        "last_seen_time": milliseconds(alert.last_seen),
        "data_sources": [alert.stream],
        "analytic": {"uid": alert.rule, "name": alert.rule, "type_id": analytic, "type": analytic_name},
        "attacks": _attacks(alert),
    }


def _attacks(alert: Alert) -> list[dict[str, Any]]:
    technique, _, sub = (alert.technique or "").partition(".")
    uid, name = tactic_of(alert)
    attack = present(
        tactic=present(uid=uid, name=name),
        technique=present(uid=technique),
        sub_technique=present(uid=alert.technique if sub else None),
    )
    return [attack] if attack else []
