"""The forms in which alerts leave hackwatch: its own, OCSF Detection Finding, Elastic Common Schema, and text.

OCSF 1.5.0: https://schema.ocsf.io/1.5.0/classes/detection_finding. ECS: https://www.elastic.co/docs/reference/ecs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Literal

import polars as pl

from hackwatch import streams
from hackwatch.alerts.alert import SEVERITIES, Alert
from hackwatch.detect.rules import TACTICS
from hackwatch.streams.base import Stream
from hackwatch.text import printable

__all__ = ["ECS_VERSION", "FORMS", "OCSF_VERSION", "Form", "ecs", "encode", "native", "ocsf", "summary", "text"]

Form = Literal["native", "ocsf", "ecs"]

OCSF_VERSION = "1.5.0"
ECS_VERSION = "9.4.0"
#: OCSF analytic type of each kind of alert.
_ANALYTICS = {"rule": (1, "Rule"), "window": (3, "Statistical"), "attack": (4, "Learning (ML/DL)")}
#: What OCSF asks of an object beside what the records say of it.
_OCSF_REQUIRED = {name: {"type_id": 0, "type": "Unknown"} for name in ("device", "file")}
#: How the field of an entity ends -> the field of ECS that gathers such names.
_ECS_RELATED = {"host.name": "hosts", ".ip": "ip", "user.name": "user", ".domain": "hosts"}
_ANALYTICS |= {"anomaly": (4, "Learning (ML/DL)"), "system": (99, "system")}


def native(alert: Alert) -> dict[str, Any]:
    """Every field of the alert under its own name; times are Unix seconds UTC."""
    return {field.name: _plain(getattr(alert, field.name)) for field in fields(alert)}


def ocsf(alert: Alert) -> dict[str, Any]:
    """An OCSF Detection Finding (class 2004), activity Create; what OCSF has no place for is under `unmapped`."""
    severity = SEVERITIES.index(alert.severity) + 1
    stream = _stream(alert)
    evidence: dict[str, Any] = {"data": _plain(alert.evidence)}
    if stream is not None:
        evidence |= _objects(alert, stream, stream.events.ocsf, _OCSF_REQUIRED)
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
        "time": _milliseconds(alert.created),
        "start_time": _milliseconds(alert.first_seen),
        "end_time": _milliseconds(alert.last_seen),
        "count": alert.count,
        "message": alert.title,
        "risk_score": alert.risk,
        "metadata": {
            "version": OCSF_VERSION,
            "uid": alert.id,
            "product": {"name": "hackwatch", "vendor_name": "hackwatch", "version": _version()},
        },
        "finding_info": _ocsf_finding(alert),
        "resources": [{"name": alert.entity, "type": stream.events.resource if stream else alert.stream}],
        "evidences": [evidence],
        "unmapped": {"hackwatch": _rest(alert)},
    }


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
        "created": _iso(alert.created),
        "start": _iso(alert.first_seen),
        "end": _iso(alert.last_seen),
        "reason": alert.title,
        "risk_score": float(alert.risk),
        "severity": SEVERITIES.index(alert.severity) + 1,
    }
    document: dict[str, Any] = {
        "@timestamp": _iso(alert.last_seen),
        "ecs": {"version": ECS_VERSION},
        "message": alert.title,
        "tags": ["hackwatch"],
        "event": event,
        "rule": {"id": alert.rule, "name": alert.rule, "category": alert.kind, "ruleset": "hackwatch"},
        "observer": {"vendor": "hackwatch", "product": "hackwatch", "type": "ids", "version": _version()},
        "hackwatch": {**_rest(alert), "severity": alert.severity, "entity": alert.entity, "count": alert.count},
    }
    if threat := _ecs_threat(alert):
        document["threat"] = threat
    if (stream := _stream(alert)) is not None:
        field = stream.events.ecs.get(stream.entity, "")
        if (related := next((name for end, name in _ECS_RELATED.items() if field.endswith(end)), None)) is not None:
            document["related"] = {related: [alert.entity]}
        document |= _objects(alert, stream, stream.events.ecs)
    return document


#: Form -> the function that makes it.
FORMS: Mapping[str, Callable[[Alert], dict[str, Any]]] = {"native": native, "ocsf": ocsf, "ecs": ecs}


def encode(alert: Alert, form: Form | str = "native") -> str:
    """The alert as one line of JSON in pure ASCII: nothing that an attacker named can steer a terminal."""
    document = json.dumps(_plain(FORMS[form](alert)), ensure_ascii=True, allow_nan=False)
    return document.replace("\x7f", "\\u007f")


def summary(alert: Alert) -> str:
    """One line for people: what, where, how bad. Control characters are escaped."""
    technique = f", ATT&CK {alert.technique}" if alert.technique else ""
    return printable(
        f"{alert.title} [{alert.severity}, risk {alert.risk}, {alert.entity}, {alert.subject}, "
        f"rule {alert.rule}{technique}]"
    )


def text(alert: Alert) -> str:
    """The whole explanation for people, several lines; control characters are escaped."""
    return "\n".join(printable(line) for line in _lines(alert))


def _lines(alert: Alert) -> Iterator[str]:
    yield f"{alert.severity.upper()}  {alert.title}"
    yield f"  what      {alert.subject} on {alert.entity} (stream {alert.stream}, site {alert.site})"
    yield f"  why       {alert.kind}: {alert.rule}, risk {alert.risk} of 100"
    if alert.technique or alert.tactic:
        yield f"  ATT&CK    {' '.join(filter(None, (alert.technique, _tactic(alert)[1])))}"
    yield f"  when      {_when(alert)}"
    for stream, drivers in alert.drivers.items():
        if not drivers:
            continue  # what a rule alone found suspect has none
        model = f", model {alert.models[stream]}" if stream in alert.models else ""
        yield f"  drivers of {stream}{model}"
        for driver in drivers:
            yield f"    {driver.column:12} {driver.seen}, usually {driver.usual} ({driver.contribution:+.2f})"
    if alert.evidence:
        yield "  evidence"
        for column, value in alert.evidence.items():
            is_time = column.endswith(("event_time", "processing_time")) and isinstance(value, float)
            yield f"    {column:24} {_iso(value) if is_time else value}"
    for cause in alert.causes:
        yield f"  cause     {cause.topic} partition {cause.partition} offset {cause.offset} index {cause.index}"
    yield f"  id        {alert.id}"


def _when(alert: Alert) -> str:
    first, last = _iso(alert.first_seen), _iso(alert.last_seen)
    times = "once" if alert.count == 1 else f"{alert.count:,} times"
    return f"{first}, {times}" if first == last else f"{first} to {last}, {times}"


def _rest(alert: Alert) -> dict[str, Any]:
    """What the other forms have no place for."""
    names = ("kind", "stream", "site", "subject", "drivers", "evidence", "causes", "models")
    return {name: _plain(getattr(alert, name)) for name in names}


def _stream(alert: Alert) -> Stream | None:
    """The stream whose records caused an alert, of a correlation the left one; None for hackwatch's own alerts."""
    return None if alert.kind == "system" else streams.find(alert.stream.partition("+")[0])


