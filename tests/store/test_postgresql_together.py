"""PostgreSQL with others that write at once: nothing is lost, nobody waits for ever, one engine a pipeline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from hackwatch.errors import DataError, ResourceError
from hackwatch.store import Store, open_store
from hackwatch.store.alerts import insert_alerts
from hackwatch.store.locks import TakenOver
from tests.store.support import alert, batch, commit, finished, python

pytestmark = pytest.mark.slow


# ---------------------------------------------------------------------- many at once

_ENGINE = """
import sys
from dataclasses import replace
from hackwatch.alerts.alert import AlertUpdate
from hackwatch.store import open_store
from tests.store.support import alert, batch, commit, windows

address, name, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
first = int(name) * 100_000
with open_store(address, site=name) as store, store.locks.hold(name):
    store.outbox.set_routes(["file", "hook"])
    for epoch in range(1, epochs + 1):
        for number in range(first + epoch * 10, first + epoch * 10 + 10):
            store.checkpoints.log_batches(name, [batch(number - first)], [alert(number, site=name)])
        updates = [AlertUpdate(alert(n).id, epoch, None, 2000.0 + epoch, ("x",)) for n in range(first + 10, first + 20)]
        store.checkpoints.log_batches(name, [], [], updates)
        rows = [("visit", f"m{n}", epoch // 3 * 120, 0, epoch, 0, 0, epoch % 3 == 2) for n in range(300)]
        states = {"a": bytes([epoch]) * (epoch % 2 << 20)}
        epoch_ = commit(epoch, epoch * 10 + 9, states=states, counted=windows(*rows), records=epoch)
        store.checkpoints.commit_epoch(name, epoch_)
        store.statuses.write(name, {"epoch": epoch})
        for message in store.outbox.of(name).due(1e12, 7, route="file"):
            store.outbox.done(message.id, now=1.0)
        store.retention.prune(windows_before=0.0, alerts_before=0.0, outbox_before=0.0, pipeline=name)
"""
_FOLLOWER = """
import sys, time
from hackwatch.store import open_store
address, expected = sys.argv[1], int(sys.argv[2])
seen, after = set(), 0
with open_store(address, read_only=True) as store:
    while len(seen) < expected:
        time.sleep(0.01)
        for found in store.triage.alerts(after=after, limit=50):
            assert found.sequence > after
            after = found.sequence
            seen.add(found.id)
"""
_PERSON = """
import sys, time
from hackwatch.store import open_store
address, expected, me = sys.argv[1], int(sys.argv[2]), sys.argv[3]
after = 0
with open_store(address) as store:
    while expected:
        time.sleep(0.01)
        for found in store.triage.alerts(after=after, limit=20):
            after, expected = found.sequence, expected - 1
            store.triage.acknowledge(found.id, by=me, now=1.0)
            if found.sequence % 20 == 0:
                store.triage.unmute(store.triage.mute("nothing", me, until=9.0, now=1.0).id, now=2.0)
                assert found.id in set(store.frame("alerts")["id"])
"""


def test_engines_people_and_followers_at_once(postgres_url: str) -> None:
    """No update is lost, nobody waits for ever, and who follows the alerts by their number misses none."""
    open_store(postgres_url).close()
    engines, epochs = 3, 9
    expected = engines * epochs * 10
    processes = [python(_ENGINE, postgres_url, str(number), str(epochs)) for number in range(1, engines + 1)]
    processes.append(python(_FOLLOWER, postgres_url, str(expected)))
    processes += [python(_PERSON, postgres_url, str(expected), name) for name in ("ann", "bob")]
    finished(processes)
    with open_store(postgres_url) as store:
        alerts = store.triage.alerts(limit=None)
        assert len(alerts) == expected
        assert {found.status for found in alerts} == {"acknowledged"}
        for name in map(str, range(1, engines + 1)):
            own = [found for found in alerts if found.site == name]
            assert sorted(found.count for found in own)[-10:] == [epochs] * 10
            found_ = store.checkpoints.latest(name)
            assert found_ is not None
            assert (found_.epoch, found_.batches) == (epochs, ())
            assert len(found_.states["a"]) == epochs % 2 << 20
            assert store.outbox.counts(name)["file"]["done"] + store.outbox.counts(name)["file"]["waiting"] <= expected
            assert store.outbox.counts(name)["hook"]["waiting"] == epochs * 10
            counted = store.windows.find(site=name)
            assert counted.height == 300 * (epochs // 3 + 1)
            assert counted["records"].max() == epochs


def test_alerts_become_visible_in_the_order_of_their_numbers(postgres_url: str) -> None:
    """Who follows by number, and has seen the second, would never look for the first again."""
    with open_store(postgres_url) as slow, open_store(postgres_url) as quick:
        later = threading.Thread(target=quick.checkpoints.log_batches, args=("two", [], [alert(2)]))
        with slow.database.write() as transaction:
            insert_alerts(transaction, slow.database.dialect, [alert(1)])
            later.start()
            later.join(0.5)
            assert slow.triage.alerts(after=0) == []
        later.join()
        assert [found.id for found in slow.triage.alerts(after=0)] == [alert(1).id, alert(2).id]


def test_two_that_prune_do_not_wait_for_each_other(postgres_url: str) -> None:
    with open_store(postgres_url, site="here") as one, open_store(postgres_url, site="here") as two:
        one.checkpoints.log_batches("main", [], [alert(number, site="here") for number in range(1, 6)])
        with one.database.write() as transaction:
            transaction.execute("DELETE FROM alerts WHERE id = ?", (alert(3).id,))
            assert two.retention.prune(alerts_before=1e12) == {"alerts": 4}
        assert two.triage.alerts() == []


def test_of_two_decisions_at_once_none_is_mixed(postgres_url: str) -> None:
    with open_store(postgres_url) as store:
        store.checkpoints.log_batches("main", [], [alert(1)])
        together = threading.Barrier(4)

        def decide(name: str) -> None:
            together.wait()
            for _ in range(20):
                store.triage.acknowledge(alert(1).id, by=name, now=float(ord(name)), note=f"of {name}")

        threads = [threading.Thread(target=decide, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = store.triage.alert(alert(1).id)
        assert found.handled_by is not None
        assert (found.handled_at, found.note) == (float(ord(found.handled_by)), f"of {found.handled_by}")


def test_each_engine_sends_its_own_alerts_once(postgres_url: str) -> None:
    """Two dispatchers with a route of the same name: none takes what the other has to send."""
    with open_store(postgres_url) as one, open_store(postgres_url) as two:
        for store in (one, two):
            store.outbox.set_routes(["soc"])
        one.checkpoints.log_batches("one", [], [alert(1)])
        two.checkpoints.log_batches("two/visit", [], [alert(2)])
        for store in (one, two):
            sent = [store.outbox.of(name).due(1e12, route="soc") for name in ("one", "two", "on_", "three")]
            assert [[message.alert.id for message in due] for due in sent] == [[alert(1).id], [alert(2).id], [], []]
        assert one.outbox.counts("two") == {"soc": {"waiting": 1, "done": 0, "failed": 0}}
        two.outbox.done(two.outbox.of("two").due(1e12)[0].id, now=1.0)
        assert two.retention.prune(outbox_before=1e12, pipeline="one") == {"outbox": 0}
        assert two.retention.prune(outbox_before=1e12, pipeline="two") == {"outbox": 1}


# ---------------------------------------------------------------------- one engine a pipeline

_HOLDER = """
import sys, time
from hackwatch.store import open_store
store = open_store(sys.argv[1])
with store.locks.hold("main"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_engine_of_a_pipeline_is_refused_until_the_first_is_gone(postgres_url: str) -> None:
    open_store(postgres_url).close()
    holder = python(_HOLDER, postgres_url)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with open_store(postgres_url) as store:
        with (
            pytest.raises(ResourceError, match=rf"another engine \(process {holder.pid} on .*'main'"),
            store.locks.hold("main"),
        ):
            pass
        with store.locks.hold("other"):
            store.checkpoints.log_batches("other", [batch(1)])
        holder.kill()
        holder.communicate()
        _until(lambda: _held(store))


def _held(store: Store) -> bool:
    try:
        with store.locks.hold("main"):
            store.checkpoints.log_batches("main", [batch(1)])
            store.checkpoints.log_batches("main/visit", [batch(1)])
    except ResourceError:
        return False
    return True


def _until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_who_was_cut_off_while_another_began_writes_nothing_any_more(postgres_url: str) -> None:
    """As after a long break of the network: the server let go of the lock, and another machine took the pipeline."""
    with open_store(postgres_url) as first, open_store(postgres_url) as second, first.locks.hold("main") as lock:
        first.checkpoints.log_batches("main", [batch(1)])
        _cut_off(postgres_url)
        first.checkpoints.log_batches("main", [batch(2)])  # nobody else is there: it goes on
        _cut_off(postgres_url)
        with second.locks.hold("main"):
            second.checkpoints.commit_epoch("main", commit(1, 2))
            writes: list[Callable[[], None]] = [
                lambda: first.checkpoints.log_batches("main", [batch(3)], [alert(1)]),
                lambda: first.checkpoints.commit_epoch("main", commit(2, 3)),
                lambda: first.checkpoints.commit_epoch("main", commit(2, 3, states={"a": b"x" * (3 << 20)})),
                lambda: first.statuses.write("main", {"state": "running"}),
            ]
            for write in writes:
                with pytest.raises(TakenOver, match="taken over the pipeline 'main'"):
                    write()
            lock.renew()
            found = second.checkpoints.latest("main")
            assert found is not None
            assert (found.epoch, found.batches, second.triage.alerts(), second.statuses.read()) == (1, (), [], {})
            with second.database.read() as transaction:
                assert transaction.fetch("SELECT DISTINCT epoch FROM state") == [(1,)]


def test_a_lock_that_was_lost_is_taken_again(postgres_url: str) -> None:
    with open_store(postgres_url) as first, open_store(postgres_url) as second, first.locks.hold("main") as lock:
        _cut_off(postgres_url)
        lock.renew()
        with pytest.raises(ResourceError, match="another engine"), second.locks.hold("main"):
            pass


def _cut_off(address: str) -> None:
    """End all connections to the database but this one."""
    with psycopg.connect(address) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
    time.sleep(0.1)


def test_a_store_that_is_replaced_under_an_engine_is_told(postgres_url: str) -> None:
    """Nothing is written into another store as if it were the one before."""
    with open_store(postgres_url) as store, store.locks.hold("main"):
        with psycopg.connect(postgres_url) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        with pytest.raises(DataError, match="not the store that it was"):
            store.checkpoints.log_batches("main", [batch(1)])
        with open_store(postgres_url), pytest.raises(TakenOver):
            store.checkpoints.log_batches("main", [batch(1)])
