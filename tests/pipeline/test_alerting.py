"""When alerts are raised: rules, storms of them, single suspects, anomalous windows; and what is only counted."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from hackwatch.alerts.alert import Severity
from hackwatch.alerts.options import AlertOptions
from hackwatch.pipeline.core import Batch, Now, Pipeline
from hackwatch.pipeline.options import StreamOptions
from tests.pipeline.support import START, Record, pipeline, run

INTERVAL = START % 600  # where in its suppression interval START is


@dataclass(frozen=True)
class FakeRule:
    title: str = "a rule"
    severity: Severity = "high"
    technique: str | None = "T1496"
    tactic: str | None = "impact"
    at_least: int = 1
    within_seconds: float = 0.0


RULES = {"miner": FakeRule(), "storm": FakeRule(at_least=3, within_seconds=10)}


def raised(
    target: Pipeline, records: list[Record], name: str = "process", offset: int = 0, elapsed: float = 0.0
) -> list[str]:
    output = target.step(Batch([run(name, records, offset=offset)], []), Now(START, elapsed))
    return [f"{alert.rule}@{alert.entity}" for alert in output.alerts]


def hit(t: float, rule: str = "miner", machine: str = "m1", cmd: str = "xmrig") -> Record:
    return Record(t, machine=machine, cmd=cmd, suspect=True, rules=(rule,))


def test_first_then_count() -> None:
    target = pipeline(rules=RULES)
    assert raised(target, [hit(0), hit(1)]) == ["miner@m1"]
    assert raised(target, [hit(2, cmd="minerd")], offset=2) == []
    (update,) = target.take_updates()
    assert (update.count, update.last_seen, update.subjects) == (3, START + 2, ("minerd", "xmrig"))
    assert target.take_updates() == [], "updates are given once"


@pytest.mark.parametrize(
    ("second", "again"),
    [
        pytest.param(hit(600 - INTERVAL - 0.001), False, id="same interval"),
        pytest.param(hit(600 - INTERVAL), True, id="next interval"),
        pytest.param(hit(1, machine="m2"), True, id="another entity"),
        pytest.param(hit(1, rule="storm"), False, id="a rule that wants more of them"),
    ],
)
def test_suppression(second: Record, again: bool) -> None:
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


def test_an_alert_explains_itself() -> None:
    target = pipeline(rules=RULES)
    output = target.step(Batch([run("process", [hit(3)], partition=1, offset=7)], []), Now(START + 9, 0))
    (alert,) = output.alerts
    assert (alert.kind, alert.severity, alert.risk, alert.technique) == ("rule", "high", 80, "T1496")
    assert (alert.first_seen, alert.created) == (START + 3, START + 9)
    assert alert.evidence["CMD"] == "xmrig"
    assert (alert.causes[0].topic, alert.causes[0].partition, alert.causes[0].offset) == ("process-topic", 1, 7)


@pytest.mark.parametrize("asked", [True, False])
def test_single_suspects_alert_only_where_asked_for(asked: bool) -> None:
    target = pipeline(StreamOptions(alert_on_suspect=asked))
    assert raised(target, [Record(0, suspect=True), Record(1, suspect=True)]) == (["suspect@m1"] if asked else [])


def windows(counts: list[int]) -> list[list[Record]]:
    """One batch a window with so many distinct suspects, and a normal record."""
    return [
        [Record(120 * i, pid=0)] + [Record(120 * i + 1, pid=1 + p, suspect=True) for p in range(count)]
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
    target = pipeline(alerts=AlertOptions(window_minimum=5))
    found, offset = [], 0
    for batch in [*windows(counts), [Record(120 * len(counts) + 150)]]:
        found += raised(target, batch, offset=offset)
        offset += len(batch)
    assert found == ["anomalous-window@m1"] * alerts


def test_state_is_forgotten_when_the_watermarks_have_passed() -> None:
    target = pipeline(rules=RULES)
    raised(target, [hit(0), hit(0, "storm")])
    target.take_updates()
    assert target.state_rows()["suppression"] == 3
    for name in ("process", "memory"):
        raised(target, [Record(2000)], name, offset=9, elapsed=1.0)
    assert target.state_rows()["suppression"] == 0


#: How the records of one rule come: late ones are 100 s behind their machine's newest. What the alert finally says.
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
    rows = [hit(t) if t < 900 else Record(t) for t in times]
    for batch in [rows] if at_once else [[row] for row in rows]:
        output = target.step(Batch([run("process", batch)], []), Now(START, 0))
        told = {alert.id: [alert.count, alert.first_seen - START] for alert in output.alerts} | told
    for update in target.take_updates():
        assert update.first_seen is not None
        told[update.id] = [update.count, update.first_seen - START]
    assert list(told.values()) == [[count, first]]


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one record a batch"])
def test_threshold_rules_do_not_count_late_records(at_once: bool) -> None:
    target = pipeline(rules=RULES)
    rows = [Record(900), *(hit(100 + t, "storm") for t in range(20))]
    found = [raised(target, batch) for batch in ([rows] if at_once else [[row] for row in rows])]
    assert not any(found)
