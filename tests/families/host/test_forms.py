"""Alerts about hosts in OCSF and ECS: what the family says of its columns are published fields of the right types."""

from __future__ import annotations

import pytest

from hackwatch.alerts.alert import Alert
from tests.alerts.published import valid_ecs, valid_ocsf
from tests.routes.support import HOSTILE, alert

EVIDENCE = {"machine": "web-1", "CMD": "xmrig", "PID": 4242, "process_CPU": 0.93, "memory_RSIZE": float("nan")}
ALERTS = {
    "attack": alert(stream="process", entity="web-1", subject="xmrig", evidence=EVIDENCE),
    "anomaly": alert(kind="anomaly", stream="memory", entity="web-1", subject="xmrig", evidence=EVIDENCE),
    "hostile": alert(
        stream="process", entity=HOSTILE, subject=HOSTILE, evidence={"machine": HOSTILE, "CMD": HOSTILE, "PID": 1}
    ),
}


@pytest.mark.parametrize("sent", ALERTS.values(), ids=ALERTS)
def test_they_are_as_the_published_schemas_want_them(sent: Alert) -> None:
    shown = valid_ecs(sent)
    assert shown["process"]["pid"] == sent.evidence["PID"]
    found = valid_ocsf(sent)
    assert found["resources"][0]["type"] == "host"
    assert found["evidences"][0]["process"]["pid"] == sent.evidence["PID"]
