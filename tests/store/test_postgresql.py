"""What is special about PostgreSQL: others that write at once, a server that is not there, and the ways in."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import psycopg
import pytest

from hackwatch.errors import ConfigurationError, DataError, EnvironmentError_, HackwatchError, InternalError
from hackwatch.store import NoStore, Store, open_store
from hackwatch.store.holding import TakenOver
from hackwatch.store.postgresql import PostgresqlDatabase
from hackwatch.store.schema import MIGRATIONS, VERSION, migrate
from tests.servers.postgres import PASSWORD, Server, missing
from tests.servers.process import started
from tests.store.support import alert, batch, commit, windows

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, text=True,
    )  # fmt: skip


def finished(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What they wrote; all of them ended well."""
    said = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return said


# ---------------------------------------------------------------------- tables

_OPENS = """
import sys
from hackwatch.store import open_store, postgresql
print("ready", flush=True)
sys.stdin.readline()
with open_store(sys.argv[1]) as store:
    print(store.identity)
"""


def test_eight_processes_make_one_store(postgres_url: str) -> None:
    processes = [python(_OPENS, postgres_url) for _ in range(8)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert len(set(finished(processes))) == 1


def test_each_migration_runs_once_and_newer_ones_are_refused(postgres_url: str) -> None:
    with open_store(postgres_url) as store:
        store.log_batches("main", [], [alert(1)])
        longer = [*MIGRATIONS, ("ALTER TABLE alerts ADD COLUMN colour TEXT", "UPDATE alerts SET colour = 'red'")]
        for _ in range(2):
            migrate(store.database, migrations=longer)
        broken = [*longer, ("CREATE TABLE extra (a TEXT)", "CREATE TABLE extra (a TEXT)")]
        with pytest.raises(InternalError, match="already exists"):
            migrate(store.database, migrations=broken)
        with store.database.read() as transaction:
            assert transaction.fetch("SELECT id, colour FROM alerts") == [(alert(1).id, "red")]
            assert transaction.fetch(store.database.dialect.table_exists, ("extra",)) == []
    for read_only in (False, True):
        with pytest.raises(EnvironmentError_, match=f"has version {VERSION + 1}, this hackwatch knows"):
            open_store(postgres_url, read_only=read_only)


def test_an_older_store_is_not_read_without_bringing_it_up(postgres_url: str) -> None:
    open_store(postgres_url).close()
    database = PostgresqlDatabase(postgres_url, read_only=True)
    with closing(database), pytest.raises(EnvironmentError_, match="older version"):
        migrate(database, read_only=True, migrations=[*MIGRATIONS, ()])


def test_reading_needs_a_store_and_changes_nothing(postgres_url: str) -> None:
    with pytest.raises(NoStore):
        open_store(postgres_url, read_only=True)
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT * FROM pg_tables WHERE schemaname = 'public'").fetchall() == []
    with open_store(postgres_url) as store:
        store.log_batches("main", [], [alert(1)])
    with open_store(postgres_url, read_only=True) as reader:
        assert len(reader.alerts()) == 1
        with pytest.raises(EnvironmentError_, match="read-only"):
            reader.acknowledge(alert(1).id, by="me", now=1.0)


def test_schemas_of_one_database_are_stores_of_their_own(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE SCHEMA one")
        connection.execute("CREATE SCHEMA two")
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(open_store(f"{postgres_url}?options=-csearch_path%3D{name}")) for name in ("one", "two")
        )
        assert one.identity != two.identity
        one.log_batches("main", [batch(1)], [alert(1)])
        assert two.alerts() == []
        stack.enter_context(one.hold("main"))
        stack.enter_context(two.hold("main"))


def test_use_after_close_is_a_bug(postgres_url: str) -> None:
    store = open_store(postgres_url)
    store.close()
    with pytest.raises(InternalError):
        store.alerts()


def test_a_commit_is_on_disk_even_where_the_server_would_not_wait(postgres: Server) -> None:
    """A server that forgets commits in a crash would know less than the lake."""
    name = postgres.create()
    with postgres.connected() as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off".encode())
    with open_store(postgres.url(name)) as store, store.database.write() as transaction:
        assert transaction.fetch("SELECT current_setting('synchronous_commit')") == [("on",)]
    postgres.drop(name)


# ---------------------------------------------------------------------- hostile texts


def test_names_that_postgresql_cannot_keep_as_they_are(store_here: Store) -> None:
    """The character 0, and names longer than an index takes: from a machine that says itself what it is called."""
    name = "a\0b'%s%%?" + "\N{GRINNING FACE}" * 100_000
    rows = windows(("process", name, 0, 120, 1, 1, 1, False), ("process", "x\0", 0, 120, 2, 0, 0, False))
    store_here.commit_epoch("main", commit(1, 1, counted=rows))
    store_here.log_batches("main", [], [alert(1, entity=name, subject="\0", title="t\0", evidence={"CMD": "\0"})])
    store_here.write_status("main", {"paused": "\0%s"})
    kept = store_here.windows().rows()
    assert [row[2][:10] for row in kept if row[5] == 1] == ["a\ufffdb'%s%%?\N{GRINNING FACE}"]
    assert [row[2] for row in kept if row[5] == 2] == ["x\ufffd"]
    found = store_here.alert(alert(1).id)
    assert (found.subject, found.title, found.evidence) == ("\ufffd", "t\ufffd", {"CMD": "\0"})
    assert len(found.entity) == 512
    assert store_here.status() == {"main": {"paused": "\0%s"}}


@pytest.fixture
def store_here(postgres_url: str) -> Iterator[Store]:
    with open_store(postgres_url, site="here") as store:
        yield store


# ---------------------------------------------------------------------- many at once

_ENGINE = """
import sys
from dataclasses import replace
from hackwatch.pipeline.alert import AlertUpdate
from hackwatch.store import open_store
from tests.store.support import alert, batch, commit, windows

address, name, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
first = int(name) * 100_000
with open_store(address, site=name) as store, store.hold(name):
    store.set_routes(["file", "hook"])
    for epoch in range(1, epochs + 1):
        for number in range(first + epoch * 10, first + epoch * 10 + 10):
            store.log_batches(name, [batch(number - first)], [alert(number, site=name)])
        updates = [AlertUpdate(alert(n).id, epoch, 2000.0 + epoch, ("x",)) for n in range(first + 10, first + 20)]
        store.log_batches(name, [], [], updates)
        rows = [("process", f"m{n}", epoch // 3 * 120, 0, epoch, 0, 0, epoch % 3 == 2) for n in range(300)]
        states = {"a": bytes([epoch]) * (epoch % 2 << 20)}
        store.commit_epoch(name, commit(epoch, epoch * 10 + 9, states=states, counted=windows(*rows), records=epoch))
        store.write_status(name, {"epoch": epoch})
        for message in store.outbox(name).outbox_due(1e12, 7, route="file"):
            store.outbox_done(message.id, now=1.0)
        store.prune(windows_before=0.0, alerts_before=0.0, outbox_before=0.0, pipeline=name)
"""
_FOLLOWER = """
import sys, time
from hackwatch.store import open_store
address, expected = sys.argv[1], int(sys.argv[2])
seen, after = set(), 0
with open_store(address, read_only=True) as store:
    while len(seen) < expected:
        time.sleep(0.01)
        for found in store.alerts(after=after, limit=50):
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
        for found in store.alerts(after=after, limit=20):
            after, expected = found.sequence, expected - 1
            store.acknowledge(found.id, by=me, now=1.0)
            if found.sequence % 20 == 0:
                store.unmute(store.mute("nothing", me, until=9.0, now=1.0).id, now=2.0)
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
        alerts = store.alerts(limit=None)
        assert len(alerts) == expected
        assert {found.status for found in alerts} == {"acknowledged"}
        for name in map(str, range(1, engines + 1)):
            own = [found for found in alerts if found.site == name]
            assert sorted(found.count for found in own)[-10:] == [epochs] * 10
            found_ = store.checkpoint(name)
            assert found_ is not None
            assert (found_.epoch, found_.batches) == (epochs, ())
            assert len(found_.states["a"]) == epochs % 2 << 20
            assert store.outbox_counts(name)["file"]["done"] + store.outbox_counts(name)["file"]["waiting"] <= expected
            assert store.outbox_counts(name)["hook"]["waiting"] == epochs * 10
            counted = store.windows(site=name)
            assert counted.height == 300 * (epochs // 3 + 1)
            assert counted["records"].max() == epochs


def test_alerts_become_visible_in_the_order_of_their_numbers(postgres_url: str) -> None:
    """Who follows by number, and has seen the second, would never look for the first again."""
    with open_store(postgres_url) as slow, open_store(postgres_url) as quick:
        later = threading.Thread(target=quick.log_batches, args=("two", [], [alert(2)]))
        with slow.database.write() as transaction:
            slow._insert_alerts(transaction, "one", [alert(1)])
            later.start()
            later.join(0.5)
            assert slow.alerts(after=0) == []
        later.join()
        assert [found.id for found in slow.alerts(after=0)] == [alert(1).id, alert(2).id]


def test_two_that_prune_do_not_wait_for_each_other(postgres_url: str) -> None:
    with open_store(postgres_url, site="here") as one, open_store(postgres_url, site="here") as two:
        one.log_batches("main", [], [alert(number, site="here") for number in range(1, 6)])
        with one.database.write() as transaction:
            transaction.execute("DELETE FROM alerts WHERE id = ?", (alert(3).id,))
            assert two.prune(alerts_before=1e12) == {"alerts": 4}
        assert two.alerts() == []


def test_of_two_decisions_at_once_none_is_mixed(postgres_url: str) -> None:
    with open_store(postgres_url) as store:
        store.log_batches("main", [], [alert(1)])
        together = threading.Barrier(4)

        def decide(name: str) -> None:
            together.wait()
            for _ in range(20):
                store.acknowledge(alert(1).id, by=name, now=float(ord(name)), note=f"of {name}")

        threads = [threading.Thread(target=decide, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = store.alert(alert(1).id)
        assert found.handled_by is not None
        assert (found.handled_at, found.note) == (float(ord(found.handled_by)), f"of {found.handled_by}")


def test_each_engine_sends_its_own_alerts_once(postgres_url: str) -> None:
    """Two dispatchers with a route of the same name: none takes what the other has to send."""
    with open_store(postgres_url) as one, open_store(postgres_url) as two:
        for store in (one, two):
            store.set_routes(["soc"])
        one.log_batches("one", [], [alert(1)])
        two.log_batches("two/process", [], [alert(2)])
        for store in (one, two):
            sent = [store.outbox(name).outbox_due(1e12, route="soc") for name in ("one", "two", "on_", "three")]
            assert [[message.alert.id for message in due] for due in sent] == [[alert(1).id], [alert(2).id], [], []]
        assert one.outbox_counts("two") == {"soc": {"waiting": 1, "done": 0, "failed": 0}}
        two.outbox_done(two.outbox("two").outbox_due(1e12)[0].id, now=1.0)
        assert two.prune(outbox_before=1e12, pipeline="one") == {"outbox": 0}
        assert two.prune(outbox_before=1e12, pipeline="two") == {"outbox": 1}


# ---------------------------------------------------------------------- one engine a pipeline

_HOLDER = """
import sys, time
from hackwatch.store import open_store
store = open_store(sys.argv[1])
with store.hold("main"):
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
            pytest.raises(EnvironmentError_, match=rf"another engine \(process {holder.pid} on .*'main'"),
            store.hold("main"),
        ):
            pass
        with store.hold("other"):
            store.log_batches("other", [batch(1)])
        holder.kill()
        holder.communicate()
        _until(lambda: _held(store))


