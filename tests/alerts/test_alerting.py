"""When alerts are raised: rules, storms of them, single suspects, pairs, windows; and what is only counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hackwatch import streams
from hackwatch.alerts.alert import Cause
from hackwatch.alerts.policy import AlertPolicy
from hackwatch.config import AlertSettings, StreamSettings
from hackwatch.detect.rules import Rule
from hackwatch.pipeline.options import StreamOptions
from tests.alerts.support import INTERVAL, LENGTH, RULES, Seen, book, hit, observed, pipeline, raised, step
from tests.third.days import START
from tests.third.support import shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")


def test_first_then_count() -> None:
    target = pipeline(rules=RULES)
    assert raised(target, [hit(0), hit(1)]) == ["probe@c1"]
    assert raised(target, [hit(2, subject="/admin")], offset=2) == []
    (update,) = target.take_updates()
    assert (update.count, update.last_seen, update.subjects) == (3, START + 2, ("/.env", "/admin"))
    assert target.take_updates() == [], "updates are given once"


@pytest.mark.parametrize(
    ("second", "again"),
    [
        pytest.param(hit(LENGTH - INTERVAL - 0.001), False, id="same interval"),
        pytest.param(hit(LENGTH - INTERVAL), True, id="next interval"),
        pytest.param(hit(1, client="c2"), True, id="another entity"),
        pytest.param(hit(1, rule="storm"), False, id="a rule that wants more of them"),
        pytest.param(hit(1, rule="gone"), False, id="a rule that nobody knows"),
    ],
)
def test_suppression(second: Seen, again: bool) -> None:
    target = pipeline(rules=RULES)
    raised(target, [hit(0)])
    assert bool(raised(target, [second], offset=1)) is again


@pytest.mark.parametrize(
    ("times", "alerts"),
    [
        pytest.param([0, 5], 0, id="too few"),
        pytest.param([0, 5, 10], 1, id="enough within ten seconds"),
        pytest.param([0, 5, 10.001], 0, id="too far apart"),
        pytest.param([10, 0, 5], 1, id="out of order"),
        pytest.param([0, 20, 21, 22], 1, id="later ones close together"),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one record a batch"])
def test_a_storm_needs_enough_of_them_close_together(times: list[float], alerts: int, together: bool) -> None:
    target = pipeline(rules=RULES)
    records = [hit(t, "storm") for t in times]
    batches = [records] if together else [[record] for record in records]
    found = [alert for i, batch in enumerate(batches) for alert in raised(target, batch, offset=i)]
    assert len(found) == alerts
    if alerts:
        assert [update.count for update in target.take_updates()] == [len(times)]


def test_a_rule_that_matched_explains_itself() -> None:
    policy = AlertPolicy(AlertSettings(), book(*RULES), "north")
    (alert,) = policy.records(observed([hit(3)], partition=1, offset=7), {}, START + 9.0, on_suspect=False)
    assert (alert.kind, alert.title, alert.severity, alert.risk) == ("rule", "a probe", "high", 80)
    assert (alert.technique, alert.tactic) == ("T1595", "reconnaissance")
    assert (alert.stream, alert.entity, alert.subject, alert.site) == ("visit", "c1", "/.env", "north")
    assert (alert.first_seen, alert.last_seen, alert.created) == (START + 3, START + 3, START + 9)
    assert (alert.evidence["path"], alert.evidence["rules"]) == ("/.env", "probe")
    assert alert.causes == (Cause("visit-topic", 1, 7),)


@pytest.mark.parametrize("asked", [True, False])
def test_single_suspects_alert_only_where_asked_for(asked: bool) -> None:
    target = pipeline(StreamOptions(StreamSettings(alert_on_suspect=asked)), rules=RULES)
    seen = [Seen(0, suspect=True), Seen(1, suspect=True), hit(2, client="c2")]
    assert raised(target, seen) == ["probe@c2", *(["suspect@c1"] if asked else [])], "of a rule there is one already"


def test_a_single_suspect_explains_itself() -> None:
    policy = AlertPolicy(AlertSettings())
    (alert,) = policy.records(observed([Seen(0, suspect=True)]), {}, START, on_suspect=True)
    assert (alert.kind, alert.rule, alert.severity, alert.risk) == ("anomaly", "suspect", "medium", 57)
    assert alert.title == "Anomalous visit record of / on c1"


@pytest.mark.parametrize(
    ("rules", "risk", "technique"),
    [
        pytest.param((), 86, None, id="none"),
        pytest.param(("probe",), 96, "T1595", id="one that matched by itself"),
        pytest.param(("storm",), 86, None, id="one that needs others"),
        pytest.param(("gone", "probe"), 96, "T1595", id="one that nobody knows any more, and another one"),
    ],
)
def test_a_pair_explains_itself(rules: tuple[str, ...], risk: int, technique: str | None) -> None:
    target = pipeline(rules=RULES)
    step(target, [replace(hit(3), rules=rules)])
    (alert,) = step(target, [Seen(1, server="g1", subject="root", suspect=True, agent="y")], "login").alerts
    assert (alert.kind, alert.rule, alert.stream, alert.entity) == ("attack", "account-takeover", "visit+login", "c1")
    assert alert.title == "c1 is suspect in visit (/.env) and login"
    assert (alert.subject, alert.risk, alert.technique) == ("/.env", risk, technique)
    assert alert.first_seen == START + 3, "the later one of the two"
    assert alert.causes == (Cause("visit-topic", 0, 0), Cause("login-topic", 0, 0))
    assert (alert.evidence["client"], alert.evidence["login_user"]) == ("c1", "root")


def windows(counts: list[int]) -> list[list[Seen]]:
    """One batch a window with so many distinct suspects, and a normal record."""
    return [
        [Seen(120 * i)] + [Seen(120 * i + 1, subject=f"/{path}", suspect=True) for path in range(count)]
        for i, count in enumerate([*counts, 0])
    ]


@pytest.mark.parametrize(
    ("counts", "alerts"),
    [
        pytest.param([1, 1, 1, 1, 30], 0, id="too little history"),
        pytest.param([1, 1, 1, 1, 1, 30], 1, id="stands out"),
        pytest.param([1, 1, 1, 1, 1, 6], 0, id="within the noise"),
        pytest.param([0, 0, 0, 0, 0, 4], 0, id="below the minimum"),
        pytest.param([30, 28, 31, 30, 29, 33], 0, id="usual for this entity"),
        pytest.param([1, 1, 1, 1, 1, 30, 30], 2, id="still unusual the next time"),
    ],
)
def test_anomalous_windows(counts: list[int], alerts: int) -> None:
    target = pipeline(alerts=AlertSettings(window_minimum=5))
    found, offset = [], 0
    for batch in [*windows(counts), [Seen(120 * len(counts) + 150)]]:
        found += raised(target, batch, offset=offset)
        offset += len(batch)
    assert found == ["anomalous-window@c1"] * alerts


def test_an_anomalous_window_explains_itself() -> None:
    target = pipeline()
    found = [alert for batch in windows([1, 1, 1, 1, 1, 30, 0]) for alert in step(target, batch).alerts]
    (alert,) = found
    assert (alert.kind, alert.severity, alert.risk, alert.subject) == ("window", "medium", 60, "c1")
    assert alert.title == "30 distinct suspects on c1 in 120 s, usually 1"
    assert alert.first_seen == START + 720, "when the window ends"
    assert alert.evidence == {"start": START + 600, "end": START + 720, "records": 31, "suspects": 30, "count": 30}
    assert [(driver.column, driver.seen, driver.usual) for driver in alert.drivers["visit"]] == [("count", "30", "1")]


def test_state_is_forgotten_when_the_watermarks_have_passed() -> None:
    target = pipeline(rules=RULES)
    raised(target, [hit(0), hit(0, "storm")])
    target.take_updates()
    assert target.state_rows()["suppression"] == 3
    for name in ("visit", "login"):
        step(target, [Seen(2000)], name, offset=9, elapsed=1.0)
    assert target.state_rows()["suppression"] == 0


def test_a_restart_forgets_no_occurrence_that_a_slow_storm_still_needs() -> None:
    """How long occurrences are kept follows from the rules, not from those that have been seen since the start."""
    slow = book(Rule("slow", "a slow storm", "visit", "status = 403", "low", at_least=2, within_seconds=300.0))
    before, after = (AlertPolicy(AlertSettings(), slow) for _ in range(2))
    assert before.records(observed([hit(0, "slow")]), {}, START, on_suspect=False) == []
    before.take_updates()
    after.restore(before.snapshot())
    after.evict(lambda stream, entity: round((START + 200) * 1e6))
    (alert,) = after.records(observed([hit(250, "slow")]), {}, START, on_suspect=False)
    assert (alert.rule, alert.entity) == ("slow", "c1")


#: How the records of one rule come: late ones are 100 s behind their server's newest. What the alert finally says.
LATE: dict[str, tuple[list[float], int, float]] = {
    "on time, then late": ([300, 310, 200], 2, 300),
    "late, then on time": ([290, 190, 310], 2, 290),
    "only late": ([900, 200, 210], 1, 200),
}


@pytest.mark.parametrize("case", LATE)
@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one record a batch"])
def test_late_records_raise_alerts_and_are_not_counted(case: str, at_once: bool) -> None:
    """What is counted does not depend on the cut; a rule that needs one record fires on a late one too."""
    times, count, first = LATE[case]
    told: dict[str, list[float]] = {}
    target = pipeline(rules=RULES)
    rows = [hit(t) if t < 900 else Seen(t) for t in times]
    for batch in [rows] if at_once else [[row] for row in rows]:
        alerts = step(target, batch).alerts
        told = {alert.id: [alert.count, alert.first_seen - START] for alert in alerts} | told
    for update in target.take_updates():
        assert update.first_seen is not None
        told[update.id] = [update.count, update.first_seen - START]
    assert list(told.values()) == [[count, first]]


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one record a batch"])
def test_threshold_rules_do_not_count_late_records(at_once: bool) -> None:
    target = pipeline(rules=RULES)
    rows = [Seen(900), *(hit(100 + t, "storm") for t in range(20))]
    found = [raised(target, batch) for batch in ([rows] if at_once else [[row] for row in rows])]
    assert not any(found)


def test_streams_of_the_shop_have_a_source_that_is_not_their_entity() -> None:
    """So that these tests would see it if one was taken for the other."""
    assert all(stream.source != stream.entity for stream in map(streams.get, ("visit", "login")))
