"""A PostgreSQL server that restarts, is killed or has no space left, and statements that do not come to their end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from contextlib import suppress

import pytest

from hackwatch.errors import ResourceError
from hackwatch.store import open_store
from tests.servers.postgres import Server, missing
from tests.servers.process import started
from tests.store.support import alert, batch, commit, python

pytestmark = pytest.mark.slow


def test_connections_that_a_restart_broke_are_replaced_unnoticed(own_postgres: Server) -> None:
    with open_store(own_postgres.url()) as store:
        threads = [threading.Thread(target=store.triage.alerts) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        own_postgres.stop()
        own_postgres.start()
        store.checkpoints.log_batches("main", [batch(1)], [alert(1)])
        assert len(store.triage.alerts()) == 1


def test_a_server_that_is_gone_is_told_and_missed_by_nobody_afterwards(own_postgres: Server) -> None:
    with open_store(own_postgres.url()) as store, store.locks.hold("main") as lock:
        store.checkpoints.log_batches("main", [batch(1)])
        own_postgres.kill()
        for attempt in (lambda: store.checkpoints.log_batches("main", [batch(2)]), store.triage.alerts, lock.renew):
            with pytest.raises(ResourceError, match="cannot be reached") as caught:
                attempt()
            assert "look whether the server runs" in str(caught.value)
            assert caught.value.passing
        own_postgres.start()
        lock.renew()
        store.checkpoints.log_batches("main", [batch(2)])
        found = store.checkpoints.latest("main")
        assert found is not None
        assert [entry.number for entry in found.batches] == [1, 2]


_WRITER = """
import sys
from hackwatch.store import open_store
from tests.store.support import alert, batch
store = open_store(sys.argv[1])
for number in range(1, 100_000):
    store.checkpoints.log_batches("main", [batch(number)], [alert(number)])
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
            found = store.checkpoints.latest("main")
            assert found is not None
            numbers = [entry.number for entry in found.batches]
            assert numbers[: len(said)] == said
            assert len(numbers) - len(said) <= 1
            assert len(store.triage.alerts(limit=None)) == len(numbers)


def test_a_writer_that_was_stopped_within_a_transaction_holds_up_nobody_for_long(postgres_url: str) -> None:
    """A process that hangs while it has its turn: the server ends its transaction after 20 s; here, told to sooner."""
    with open_store(postgres_url) as hanging, open_store(postgres_url) as other:
        with pytest.raises(ResourceError), hanging.database.write() as transaction:  # noqa: PT012 # it is one
            transaction.execute("SET LOCAL idle_in_transaction_session_timeout = '300ms'")
            transaction.fetch(hanging.database.dialect.turn, ("alerts",))
            other.checkpoints.log_batches("main", [batch(1)], [alert(1)])
            transaction.fetch("SELECT 1")
        assert len(hanging.triage.alerts()) == 1


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
            store.checkpoints.log_batches("main", [batch(1)], [alert(1)])
            with suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
            large = {"a": os.urandom(1 << 20)}
            with pytest.raises(ResourceError, match=r"cannot be written: .*No space left") as caught:
                store.checkpoints.commit_epoch("main", commit(1, 1, states=large))
            assert "free space" in str(caught.value)
            assert len(store.triage.alerts()) == 1
            (place / "filler").unlink()
            store.checkpoints.commit_epoch("main", commit(1, 1, states=large))
            found = store.checkpoints.latest("main")
            assert found is not None
            assert found.states == large
    finally:
        own_postgres.kill()
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_signals_do_not_break_a_connection(postgres_url: str) -> None:
    """Ctrl-C in the middle of a statement: the transaction is undone, and the store stays usable."""
    with open_store(postgres_url) as store:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt), store.database.write() as transaction:
            transaction.execute("SELECT pg_sleep(20)")
        timer.join()
        store.checkpoints.log_batches("main", [batch(1)], [alert(1)])
        assert len(store.triage.alerts()) == 1