def _objects(
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
    for name, rest in (required or {}).items():
        if name in found:
            found[name] |= rest
    return found


def _value(alert: Alert, stream: Stream, column: str) -> Any:
    """What the record had in a column, if it is of the column's type; a pair has its sides' columns under prefixes."""
    value = alert.evidence.get(column, alert.evidence.get(f"{stream.name}_{column}"))
    kind = stream.schema[column]
    wanted = str if kind == pl.String() else bool if kind == pl.Boolean() else int if kind.is_integer() else float
    return value if isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)) else None


def _tactic(alert: Alert) -> tuple[str | None, str | None]:
    return TACTICS.get(alert.tactic or "", (None, alert.tactic))


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _ocsf_finding(alert: Alert) -> dict[str, Any]:
    analytic, analytic_name = _ANALYTICS[alert.kind]
    return {
        "uid": alert.id,
        "title": alert.title,
        "desc": summary(alert),
        "types": [alert.kind],
        "created_time": _milliseconds(alert.created),
        "first_seen_time": _milliseconds(alert.first_seen),
        "last_seen_time": _milliseconds(alert.last_seen),
        "data_sources": [alert.stream],
        "analytic": {"uid": alert.rule, "name": alert.rule, "type_id": analytic, "type": analytic_name},
        "attacks": _ocsf_attacks(alert),
    }


def _ocsf_attacks(alert: Alert) -> list[dict[str, Any]]:
    technique, _, sub = (alert.technique or "").partition(".")
    uid, name = _tactic(alert)
    attack = _present(
        tactic=_present(uid=uid, name=name),
        technique=_present(uid=technique),
        sub_technique=_present(uid=alert.technique if sub else None),
    )
    return [attack] if attack else []


def _ecs_threat(alert: Alert) -> dict[str, Any]:
    technique, _, sub = (alert.technique or "").partition(".")
    uid, name = _tactic(alert)
    below = _present(id=[alert.technique] if sub else None)
    threat = _present(
        tactic=_present(id=[uid] if uid else None, name=[name] if name else None),
        technique=_present(id=[technique] if technique else None, subtechnique=below),
    )
    return {"framework": "MITRE ATT&CK", **threat} if threat else {}


def _plain(value: Any) -> Any:
    """As JSON knows it: NaN and infinity become null, times ISO 8601, anything unknown its text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        # Half a surrogate pair is no Unicode text: strict readers would refuse the whole message.
        return value.encode(errors="backslashreplace").decode()
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(maxsize=1)
def _version() -> str:
    return version("hackwatch")
