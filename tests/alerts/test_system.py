"""What hackwatch says about itself, and risks."""

from __future__ import annotations

import pytest

from hackwatch import streams
from hackwatch.alerts.observed import Skew
from hackwatch.alerts.policy import AlertPolicy
from hackwatch.alerts.risk import risk_of, severity_of
from hackwatch.alerts.system import Notice
from hackwatch.config import AlertSettings
from hackwatch.words import SEVERITIES
from tests.third.support import shop

__all__ = ["shop"]


def test_an_occurrence_is_one_alert_at_any_time_and_another_one_at_each_site() -> None:
    notice = Notice("model-refused", "visit-2", "Model visit-2 was refused", "no such file", stream="visit")
    first, again, elsewhere = notice.alert(1.0), notice.alert(2.0), notice.alert(1.0, "north")
    assert (first.kind, first.entity, first.severity, first.risk) == ("system", "hackwatch", "medium", 50)
    assert (first.subject, first.evidence) == ("visit-2", {"detail": "no such file"})
    assert (first.id, first.created) == (again.id, again.created - 1.0)
    assert (elsewhere.site, elsewhere.id != first.id) == ("north", True)


@pytest.mark.parametrize(("seconds", "way"), [(90.0, "90 s ahead of"), (-7200.4, "7,200 s behind")])
def test_a_clock_that_is_wrong_is_named(shop: None, seconds: float, way: str) -> None:
    policy = AlertPolicy(AlertSettings(), site="north")
    (alert,) = policy.skewed(streams.get("visit"), [Skew("s1", seconds)], 5.0)
    assert alert.title == f"The clock of s1 is {way} the others in visit"
    assert (alert.rule, alert.severity, alert.site) == ("clock-skew", "low", "north")
    assert alert.entity == "hackwatch", "a server is no client"


def test_too_many_sources_are_said(shop: None) -> None:
    alert = AlertPolicy(AlertSettings()).crowded(streams.get("visit"), 100_000, 5.0)
    assert alert.title == "visit: more than 100,000 sources; those beyond share one clock"
    assert (alert.stream, alert.entity, alert.rule) == ("visit", "hackwatch", "too-many-sources")


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_risk_of_a_severity_has_that_severity(severity: str) -> None:
    assert severity_of(risk_of(severity)) == severity  # type: ignore[arg-type]  # one of the words


@pytest.mark.parametrize(
    ("risk", "severity"),
    [(-1, "informational"), (19, "informational"), (20, "low"), (40, "medium"), (70, "high"), (90, "critical")],
)
def test_severities_begin_at_a_risk(risk: int, severity: str) -> None:
    assert severity_of(risk) == severity
