"""SQLite as the store's database: one file, write-ahead log, one connection a thread."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hackwatch.errors import DataError, HackwatchError, InternalError, ResourceError
from hackwatch.store.database import Dialect, NoStore

__all__ = ["SqliteDatabase"]

_BUSY_SECONDS = 30.0
# A write-ahead log that readers kept from being reset is cut back to this size when it can be.
_LOG_LIMIT = 64 << 20

_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_DENIED = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}


class SqliteDatabase:
    """One SQLite file, private to its owner (0600), every write durable when its transaction ends.

    Threads get a connection each. Writers of this process queue at a lock and not in SQLite's sleeping
    retries, which would cost milliseconds; other processes are waited for with a busy timeout.
    Raises ResourceError (full disk, permission, busy for 30 s) and DataError (not a database, damaged);
    the database stays usable after either.
    """

    dialect = Dialect(
        identity="INTEGER PRIMARY KEY AUTOINCREMENT",
        binary="BLOB",
        text="TEXT",
        table_exists="SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?",
    )

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path, self.read_only = path, read_only
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._registry_lock, self._queue_lock, self._write_lock = (threading.Lock() for _ in range(3))
        self._closed = False
        with self._explained():
            self._create_file()
            self._connection()

    @property
    def name(self) -> str:
        return str(self.path)

    @contextmanager
    def write(self) -> Iterator[_SqliteTransaction]:
        with self._turn_to_write(), self._transaction("BEGIN IMMEDIATE") as transaction:
            yield transaction

    @contextmanager
    def read(self) -> Iterator[_SqliteTransaction]:
        with self._transaction("BEGIN") as transaction:
            yield transaction

    def stream(self, sql: str, parameters: Sequence[Any] = (), *, rows: int) -> Iterator[list[tuple[Any, ...]]]:
        with self._explained():
            connection = self._connect()  # of its own: whichever thread reads on
            try:
                cursor = connection.execute(sql, parameters)
                while some := cursor.fetchmany(rows):
                    yield some
            finally:
                connection.close()
                with self._registry_lock, suppress(ValueError):
                    self._connections.remove(connection)

    def lock(self, name: str) -> _Unlocked:
        """Always: the engine holds the lock of its data folder, and one store elsewhere is no place to share."""
        return _Unlocked()

    def tidy(self) -> None:
        """Copy the write-ahead log into the file: here and nowhere else, so that an alert never does it.

        As a writer, for the log starts again only if nothing was written during the copy.
        """
        with self._turn_to_write(), self._explained():
            self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        with self._registry_lock:
            self._closed = True
            for connection in self._connections:
                with suppress(sqlite3.Error):
                    connection.close()
            self._connections.clear()

    @contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        # Who waits holds the queue: a thread that writes again and again cannot overtake it.
        with self._queue_lock:
            self._write_lock.acquire()
        try:
            yield
        finally:
            self._write_lock.release()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[_SqliteTransaction]:
        with self._explained():
            connection = self._connection()
            connection.execute(begin)
            try:
                yield _SqliteTransaction(connection)
                connection.execute("COMMIT")
            finally:
                # A full disk ends the transaction by itself; anything else that raised leaves it open.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        return connection

    def _connect(self) -> sqlite3.Connection:
        with self._registry_lock:
            if self._closed:
                raise InternalError("the store is used after it was closed", where=self.name)
            address = f"{self.path.resolve().as_uri()}?mode={'ro' if self.read_only else 'rw'}"
            # Only close() uses a connection from a foreign thread.
            connection = sqlite3.connect(
                address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connections.append(connection)
        if self.read_only:
            connection.execute("PRAGMA query_only = ON")
            return connection
        for setting in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "wal_autocheckpoint = 0",
            f"journal_size_limit = {_LOG_LIMIT}",
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {setting}").fetchall()
        return connection

    def _create_file(self) -> None:
        if self.read_only:
            if not self.path.is_file():
                raise NoStore(self.name)
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Created before SQLite opens it: SQLite gives its log files the same mode.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _explain(error, self.name) from error
        except OSError as error:
            raise ResourceError(
                f"the store cannot be used: {error.strerror or error}",
                where=self.name,
                next_step="check that the folder is yours, writable and not full",
            ) from error


class _Unlocked:
    def renew(self) -> None: ...
    def close(self) -> None: ...


class _SqliteTransaction:
    """The statements of one transaction on one connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        return self._connection.execute(sql, parameters).rowcount

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(sql, rows)

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters).fetchall()


def _explain(error: sqlite3.Error, where: str) -> HackwatchError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _FULL:
        return ResourceError(
            f"the store cannot be written: {error}",
            where=where,
            next_step="free space on this disk; work goes on from the last commit",
        )
    if code in _DENIED:
        return ResourceError(
            f"the store cannot be used: {error}",
            where=where,
            next_step="check that the file and its folder are yours and writable",
        )
    if code in _BUSY:
        return ResourceError(
            f"another process held the store for more than {_BUSY_SECONDS:.0f} s: {error}",
            where=where,
            next_step="look for a stopped or hanging hackwatch or sqlite3 process",
        )
    if code in _CORRUPT:
        return DataError(
            f"this is not a store of hackwatch, or it is damaged: {error}",
            where=where,
            next_step="restore it from a backup, or move it away for a new one: topics are then read from their start",
        )
    return InternalError(f"the store refused a statement: {error}", where=where)
