"""Batches and epochs: what is written is what a restarted engine reads, written once or many times."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.alerts.alert import AlertUpdate
from hackwatch.errors import HackwatchError, InternalError
from hackwatch.store import Store, open_store
from hackwatch.store.states import PART_BYTES
from tests.store.support import SOURCE, alert, batch, commit, windows

Reopen = Callable[[], Store]


def test_a_new_pipeline_has_no_checkpoint(store: Store) -> None:
    assert store.checkpoints.latest("main") is None


def test_batches_are_found_before_the_first_epoch(store: Store, reopen: Reopen) -> None:
    store.checkpoints.log_batches("main", [batch(1), batch(2)])
    store.checkpoints.log_batches("other", [batch(7)])
    found = reopen().checkpoints.latest("main")
    assert found is not None
    assert (found.epoch, found.last_batch, found.offsets, found.states) == (0, 0, {}, {})
    assert found.batches == (batch(1), batch(2))


def test_a_checkpoint_is_what_was_committed_and_what_came_after(store: Store, reopen: Reopen) -> None:
    store.checkpoints.log_batches("main", [batch(1), batch(2), batch(3, epoch=2)])
    store.checkpoints.commit_epoch("main", commit(1, 2, states={"a": b"", "b": b"\x00\xff"}, messages=20, rejected=3))
    found = reopen().checkpoints.latest("main")
    assert found is not None
    assert (found.epoch, found.last_batch, found.elapsed) == (1, 2, 5.0)
    assert found.offsets == {SOURCE: 20}
    assert found.states == {"a": b"", "b": b"\x00\xff"}
    assert found.accounting[SOURCE].messages == 20
    assert found.accounting[SOURCE].rejected == 3
    assert found.batches == (batch(3, epoch=2),)


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES], ids=str)
def test_states_of_any_size_come_back_and_old_ones_go(store: Store, size: int) -> None:
    for epoch in (1, 2):
        store.checkpoints.commit_epoch("main", commit(epoch, epoch, states={"a": bytes([epoch]) * size, "b": b"x"}))
    found = store.checkpoints.latest("main")
    assert found is not None
    assert found.states == {"a": b"\x02" * size, "b": b"x"}
    with store.database.read() as transaction:
        assert transaction.fetch("SELECT DISTINCT epoch FROM state") == [(2,)]


def test_states_written_ahead_of_a_crash_are_replaced(store: Store) -> None:
    large = {"a": b"1" * 3 * PART_BYTES}
    store.checkpoints.commit_epoch("main", commit(1, 1, states={"a": b"0"}))
    store.checkpoints._states.write_ahead("main", 2, {"a": b"half" * 5 * PART_BYTES})
    found = store.checkpoints.latest("main")
    assert found is not None
    assert found.states == {"a": b"0"}
    store.checkpoints.commit_epoch("main", commit(2, 2, states=large))
    found = store.checkpoints.latest("main")
    assert found is not None
    assert found.states == large


def test_everything_twice_is_everything_once(store: Store) -> None:
    store.outbox.set_routes(["file"])
    for _ in range(2):
        store.checkpoints.log_batches(
            "main", [batch(1), batch(2)], [alert(1)], [AlertUpdate(alert(1).id, 3, None, 1010.0, ("a", "b"))]
        )
        store.checkpoints.commit_epoch("main", commit(1, 1, counted=windows(("visit", "4", 0, 120, 9, 2, 1, False))))
    found = store.checkpoints.latest("main")
    assert found is not None
    assert [entry.number for entry in found.batches] == [2]
    assert [(a.count, a.last_seen, a.subjects) for a in store.triage.alerts()] == [(3, 1010.0, ("a", "b"))]
    assert len(store.outbox.due(1e12)) == 1
    assert store.windows.find().rows() == [("here", "visit", "4", 0, 120, 9, 2, 1, False)]


def test_a_repeated_epoch_changes_nothing(store: Store) -> None:
    store.checkpoints.commit_epoch("main", commit(1, 5, messages=50))
    store.checkpoints.commit_epoch("main", commit(1, 9, messages=99))
    found = store.checkpoints.latest("main")
    assert found is not None
    assert (found.last_batch, found.accounting[SOURCE].messages) == (5, 50)


@pytest.mark.parametrize(("committed", "epoch"), [(0, 2), (0, 0), (0, -1), (1, 3)])
def test_a_gap_between_epochs_is_a_bug(store: Store, committed: int, epoch: int) -> None:
    for number in range(1, committed + 1):
        store.checkpoints.commit_epoch("main", commit(number, number))
    with pytest.raises(InternalError, match="cannot follow"):
        store.checkpoints.commit_epoch("main", commit(epoch, epoch))


def test_windows_are_absolute_and_kept(store: Store) -> None:
    store.checkpoints.commit_epoch("main", commit(1, 1, counted=windows(("visit", "4", 0, 120, 9, 2, 1, False))))
    later = windows(("visit", "4", 0, 120, 12, 3, 2, True), ("login", "4", 0, 120, 1, 0, 0, False))
    store.checkpoints.commit_epoch("main", commit(2, 2, counted=later))
    assert store.windows.find().rows() == [
        ("here", "login", "4", 0, 120, 1, 0, 0, False),
        ("here", "visit", "4", 0, 120, 12, 3, 2, True),
    ]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_updates_never_go_back(counts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "store.sqlite") as store:
        store.checkpoints.log_batches("main", [], [alert(1)])
        for count in counts:
            update = AlertUpdate(alert(1).id, count, None, 2000.0 + count, ("x",) * count)
            store.checkpoints.log_batches("main", [], [], [update])
        found = store.triage.alert(alert(1).id)
        assert (found.count, found.last_seen, len(found.subjects)) == (max(counts), 2000.0 + max(counts), max(counts))


def test_nothing_of_a_failed_call_stays(store: Store) -> None:
    with pytest.raises((HackwatchError, TypeError)):
        store.checkpoints.log_batches("main", [batch(1)], [alert(1), alert(2, title=None)])
    assert store.checkpoints.latest("main") is None
    assert store.triage.alerts() == []
    store.checkpoints.log_batches("main", [batch(1)], [alert(1)])
    assert len(store.triage.alerts()) == 1


def test_status_is_replaced(store: Store) -> None:
    store.statuses.write("main", {"state": "running", "rate": 1.5})
    store.statuses.write("main", {"state": "stopped", "rate": float("nan")})
    store.statuses.write("other", {})
    assert store.statuses.read() == {"main": {"state": "stopped", "rate": None}, "other": {}}


def test_threads_write_at_once_and_nothing_is_lost(store: Store) -> None:
    store.outbox.set_routes(["file"])
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        return thread

    def log() -> None:
        for number in range(1, 201):
            store.checkpoints.log_batches("main", [batch(number)], [alert(number)])

    def epochs() -> None:
        for epoch in range(1, 11):
            store.checkpoints.commit_epoch("main", commit(epoch, 0, states={"a": b"x" * 2 * PART_BYTES}))

    def read() -> None:
        for _ in range(50):
            found = store.checkpoints.latest("main")
            assert found is None or not found.states or len(found.states["a"]) == 2 * PART_BYTES
            store.triage.alerts()

    def people() -> None:
        for number in range(1, 51):
            while not store.triage.alerts(after=number - 1, limit=1):
                pass
            store.triage.acknowledge(alert(number).id, by="me", now=1.0)

    for thread in [run(log), run(epochs), run(read), run(people)]:
        thread.join()
    assert failures == []
    found = store.checkpoints.latest("main")
    assert found is not None
    assert (found.epoch, len(found.batches), len(store.outbox.due(1e12, 1000))) == (10, 200, 200)
    assert len(store.triage.alerts(statuses=["acknowledged"])) == 50