def _held(store: Store) -> bool:
    try:
        with store.hold("main"):
            store.log_batches("main", [batch(1)])
            store.log_batches("main/process", [batch(1)])
    except EnvironmentError_:
        return False
    return True


def _until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_who_was_cut_off_while_another_began_writes_nothing_any_more(postgres_url: str) -> None:
    """As after a long break of the network: the server let go of the lock, and another machine took the pipeline."""
    with open_store(postgres_url) as first, open_store(postgres_url) as second, first.hold("main") as lock:
        first.log_batches("main", [batch(1)])
        _cut_off(postgres_url)
        first.log_batches("main", [batch(2)])  # nobody else is there: it goes on
        _cut_off(postgres_url)
        with second.hold("main"):
            second.commit_epoch("main", commit(1, 2))
            writes: list[Callable[[], None]] = [
                lambda: first.log_batches("main", [batch(3)], [alert(1)]),
                lambda: first.commit_epoch("main", commit(2, 3)),
                lambda: first.commit_epoch("main", commit(2, 3, states={"a": b"x" * (3 << 20)})),
                lambda: first.write_status("main", {"state": "running"}),
            ]
            for write in writes:
                with pytest.raises(TakenOver, match="taken over the pipeline 'main'"):
                    write()
            lock.renew()
            found = second.checkpoint("main")
            assert found is not None
            assert (found.epoch, found.batches, second.alerts(), second.status()) == (1, (), [], {})
            with second.database.read() as transaction:
                assert transaction.fetch("SELECT DISTINCT epoch FROM state") == [(1,)]


