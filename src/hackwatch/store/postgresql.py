"""PostgreSQL as the store's database: shared by several engines and by everyone who looks on."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumper

from hackwatch.config.address import parted
from hackwatch.errors import ConfigurationError, InternalError, ResourceError
from hackwatch.store.database import Dialect
from hackwatch.store.postgresql_errors import explain

__all__ = ["PostgresqlDatabase"]

_Connection = psycopg.Connection[tuple[Any, ...]]

#: What an address may overrule. A server that is gone is noticed within half a minute, by either side.
_DEFAULTS = {
    "application_name": "hackwatch",
    "connect_timeout": "10",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_SESSION = {
    "client_encoding": "UTF8",
    "idle_in_transaction_session_timeout": "20s",
    "jit": "off",
    "lock_timeout": "30s",
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
# A commit must be on disk when it returns, or a crash of the server would take back what the lake has already.
_SETTINGS = f"""SELECT
    {", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SESSION.items())},
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END"""
_ENCODING = "SELECT current_setting('server_encoding')"

_READ, _WRITE = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"

# Whoever reads on slowly, a page of a terminal at a time, is waited for; not for ever, for old rows are kept meanwhile.
_PATIENCE = "SET LOCAL idle_in_transaction_session_timeout = '10min'"


class PostgresqlDatabase:
    """One PostgreSQL database, or the schema of it that `options=-csearch_path=...` of the address names.

    Connections are kept and taken by whichever thread works; one that broke is replaced when next needed, so that a
    restart of the server is noticed only by who was in the middle of something. Writers work side by side: where one
    must wait for another is said by the statements (`Dialect.turn`, `shared`, `unclaimed`).
    Raises ResourceError (no server, password, permission, disk, a wait of 30 s) and ConfigurationError (address).
    """

    dialect = Dialect(
        identity="BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        binary="BYTEA",
        text='TEXT COLLATE "C"',
        table_exists="SELECT 1 WHERE to_regclass(?) IS NOT NULL",
        turn="SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ' hackwatch ' || ?, 0))",
        shared=" FOR SHARE",
        unclaimed=" FOR UPDATE SKIP LOCKED",
        tuning={
            1: (
                # Room on each page, so that what changes every few seconds needs no new entries in the indexes.
                *(
                    f"ALTER TABLE {table} SET (fillfactor = 70)"
                    for table in ("windows", "status", "position", "accounting", "pipeline")
                ),
                # Snapshots are compressed already.
                "ALTER TABLE state ALTER COLUMN snapshot SET STORAGE EXTERNAL",
            ),
            3: tuple(f"ALTER TABLE {table} SET (fillfactor = 70)" for table in ("windows", "aggregates")),
        },
    )

    def __init__(self, address: str, *, read_only: bool = False) -> None:
        self._shown = parted(address)[0].partition("?")[0]
        self._parameters = {**_DEFAULTS, **self._parsed(address)}
        self.read_only = read_only
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        with self.read() as transaction:
            ((encoding,),) = transaction.fetch(_ENCODING)
        if encoding != "UTF8":
            self.close()
            raise ResourceError(
                f"the database keeps texts as {encoding}, which does not know all characters",
                where=self.name,
                next_step="make one that does: createdb --encoding=UTF8 --template=template0 NAME",
            )

    @property
    def name(self) -> str:
        return self._shown

    @contextmanager
    def write(self) -> Iterator[_Transaction]:
        with self._transaction(_WRITE if not self.read_only else _READ) as transaction:
            yield transaction

    @contextmanager
    def read(self) -> Iterator[_Transaction]:
        with self._transaction(_READ) as transaction:
            yield transaction

    def stream(self, sql: str, parameters: Sequence[Any] = (), *, rows: int) -> Iterator[list[tuple[Any, ...]]]:
        with self._explained():
            connection = self._begun(_READ)
            try:
                connection.execute(_PATIENCE)
                with connection.cursor("stream") as cursor:
                    cursor.execute(_translated(sql), parameters, binary=True)
                    while some := cursor.fetchmany(rows):
                        yield some
                connection.execute("COMMIT")
            finally:
                self._leave(connection)

    def lock(self, name: str) -> _Lock | None:
        """An advisory lock of a session of its own: the server lets go of it when this process or machine dies."""
        digest = hashlib.sha256(f"hackwatch {name}".encode()).digest()
        lock = _Lock(self, int.from_bytes(digest[:8], signed=True))
        if lock.taken():
            return lock
        lock.close()
        return None

    def tidy(self) -> None:
        """Nothing: the server does so by itself."""

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # -- connections -----------------------------------------------------------------------------------------------

    def _parsed(self, address: str) -> dict[str, Any]:
        try:
            return dict(conninfo_to_dict(address))
        except psycopg.Error:
            # The reason that libpq gives may quote the password.
            raise ConfigurationError(
                "this is no address of a PostgreSQL database",
                where=f"store.url {self._shown}",
                next_step="write it as postgresql://USER@HOST:PORT/DATABASE, special characters as %XX",
            ) from None

    def _connect(self, *statements: str) -> _Connection:
        connection = psycopg.connect(**self._parameters, autocommit=True)
        # Whole numbers always go as int8: one prepared statement, whatever their size.
        connection.adapters.register_dumper(int, Int8Dumper)
        connection.adapters.register_dumper(str, _TextDumper)
        try:
            for statement in (_SETTINGS, *statements):
                connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        return connection

    def _begun(self, begin: str) -> _Connection:
        """A connection within a new transaction. Those that a restart of the server broke are thrown away."""
        with self._lock:
            if self._closed:
                raise InternalError("the store is used after it was closed", where=self.name)
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                connection.execute(begin)
            except psycopg.OperationalError:
                connection.close()
                with self._lock:
                    stale, self._idle = self._idle, []
                for other in stale:
                    other.close()
            else:
                return connection
        return self._connect(begin)

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            if not (self._closed or connection.closed):
                self._idle.append(connection)
                return
        connection.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[_Transaction]:
        with self._explained():
            connection = self._begun(begin)
            try:
                yield _Transaction(connection)
                connection.execute("COMMIT")
            finally:
                self._leave(connection)

    def _leave(self, connection: _Connection) -> None:
        """Undo what was not committed; a connection in the middle of something is of no more use."""
        status = connection.info.transaction_status
        if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            with suppress(psycopg.Error):
                connection.execute("ROLLBACK")
        elif status != TransactionStatus.IDLE:
            connection.close()
        self._give_back(connection)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise explain(error, self.name, self._parameters) from error


class _Transaction:
    """The statements of one transaction on one connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        return self._connection.execute(_translated(sql), parameters).rowcount

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_translated(sql), rows)  # one round trip, whatever their number

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(_translated(sql), parameters, binary=True).fetchall()


class _Lock:
    """An advisory lock and the connection that holds it."""

    def __init__(self, database: PostgresqlDatabase, key: int) -> None:
        self._database, self._key = database, key
        self._connection: _Connection | None = None

    def taken(self) -> bool:
        """Connect if need be, and take it; False if another one has it."""
        with self._database._explained():
            if self._connection is None:
                self._connection = self._database._connect()
            row = self._connection.execute("SELECT pg_try_advisory_lock(%s)", (self._key,)).fetchone()
        return bool(row and row[0])

    def renew(self) -> None:
        if self._connection is not None:
            try:
                self._connection.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                self.close()
        if not self.taken():
            self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _TextDumper(StrDumper):
    """PostgreSQL's texts cannot hold the character 0: what has it (a process may name itself so) gets the mark instead
    that stands for what cannot be shown."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)


@lru_cache(maxsize=256)
def _translated(sql: str) -> str:
    """With psycopg's placeholders."""
    return sql.replace("%", "%%").replace("?", "%s")
