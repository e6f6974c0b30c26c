"""Alerts, mutes and outbox, as people and routes use them."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import polars as pl
import pytest

from hackwatch.alerts.alert import Alert
from hackwatch.counts import COUNTERS, Counts
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.store import Store
from hackwatch.store.aggregates import AGGREGATES_SCHEMA
from hackwatch.store.frames import FRAMES
from tests.store.support import ALERT, SOURCE, alert, batch, commit, windows


def raised(store: Store, *alerts: Alert) -> None:
    store.checkpoints.log_batches("main", [], alerts)


def test_an_alert_comes_back_as_it_was(store: Store) -> None:
    raised(store, alert(1))
    found = store.triage.alert(alert(1).id)
    for field in Alert.__dataclass_fields__:
        assert getattr(found, field) == getattr(alert(1), field), field
    assert (found.sequence, found.status, found.subjects) == (1, "new", ("/.env",))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [4, 3, 2, 1]),
        ({"severity": "high"}, [4, 1]),
        ({"severity": "low"}, [4, 2, 1]),
        ({"kind": "rule"}, [2]),
        ({"stream": "login"}, [3]),
        ({"entity": "5"}, [4]),
        ({"rule": "r2"}, [2]),
        ({"since": 2000.0}, [3, 2]),
        ({"until": 2000.0}, [4, 1]),
        ({"since": 2000.0, "until": 3000.0}, [2]),
        ({"statuses": ["acknowledged"]}, [3]),
        ({"statuses": []}, []),
        ({"statuses": ["new", "acknowledged"], "limit": 2}, [4, 3]),
        ({"after": 2}, [3, 4]),
        ({"after": 0, "limit": 1}, [1]),
        ({"entity": "' OR 1=1 --"}, []),
    ],
    ids=str,
)
def test_alerts_are_filtered(store: Store, filters: dict[str, Any], expected: list[int]) -> None:
    raised(
        store,
        alert(1),
        alert(2, kind="rule", rule="r2", severity="low", created=2000.0),
        alert(3, stream="login", severity="informational", created=3000.0),
        alert(4, entity="5", severity="critical"),
    )
    store.triage.acknowledge(alert(3).id, by="me", now=1.0)
    assert [found.sequence for found in store.triage.alerts(**filters)] == expected


def test_a_person_acknowledges_and_closes(store: Store) -> None:
    raised(store, alert(1))
    seen = store.triage.acknowledge(alert(1).id, by="ada", now=5.0, note="mine")
    assert (seen.status, seen.handled_by, seen.handled_at, seen.note) == ("acknowledged", "ada", 5.0, "mine")
    closed = store.triage.close(alert(1).id, by="bob", now=6.0)
    assert (closed.status, closed.handled_by, closed.note) == ("closed", "bob", "mine")
    assert store.triage.counts() == {("closed", "high"): 1}


def test_the_beginning_of_an_id_is_enough(store: Store) -> None:
    first, second = (alert(0, created=1.0), alert(0, created=2.0))
    raised(
        store,
        *(type(a)(**{**_fields(a), "id": i}) for a, i in [(first, "abcd1" + "0" * 27), (second, "abce" + "f" * 28)]),
    )
    assert store.triage.alert("abcd").id.startswith("abcd1")
    assert store.triage.alert("abcef").created == 2.0


def _fields(alert: Alert) -> dict[str, Any]:
    return {name: getattr(alert, name) for name in Alert.__dataclass_fields__}


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("0000", "several alerts begin"),
        ("ffff", "no alert begins"),
        *(
            (wanted, "is no id, nor 4 or more characters of one")
            for wanted in ("", "000", "%%%%", "ABCD", "x' OR '1'='1")
        ),
    ],
)
def test_no_or_several_alerts_is_an_error(store: Store, wanted: str, told: str) -> None:
    raised(store, alert(1), alert(2))
    with pytest.raises(DataError, match=told):
        store.triage.alert(wanted)


@pytest.mark.parametrize(
    ("rule", "entity", "created", "status"),
    [
        (ALERT.rule, None, 1002.0, "muted"),
        (None, ALERT.entity, 1002.0, "muted"),
        (ALERT.rule, ALERT.entity, 1002.0, "muted"),
        (ALERT.rule, "other", 1002.0, "new"),
        ("other", ALERT.entity, 1002.0, "new"),
        (ALERT.rule, None, 999.0, "new"),
        (ALERT.rule, None, 1100.0, "new"),
        (ALERT.rule, None, 1000.0, "muted"),
    ],
)
def test_what_is_muted_is_kept_and_sent_nowhere(
    store: Store, rule: str | None, entity: str | None, created: float, status: str
) -> None:
    store.outbox.set_routes(["file", "hook"])
    store.triage.mute(rule, entity, until=1100.0, now=1000.0, by="ada", reason="maintenance")
    raised(store, alert(1, created=created))
    assert store.triage.alert(alert(1).id).status == status
    assert len(store.outbox.due(1e12)) == (0 if status == "muted" else 2)


def test_a_mute_needs_a_target_and_can_be_lifted(store: Store) -> None:
    with pytest.raises(ConfigurationError, match="needs a rule"):
        store.triage.mute(None, None, until=9.0, now=1.0)
    mute = store.triage.mute("r", None, until=9.0, now=1.0)
    assert store.triage.mutes(now=8.0) == [mute]
    assert store.triage.unmute(mute.id, now=4.0)
    assert not store.triage.unmute(mute.id, now=5.0)
    assert store.triage.mutes(now=4.0) == []
    assert [kept.until for kept in store.triage.mutes()] == [4.0]


def test_the_outbox_is_worked_off_and_retried(store: Store) -> None:
    store.outbox.set_routes(["file", "hook"])
    raised(store, alert(1))
    file, hook = store.outbox.due(alert(1).created)
    assert [(m.route, m.attempts, m.alert.id) for m in (file, hook)] == [
        ("file", 0, alert(1).id),
        ("hook", 0, alert(1).id),
    ]
    assert store.outbox.due(alert(1).created - 1) == []
    store.outbox.done(file.id, now=2000.0)
    store.outbox.failed(hook.id, "503", retry_at=3000.0)
    assert store.outbox.due(2999.0) == []
    (again,) = store.outbox.due(3000.0)
    assert (again.attempts, again.error) == (1, "503")
    store.outbox.failed(hook.id, "410 gone", retry_at=None)
    assert store.outbox.due(1e12) == []
    assert store.outbox.counts() == {
        "file": {"waiting": 0, "done": 1, "failed": 0},
        "hook": {"waiting": 0, "done": 0, "failed": 1},
    }


def test_pruning_keeps_what_is_open(store: Store) -> None:
    store.outbox.set_routes(["file"])
    raised(store, *(alert(number, site="here") for number in (1, 2)), alert(4, site="elsewhere"))
    raised(store, alert(3, site="here", created=9000.0, last_seen=9000.0))
    store.outbox.done(store.outbox.due(1e12)[0].id, now=2000.0)
    rows = [("visit", str(number), 0, 120, 1, 0, 0, True) for number in range(2_500)]
    rows += [("visit", "open", 0, 120, 1, 0, 0, False)]
    store.checkpoints.commit_epoch("main", commit(1, 1, counted=windows(*rows)))
    # Of a replay: made today, whatever the times of its events.
    young = commit(2, 2, counted=windows(("visit", "young", 0, 120, 1, 0, 0, True)))
    store.checkpoints.commit_epoch("main", replace(young, committed_at=6000.0))
    assert store.retention.prune() == {}
    pruned = store.retention.prune(windows_before=5000.0, alerts_before=5000.0, outbox_before=5000.0)
    assert pruned == {"windows": 2_500, "aggregates": 0, "outbox": 1, "alerts": 1}
    assert store.windows.find()["entity"].to_list() == ["open", "young"]
    assert [found.id for found in store.triage.alerts()] == [alert(number).id for number in (3, 4, 2)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0, 120, 120, 240]),
        ({"stream": "login"}, [120]),
        ({"entity": "5"}, [240]),
        ({"since": 120.0}, [120, 120, 240]),
        ({"until": 120.0}, [0]),
        ({"final": True}, [0]),
        ({"final": False, "limit": 1}, [240]),
        ({"site": "elsewhere"}, []),
    ],
    ids=str,
)
def test_windows_are_filtered(store: Store, filters: dict[str, Any], expected: list[int]) -> None:
    rows = [
        ("visit", "4", 0, 120, 3, 2, 1, True),
        ("visit", "4", 120, 240, 3, 2, 1, False),
        ("login", "4", 120, 240, 3, 2, 1, False),
        ("visit", "5", 240, 360, 3, 2, 1, False),
    ]
    store.checkpoints.commit_epoch("main", commit(1, 1, counted=windows(*rows)))
    assert store.windows.find(**filters)["start"].to_list() == expected


def test_every_counter_has_its_column(store: Store) -> None:
    """Fails when a counter is added to Counts without a migration: all other lists of counters derive from it."""
    counts = Counts(*range(1, len(COUNTERS) + 1))
    store.checkpoints.commit_epoch("main", replace(commit(1, 1), accounting={SOURCE: counts}))
    with store.database.read() as transaction:
        (row,) = transaction.fetch("SELECT * FROM accounting")
    assert row == ("main", *SOURCE, *astuple(counts))
    for table in (store.accounting.totals(), store.frame("accounting")):
        assert table.select(COUNTERS).row(0) == astuple(counts)
    found = store.checkpoints.latest("main")
    assert found is not None
    assert found.accounting == {SOURCE: counts}


def test_accounting_is_a_table(store: Store) -> None:
    store.checkpoints.log_batches("main", [batch(1)])
    counted = commit(1, 1, messages=3, records=4, on_time=2, late=1, duplicate=1, suspects=1)
    store.checkpoints.commit_epoch("main", counted)
    (row,) = store.accounting.totals("main").rows(named=True)
    assert row["pipeline"] == "main"
    assert (row["partition"], row["next_offset"], row["records"], row["suspects"]) == (0, 10, 4, 1)
    assert store.accounting.totals("other").is_empty()


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_every_table_has_a_frame(store: Store, name: str) -> None:
    empty = store.frame(name)
    store.outbox.set_routes(["file"])
    raised(store, alert(1))
    store.triage.mute("r", None, until=9.5, now=1.0)
    aggregated = ("visit", "rates", '{"server":"a"}', "a", 0, 60, '{"requests":9}', True)
    counted = commit(1, 1, counted=windows(("visit", "4", 0, 120, 9, 2, 1, False)))
    rates = pl.DataFrame([aggregated], schema=AGGREGATES_SCHEMA, orient="row")
    store.checkpoints.commit_epoch("main", replace(counted, aggregates=rates))
    full = store.frame(name)
    assert full.height == 1
    assert full.schema == empty.schema


def test_times_in_frames_are_exact_to_the_microsecond(store: Store) -> None:
    raised(store, alert(1, created=1_700_000_000.123457))
    assert store.frame("alerts").select(pl.col("created").dt.epoch("us")).item() == 1_700_000_000_123_457