def test_a_lock_that_was_lost_is_taken_again(postgres_url: str) -> None:
    with open_store(postgres_url) as first, open_store(postgres_url) as second, first.hold("main") as lock:
        _cut_off(postgres_url)
        lock.renew()
        with pytest.raises(EnvironmentError_, match="another engine"), second.hold("main"):
            pass


def _cut_off(address: str) -> None:
    """End all connections to the database but this one."""
    with psycopg.connect(address) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
    time.sleep(0.1)


# ---------------------------------------------------------------------- a server that goes away


def test_connections_that_a_restart_broke_are_replaced_unnoticed(own_postgres: Server) -> None:
    with open_store(own_postgres.url()) as store:
        threads = [threading.Thread(target=store.alerts) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        own_postgres.stop()
        own_postgres.start()
        store.log_batches("main", [batch(1)], [alert(1)])
        assert len(store.alerts()) == 1


def test_a_server_that_is_gone_is_told_and_missed_by_nobody_afterwards(own_postgres: Server) -> None:
    with open_store(own_postgres.url()) as store, store.hold("main") as lock:
        store.log_batches("main", [batch(1)])
        own_postgres.kill()
        for attempt in (lambda: store.log_batches("main", [batch(2)]), store.alerts, lock.renew):
            with pytest.raises(EnvironmentError_, match="cannot be reached") as caught:
                attempt()
            assert "look whether the server runs" in str(caught.value)
            assert caught.value.passing
        own_postgres.start()
        lock.renew()
        store.log_batches("main", [batch(2)])
        found = store.checkpoint("main")
        assert found is not None
        assert [entry.number for entry in found.batches] == [1, 2]


_WRITER = """
import sys
from hackwatch.store import open_store
from tests.store.support import alert, batch
store = open_store(sys.argv[1])
for number in range(1, 100_000):
    store.log_batches("main", [batch(number)], [alert(number)])
    print(number, flush=True)
"""


@pytest.mark.parametrize("durable", [False, True], ids=["kill", "kill, forced to disk"])
def test_what_was_said_to_be_written_survives_a_kill_of_the_server(durable: bool) -> None:
    if why := missing():
        pytest.skip(why)
    with started(Server(durable=durable)) as server:
        process = python(_WRITER, server.url())
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(40)]
        server.kill()
        rest = process.communicate()[0]
        said += [int(line) for line in rest.splitlines() if line.isdigit()]
        assert "cannot be reached" in rest
        server.start()
        with open_store(server.url()) as store:
            found = store.checkpoint("main")
            assert found is not None
            numbers = [entry.number for entry in found.batches]
            assert numbers[: len(said)] == said
            assert len(numbers) - len(said) <= 1
            assert len(store.alerts(limit=None)) == len(numbers)


