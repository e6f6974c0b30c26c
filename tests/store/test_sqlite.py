"""What is special about SQLite: the file, its rights, damage, other processes, a full disk."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hackwatch.errors import ConfigurationError, DataError, InternalError, ResourceError
from hackwatch.store import open_store
from hackwatch.store.locks import TakenOver
from hackwatch.store.schema import MIGRATIONS, VERSION, migrate
from hackwatch.store.sqlite import SqliteDatabase
from tests.store.support import alert, batch, commit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store.sqlite"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_file_and_folder_are_private(path: Path) -> None:
    with open_store(path) as store:
        store.checkpoints.log_batches("main", [batch(1)])
        assert mode(path.parent) == 0o700
        assert {mode(file) for file in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("address", ["sqlite:{}", "sqlite://{}", "{}"])
def test_addresses(path: Path, address: str) -> None:
    open_store(address.format(path)).close()
    assert path.is_file()


def test_other_kinds_of_store_are_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="'mysql' is not supported"):
        open_store("mysql://user@host/db")


def test_a_path_with_odd_characters(tmp_path: Path) -> None:
    path = tmp_path / "a ?#%41&b" / "store.sqlite"
    open_store(path).close()
    assert path.is_file()


def test_reading_needs_a_store_and_changes_nothing(path: Path) -> None:
    with pytest.raises(ResourceError, match="no store yet"):
        open_store(path, read_only=True)
    assert not path.exists()
    with open_store(path) as store:
        store.checkpoints.log_batches("main", [], [alert(1)])
    with open_store(path, read_only=True) as reader:
        assert len(reader.triage.alerts()) == 1
        with pytest.raises(ResourceError):
            reader.triage.acknowledge(alert(1).id, by="me", now=1.0)


def test_a_store_that_is_just_being_made_is_not_there_yet(path: Path) -> None:
    """An engine makes the file before the tables; who looks in between is told so, not that it is broken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(ResourceError, match="no store yet"):
        open_store(path, read_only=True)
    open_store(path).close()
    open_store(path, read_only=True).close()


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_store(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        open_store(path)
    assert path.read_bytes() == content


def test_a_folder_in_its_place(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(ResourceError, match="cannot be used"):
        open_store(path)


def test_a_store_keeps_its_identity_and_shares_it_with_no_other(path: Path, tmp_path: Path) -> None:
    identities = []
    for place in (path, path, tmp_path / "other.sqlite"):
        with open_store(place) as store:
            identities.append(store.checkpoints.identity)
    assert identities[0] == identities[1] != identities[2]


def test_use_after_close_is_a_bug(path: Path) -> None:
    store = open_store(path)
    store.close()
    with pytest.raises(InternalError):
        store.triage.alerts()


# ---------------------------------------------------------------------- migrations


def test_each_migration_runs_once_and_keeps_the_data(path: Path) -> None:
    with open_store(path) as store:
        store.checkpoints.log_batches("main", [], [alert(1)])
        longer = [*MIGRATIONS, ("ALTER TABLE alerts ADD COLUMN colour TEXT", "UPDATE alerts SET colour = 'red'")]
        for _ in range(2):
            migrate(store.database, migrations=longer)
        with store.database.read() as transaction:
            assert transaction.fetch("SELECT id, colour FROM alerts") == [(alert(1).id, "red")]
    with pytest.raises(ResourceError, match=f"has version {VERSION + 1}, this hackwatch knows"):
        open_store(path)
    with pytest.raises(ResourceError, match="knows versions"):
        open_store(path, read_only=True)


def test_an_older_store_is_not_read_without_bringing_it_up(path: Path) -> None:
    open_store(path).close()
    database = SqliteDatabase(path, read_only=True)
    with pytest.raises(ResourceError, match="older version"):
        migrate(database, read_only=True, migrations=[*MIGRATIONS, ()])
    database.close()


def test_a_migration_that_fails_leaves_the_version_before(path: Path) -> None:
    with open_store(path) as store:
        broken = [*MIGRATIONS, ("CREATE TABLE extra (a TEXT)", "CREATE TABLE extra (a TEXT)")]
        with pytest.raises(InternalError, match="already exists"):
            migrate(store.database, migrations=broken)
    with open_store(path) as store, store.database.read() as transaction:
        assert transaction.fetch("SELECT name FROM sqlite_master WHERE name = 'extra'") == []


# ---------------------------------------------------------------------- other processes

_WRITER = """
import sys
from hackwatch.store import open_store
from tests.store.support import alert, batch
store = open_store(sys.argv[1])
first = int(sys.argv[2])
for number in range(first, first + int(sys.argv[3])):
    store.checkpoints.log_batches(f"p{first}", [batch(number)], [alert(number)])
    print(number, flush=True)
"""


def writer(path: Path, first: int, number: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", _WRITER, str(path), str(first), str(number)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])


def test_processes_open_and_write_at_once(path: Path) -> None:
    processes = [writer(path, first, 60) for first in (1000, 2000, 3000)]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0]
    with open_store(path) as store:
        assert len(store.triage.alerts(limit=None)) == 180


def test_of_two_engines_of_one_pipeline_the_first_may_write_no_more(path: Path) -> None:
    """Two data folders, one file: what both write would be mixed."""
    with open_store(path) as first, open_store(path) as second, first.locks.hold("main"):
        first.checkpoints.log_batches("main", [batch(1)])
        with second.locks.hold("main"):
            with pytest.raises(TakenOver):
                first.checkpoints.log_batches("main", [batch(2)])
            second.checkpoints.log_batches("main", [batch(2)])
            first.checkpoints.log_batches("other", [batch(1)])


def test_what_was_said_to_be_written_survives_a_kill(path: Path) -> None:
    process = writer(path, 1, 100_000)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(40)]
    process.kill()
    said += [int(line) for line in process.stdout.read().splitlines() if line.isdigit()]
    process.wait()
    process.stdout.close()
    with open_store(path) as store:
        found = store.checkpoints.latest("p1")
        assert found is not None
        numbers = [entry.number for entry in found.batches]
        assert numbers[: len(said)] == said
        assert len(numbers) - len(said) <= 1
        assert len(store.triage.alerts(limit=None)) == len(numbers)


# ---------------------------------------------------------------------- disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.platform
def test_a_full_disk_is_survived(small_disk: Path) -> None:
    with open_store(small_disk / "store.sqlite") as store:
        store.checkpoints.log_batches("main", [batch(1)], [alert(1)])
        filler = small_disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        many = range(2, 500)
        with pytest.raises(ResourceError, match="cannot be written") as caught:
            store.checkpoints.log_batches("main", [batch(n) for n in many], [alert(n) for n in many])
        assert "free space" in str(caught.value)
        with pytest.raises(ResourceError):
            store.checkpoints.commit_epoch("main", commit(1, 1, states={"a": b"x" * (1 << 20)}))
        before = store.checkpoints.latest("main")
        assert before is not None
        assert len(before.batches) == len(store.triage.alerts(limit=None))
        filler.unlink()
        store.checkpoints.log_batches("main", [batch(1000)], [alert(1000)])
        store.checkpoints.commit_epoch("main", commit(1, 1, states={"a": b"x"}))
        after = store.checkpoints.latest("main")
        assert after is not None
        assert after.states == {"a": b"x"}


@pytest.mark.platform
def test_a_read_only_disk_is_explained(small_disk: Path) -> None:
    path = small_disk / "store.sqlite"
    with open_store(path) as store:
        store.checkpoints.log_batches("main", [batch(1)], [alert(1)])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ResourceError) as caught:
        open_store(path)
    assert "writable" in str(caught.value)


def test_damage_found_later_is_a_data_error(path: Path) -> None:
    with open_store(path) as store:
        for number in range(300):
            store.checkpoints.log_batches("main", [], [alert(number)])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle:] = b"\xee" * (len(content) - middle)
    path.write_bytes(bytes(content))
    with open_store(path) as store, pytest.raises(DataError, match="damaged"):
        store.triage.alerts(limit=None)


def test_windows_of_an_older_version_are_kept_and_grow_old_from_now_on(tmp_path: Path) -> None:
    with closing(SqliteDatabase(tmp_path / "store.sqlite")) as database:
        migrate(database, migrations=MIGRATIONS[:2])
        with database.write() as transaction:
            transaction.execute("INSERT INTO windows VALUES ('here', 'visit', '4', 0, 120, 9, 2, 1, 1)")
    with open_store(tmp_path / "store.sqlite", site="here") as store:
        (kept,) = store.windows.find().iter_rows()
        assert kept == ("here", "visit", "4", 0, 120, 9, 2, 1, True)
        assert store.retention.prune(windows_before=5000.0, now=6000.0)["windows"] == 0
        assert store.retention.prune(windows_before=6001.0, now=9000.0)["windows"] == 1
