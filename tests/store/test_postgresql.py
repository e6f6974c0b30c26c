"""What is special about PostgreSQL: how the tables come about and are found, and texts that it cannot keep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest

from hackwatch.errors import InternalError, ResourceError
from hackwatch.store import NoStore, Store, open_store
from hackwatch.store.postgresql import PostgresqlDatabase
from hackwatch.store.schema import MIGRATIONS, VERSION, migrate
from tests.servers.postgres import Server
from tests.store.support import alert, batch, commit, finished, python, windows

pytestmark = pytest.mark.slow


# ---------------------------------------------------------------------- tables

_OPENS = """
import sys
from hackwatch.store import open_store, postgresql
print("ready", flush=True)
sys.stdin.readline()
with open_store(sys.argv[1]) as store:
    print(store.checkpoints.identity)
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
        store.checkpoints.log_batches("main", [], [alert(1)])
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
        with pytest.raises(ResourceError, match=f"has version {VERSION + 1}, this hackwatch knows"):
            open_store(postgres_url, read_only=read_only)


def test_an_older_store_is_not_read_without_bringing_it_up(postgres_url: str) -> None:
    open_store(postgres_url).close()
    database = PostgresqlDatabase(postgres_url, read_only=True)
    with closing(database), pytest.raises(ResourceError, match="older version"):
        migrate(database, read_only=True, migrations=[*MIGRATIONS, ()])


def test_reading_needs_a_store_and_changes_nothing(postgres_url: str) -> None:
    with pytest.raises(NoStore):
        open_store(postgres_url, read_only=True)
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT * FROM pg_tables WHERE schemaname = 'public'").fetchall() == []
    with open_store(postgres_url) as store:
        store.checkpoints.log_batches("main", [], [alert(1)])
    with open_store(postgres_url, read_only=True) as reader:
        assert len(reader.triage.alerts()) == 1
        with pytest.raises(ResourceError, match="read-only"):
            reader.triage.acknowledge(alert(1).id, by="me", now=1.0)


def test_schemas_of_one_database_are_stores_of_their_own(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE SCHEMA one")
        connection.execute("CREATE SCHEMA two")
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(open_store(f"{postgres_url}?options=-csearch_path%3D{name}")) for name in ("one", "two")
        )
        assert one.checkpoints.identity != two.checkpoints.identity
        one.checkpoints.log_batches("main", [batch(1)], [alert(1)])
        assert two.triage.alerts() == []
        stack.enter_context(one.locks.hold("main"))
        stack.enter_context(two.locks.hold("main"))


def test_use_after_close_is_a_bug(postgres_url: str) -> None:
    store = open_store(postgres_url)
    store.close()
    with pytest.raises(InternalError):
        store.triage.alerts()


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
    """The character 0, and names longer than an index takes: from a client that chooses its own name."""
    name = "a\0b'%s%%?" + "\N{GRINNING FACE}" * 100_000
    rows = windows(("visit", name, 0, 120, 1, 1, 1, False), ("visit", "x\0", 0, 120, 2, 0, 0, False))
    store_here.checkpoints.commit_epoch("main", commit(1, 1, counted=rows))
    named = alert(1, entity=name, subject="\0", title="t\0", evidence={"path": "\0"})
    store_here.checkpoints.log_batches("main", [], [named])
    store_here.statuses.write("main", {"paused": "\0%s"})
    kept = store_here.windows.find().rows()
    assert [row[2][:10] for row in kept if row[5] == 1] == ["a\ufffdb'%s%%?\N{GRINNING FACE}"]
    assert [row[2] for row in kept if row[5] == 2] == ["x\ufffd"]
    found = store_here.triage.alert(alert(1).id)
    assert (found.subject, found.title, found.evidence) == ("\ufffd", "t\ufffd", {"path": "\0"})
    assert len(found.entity) == 512
    assert store_here.statuses.read() == {"main": {"paused": "\0%s"}}


@pytest.fixture
def store_here(postgres_url: str) -> Iterator[Store]:
    with open_store(postgres_url, site="here") as store:
        yield store