def test_a_writer_that_was_stopped_within_a_transaction_holds_up_nobody_for_long(postgres_url: str) -> None:
    """A process that hangs while it has its turn: the server ends its transaction after 20 s; here, told to sooner."""
    with open_store(postgres_url) as hanging, open_store(postgres_url) as other:
        with pytest.raises(EnvironmentError_), hanging.database.write() as transaction:  # noqa: PT012 # it is one
            transaction.execute("SET LOCAL idle_in_transaction_session_timeout = '300ms'")
            transaction.fetch(hanging.database.dialect.turn, ("alerts",))
            other.log_batches("main", [batch(1)], [alert(1)])
            transaction.fetch("SELECT 1")
        assert len(hanging.alerts()) == 1


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "what", "help_"),
    [
        (lambda s, d: f"postgresql://hackwatch@127.0.0.1:1/{d}", "cannot be reached: .*refused", "look whether"),
        (lambda s, d: f"postgresql://hackwatch@nowhere.invalid/{d}", "cannot be reached: .*resolve", "look whether"),
        (lambda s, d: s.url(d, password="wrong"), "refused the user or the password", "store.password_file"),
        (lambda s, d: s.url(d, password=None), "refused the user or the password", "store.password_file"),
        (lambda s, d: s.url("nope"), "no such database", "createdb .*--owner=hackwatch nope"),
        (lambda s, d: s.url(d) + "?sslmode=require", "no encrypted connection", "sslmode"),
    ],
    ids=["no server", "no host", "wrong password", "no password", "no database", "no encryption"],
)
def test_what_is_wrong_is_said_with_what_helps(
    postgres: Server, change: Callable[[Server, str], str], what: str, help_: str
) -> None:
    address = change(postgres, "postgres")
    for read_only in (False, True):
        with pytest.raises(EnvironmentError_, match=what) as caught:
            open_store(address, read_only=read_only)
        assert caught.value.exit_code == 4
        assert caught.value.next_step is not None
        assert re.search(help_, caught.value.next_step)
        assert str(caught.value.where).startswith("postgresql://hackwatch@")


