"""Forms: native, OCSF and ECS against the published schemas; nothing an attacker named survives unescaped."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.alerts.alert import SEVERITIES, Alert
from hackwatch.alerts.forms import ECS_VERSION, FORMS, OCSF_VERSION, Form, ecs, encode, native, ocsf, summary, text
from hackwatch.detect.detector import Driver
from tests.alerts.published import PUBLISHED_OCSF, valid_ecs, valid_ocsf
from tests.routes.support import HOSTILE, alert

ALERTS = {
    "attack": alert(),
    "rule": alert(kind="rule", rule="probe", technique="T1595", tactic="reconnaissance", drivers={}),
    "window": alert(kind="window", technique=None, tactic=None, evidence={"count": 7}, subject="7", causes=()),
    "anomaly": alert(kind="anomaly", stream="login", technique=None, tactic=None),
    "system": alert(
        kind="system", entity="hackwatch", evidence={"detail": "model refused"}, technique=None, tactic=None
    ),
    "other stream": alert(stream="access", entity="192.0.2.7", evidence={"path": "/"}, tactic="home-grown"),
    "hostile": alert(
        subject=HOSTILE, title=HOSTILE, entity=HOSTILE, evidence={"client": HOSTILE, "path": HOSTILE, "status": 1}
    ),
}
each_alert = pytest.mark.parametrize("sent", ALERTS.values(), ids=ALERTS)


@each_alert
def test_ocsf_is_a_detection_finding_by_the_published_schema(sent: Alert) -> None:
    document = valid_ocsf(sent)
    assert (document["class_uid"], document["type_uid"]) == (2004, 200401)
    assert document["metadata"]["version"] == OCSF_VERSION
    assert document["finding_info"]["uid"] == sent.id


def test_the_ocsf_schema_refuses_what_it_should() -> None:
    wrongs: list[dict[str, Any]] = [{"severity_id": 17}, {"time": "now"}, {"finding_info": {}}, {"surprise": 1}]
    for wrong in wrongs:
        assert not PUBLISHED_OCSF.is_valid({**ocsf(alert()), **wrong}), wrong


@each_alert
def test_ecs_has_only_published_fields_of_the_right_types(sent: Alert) -> None:
    document = valid_ecs(sent)
    assert document["hackwatch"]["kind"] == sent.kind
    assert document["ecs"]["version"] == ECS_VERSION
    assert document["event"]["kind"] == "alert"


def test_native_holds_every_field_of_an_alert() -> None:
    document = json.loads(encode(alert()))
    assert set(document) == {field.name for field in fields(Alert)}
    assert document["drivers"]["visit"][0] == {
        "column": "seconds",
        "seen": "9.3 s",
        "usual": "0.1 s",
        "contribution": 3.2,
    }
    assert document["causes"][0] == {"topic": "spool:visit", "partition": 0, "offset": 1024, "index": 3}
    assert document["evidence"]["login_waited"] is None


@pytest.mark.parametrize(
    ("technique", "tactic", "expected_ocsf", "expected_ecs"),
    [
        (None, None, [], None),
        (
            "T1496",
            "impact",
            [{"tactic": {"uid": "TA0040", "name": "Impact"}, "technique": {"uid": "T1496"}}],
            {"tactic": {"id": ["TA0040"], "name": ["Impact"]}, "technique": {"id": ["T1496"]}},
        ),
        (
            "T1059.004",
            None,
            [{"technique": {"uid": "T1059"}, "sub_technique": {"uid": "T1059.004"}}],
            {"technique": {"id": ["T1059"], "subtechnique": {"id": ["T1059.004"]}}},
        ),
        (None, "home-grown", [{"tactic": {"name": "home-grown"}}], {"tactic": {"name": ["home-grown"]}}),
    ],
)
def test_attack_technique_and_tactic(
    technique: str | None, tactic: str | None, expected_ocsf: list[Any], expected_ecs: dict[str, Any] | None
) -> None:
    sent = alert(technique=technique, tactic=tactic)
    assert ocsf(sent)["finding_info"]["attacks"] == expected_ocsf
    threat = ecs(sent).get("threat")
    assert threat == (None if expected_ecs is None else {"framework": "MITRE ATT&CK", **expected_ecs})


@pytest.mark.parametrize("severity", SEVERITIES)
def test_severity_is_a_number_that_grows(severity: Any) -> None:
    number = SEVERITIES.index(severity) + 1
    sent = alert(severity=severity)
    assert (ocsf(sent)["severity_id"], ecs(sent)["event"]["severity"]) == (number, number)


@pytest.mark.parametrize("form", FORMS)
@given(name=st.text())
def test_json_is_one_ascii_line_without_control_characters(form: Form, name: str) -> None:
    line = encode(replace(alert(), title=name, subject=name, evidence={"path": name, name: [name, float("inf")]}), form)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)


@given(name=st.text())
def test_text_for_people_holds_no_control_characters(name: str) -> None:
    sent = alert(
        title=name, subject=name, entity=name, evidence={"path": name}, drivers={name: (Driver(name, name, name, 1.0),)}
    )
    for line in (summary(sent), *text(sent).split("\n")):
        assert not any(ord(letter) < 0x20 or 0x7F <= ord(letter) < 0xA0 for letter in line)
    assert "\n" not in summary(sent)


def test_text_explains_an_alert() -> None:
    shown = text(alert())
    for wanted in (
        "HIGH  203.0.113.7 is suspect",
        "/.env on 203.0.113.7",
        "T1059.004 Execution",
        "2023-11-14T22:13:20.250Z",
        "seconds      9.3 s, usually 0.1 s (+3.20)",
        "model visit-000003-9f2c",
        "status                   404",
        "spool:visit partition 0 offset 1024 index 3",
    ):
        assert wanted in shown


@pytest.mark.parametrize(
    ("seconds", "count", "told"),
    [
        (0.0, 1, "when      2023-11-14T22:13:20.250Z, once"),
        (0.0, 9, "when      2023-11-14T22:13:20.250Z, 9 times"),
        (60.0, 2000, "when      2023-11-14T22:13:20.250Z to 2023-11-14T22:14:20.250Z, 2,000 times"),
    ],
)
def test_text_tells_when_and_how_often(seconds: float, count: int, told: str) -> None:
    first = alert().first_seen
    assert told in text(replace(alert(), last_seen=first + seconds, count=count))


def test_text_shows_times_as_people_read_them() -> None:
    seen = {"ts": 1_700_000_000.25, "event_time": 1_700_000_000.25, "visit_processing_time": 1_700_000_001.0}
    shown = text(replace(alert(), evidence=seen))
    assert "    ts                       1700000000.25\n" in shown
    assert "    event_time               2023-11-14T22:13:20.250Z\n" in shown
    assert "    visit_processing_time    2023-11-14T22:13:21.000Z\n" in shown


def test_text_has_no_heading_for_drivers_that_there_are_not() -> None:
    assert "drivers" not in text(replace(alert(), drivers={"visit": ()}))


def test_native_is_plain_data() -> None:
    assert json.loads(json.dumps(native(alert()))) == native(alert())
