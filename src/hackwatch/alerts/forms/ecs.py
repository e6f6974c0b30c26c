"""Alerts as events of the Elastic Common Schema: https://www.elastic.co/docs/reference/ecs."""

from __future__ import annotations

from typing import Any

from hackwatch.alerts.alert import Alert
from hackwatch.alerts.forms.values import iso, objects, present, product_version, rest, stream_of, tactic_of
from hackwatch.words import SEVERITIES

__all__ = ["ECS_VERSION", "ecs"]

ECS_VERSION = "9.4.0"
#: How the field of an entity ends -> the field of ECS that gathers such names.
_RELATED = {"host.name": "hosts", ".ip": "ip", "user.name": "user", ".domain": "hosts"}


def ecs(alert: Alert) -> dict[str, Any]:
    """An ECS event of kind `alert`; what ECS has no place for is under `hackwatch`, a field set of our own."""
    event = {
        "id": alert.id,
        "kind": "alert",
        "category": ["intrusion_detection"],
        "type": ["info"],
        "module": "hackwatch",
        "dataset": "hackwatch.alert",
        "provider": alert.kind,
        "created": iso(alert.created),
        "start": iso(alert.first_seen),
        "end": iso(alert.last_seen),
        "reason": alert.title,
        "risk_score": float(alert.risk),
        "severity": SEVERITIES.index(alert.severity) + 1,
    }
    document: dict[str, Any] = {
        "@timestamp": iso(alert.last_seen),
        "ecs": {"version": ECS_VERSION},
        "message": alert.title,
        "tags": ["hackwatch"],
        "event": event,
        "rule": {"id": alert.rule, "name": alert.rule, "category": alert.kind, "ruleset": "hackwatch"},
        "observer": {"vendor": "hackwatch", "product": "hackwatch", "type": "ids", "version": product_version()},
        "hackwatch": {**rest(alert), "severity": alert.severity, "entity": alert.entity, "count": alert.count},
    }
    if threat := _threat(alert):
        document["threat"] = threat
    if (stream := stream_of(alert)) is not None:
        field = stream.events.ecs.get(stream.entity, "")
        if (related := next((name for end, name in _RELATED.items() if field.endswith(end)), None)) is not None:
            document["related"] = {related: [alert.entity]}
        document |= objects(alert, stream, stream.events.ecs)
    return document


def _threat(alert: Alert) -> dict[str, Any]:
    technique, _, sub = (alert.technique or "").partition(".")
    uid, name = tactic_of(alert)
    below = present(id=[alert.technique] if sub else None)
    threat = present(
        tactic=present(id=[uid] if uid else None, name=[name] if name else None),
        technique=present(id=[technique] if technique else None, subtechnique=below),
    )
    return {"framework": "MITRE ATT&CK", **threat} if threat else {}