@pytest.mark.parametrize(
    "address", ["postgresql://u:hunter2@h/d?nonsense=1", "postgresql://u:hunter2@[::1/d", "postgresql://u:%zz@h/d"]
)
def test_an_address_that_is_none_is_told_without_its_password(address: str) -> None:
    with pytest.raises(ConfigurationError, match="no address of a PostgreSQL database") as caught:
        open_store(address)
    assert "hunter2" not in str(caught.value) + repr(caught.value)
    assert "zz" not in str(caught.value)


def test_a_user_who_may_not_make_tables(postgres: Server) -> None:
    name = postgres.create()
    with postgres.connected() as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    address = postgres.url(name, user="guest", password="guest")
    with pytest.raises(EnvironmentError_, match="permission denied for schema public") as caught:
        open_store(address)
    assert "GRANT" in str(caught.value)
    open_store(postgres.url(name)).close()
    with postgres.connected(name) as connection:
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest")
    with open_store(address, read_only=True) as reader:
        assert reader.alerts() == []
    with open_store(address) as store, pytest.raises(EnvironmentError_, match="permission denied for table mutes"):
        store.mute("r", None, until=9.0, now=1.0)
    postgres.drop(name)


def test_a_database_that_does_not_know_all_characters_is_refused(postgres: Server) -> None:
    name = postgres.create(options="ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    with pytest.raises(EnvironmentError_, match="keeps texts as LATIN1") as caught:
        open_store(postgres.url(name))
    assert "--encoding=UTF8" in str(caught.value)
    postgres.drop(name)


def test_a_store_that_is_replaced_under_an_engine_is_told(postgres_url: str) -> None:
    """Nothing is written into another store as if it were the one before."""
    with open_store(postgres_url) as store, store.hold("main"):
        with psycopg.connect(postgres_url) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        with pytest.raises(DataError, match="not the store that it was"):
            store.log_batches("main", [batch(1)])
        with open_store(postgres_url), pytest.raises(TakenOver):
            store.log_batches("main", [batch(1)])


@pytest.mark.platform
def test_a_full_disk_of_the_server_is_survived(own_postgres: Server) -> None:
    place = own_postgres.folder / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    shutil.chown(place, own_postgres.folder.owner(), own_postgres.folder.group())
    try:
        with own_postgres.connected() as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{place}'".encode())
        with open_store(own_postgres.url(own_postgres.create(options="TABLESPACE small"))) as store:
            store.log_batches("main", [batch(1)], [alert(1)])
            with suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
            large = {"a": os.urandom(1 << 20)}
            with pytest.raises(EnvironmentError_, match=r"cannot be written: .*No space left") as caught:
                store.commit_epoch("main", commit(1, 1, states=large))
            assert "free space" in str(caught.value)
            assert len(store.alerts()) == 1
            (place / "filler").unlink()
            store.commit_epoch("main", commit(1, 1, states=large))
            found = store.checkpoint("main")
            assert found is not None
            assert found.states == large
    finally:
        own_postgres.kill()
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "hackwatch.store.postgresql")
    with pytest.raises(EnvironmentError_, match="extra `postgres`") as caught:
        open_store("postgresql://u:hunter2@h/d")
    assert "pip install 'hackwatch[postgres]'" in str(caught.value)
    assert "hunter2" not in str(caught.value)


# ---------------------------------------------------------------------- the password


def test_the_password_is_in_no_error(postgres: Server) -> None:
    told: list[str] = []
    for address in (postgres.url("nope"), postgres.url("postgres") + "?sslmode=require"):
        try:
            open_store(address)
        except HackwatchError as error:
            told += [str(error), repr(error), str(error.__cause__), repr(vars(error))]
    with open_store(postgres.url("postgres")) as store:
        told += [store.database.name, repr(store.database), repr(store)]
    assert len(told) == 11
    assert not [text for text in told if PASSWORD in text or "p%40ss" in text]


def test_signals_do_not_break_a_connection(postgres_url: str) -> None:
    """Ctrl-C in the middle of a statement: the transaction is undone, and the store stays usable."""
    with open_store(postgres_url) as store:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt), store.database.write() as transaction:
            transaction.execute("SELECT pg_sleep(20)")
        timer.join()
        store.log_batches("main", [batch(1)], [alert(1)])
        assert len(store.alerts()) == 1
