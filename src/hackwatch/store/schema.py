"""The tables of the store, as numbered migrations in SQL that SQLite and PostgreSQL both read.

What differs between databases is named in braces and filled in by the `Dialect`. A released migration never
changes: a new one is added behind it. Times are Unix seconds UTC, JSON is text.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from hackwatch.errors import EnvironmentError_

__all__ = ["COUNTERS", "MIGRATIONS", "VERSION", "Database", "Dialect", "Transaction", "migrate"]

#: The totals kept for every stream and partition, in the order of the columns of `accounting`.
COUNTERS = ("messages", "records", "on_time", "late", "duplicate", "rejected", "unknown_fields", "suspects")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a database calls its own: a growing key, a type for bytes, and how to ask whether a table exists."""

    identity: str
    binary: str
    table_exists: str


class Transaction(Protocol):
    """One transaction: everything executed in it happens, or nothing. Placeholders are question marks."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement; the number of rows that it changed."""
        ...

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each row of parameters."""
        ...

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        ...


class Database(Protocol):
    """A relational database, safe to use from several threads. Errors come as those of `hackwatch.errors`."""

    @property
    def name(self) -> str:
        """Where it is, for messages: a path or an address without its secret."""
        ...

    @property
    def dialect(self) -> Dialect: ...

    def write(self) -> AbstractContextManager[Transaction]:
        """A transaction that may write, one at a time; durable when the block ends, undone when it raises."""
        ...

    def read(self) -> AbstractContextManager[Transaction]:
        """A transaction that sees one consistent state and waits for no writer."""
        ...

    def tidy(self) -> None:
        """Upkeep after much was written; short."""
        ...

    def close(self) -> None: ...


_FIRST = (
    "CREATE TABLE store (one BIGINT PRIMARY KEY, identity TEXT NOT NULL)",
    """CREATE TABLE pipeline (
        pipeline TEXT PRIMARY KEY, epoch BIGINT NOT NULL, last_batch BIGINT NOT NULL,
        elapsed DOUBLE PRECISION NOT NULL, committed_at DOUBLE PRECISION NOT NULL)""",
    "CREATE TABLE status (pipeline TEXT PRIMARY KEY, status TEXT NOT NULL)",
    """CREATE TABLE batch (
        pipeline TEXT NOT NULL, number BIGINT NOT NULL, epoch BIGINT NOT NULL, wall DOUBLE PRECISION NOT NULL,
        elapsed DOUBLE PRECISION NOT NULL, ranges TEXT NOT NULL, models TEXT NOT NULL,
        PRIMARY KEY (pipeline, number))""",
    """CREATE TABLE position (
        pipeline TEXT NOT NULL, stream TEXT NOT NULL, topic TEXT NOT NULL, partition_number BIGINT NOT NULL,
        next_offset BIGINT NOT NULL, PRIMARY KEY (pipeline, stream, topic, partition_number))""",
    # A state is kept in parts, so that a large one can be written ahead of its epoch in many short transactions.
    """CREATE TABLE state (
        pipeline TEXT NOT NULL, epoch BIGINT NOT NULL, name TEXT NOT NULL, part BIGINT NOT NULL,
        snapshot {binary} NOT NULL, PRIMARY KEY (pipeline, epoch, name, part))""",
    f"""CREATE TABLE accounting (
        pipeline TEXT NOT NULL, stream TEXT NOT NULL, topic TEXT NOT NULL, partition_number BIGINT NOT NULL,
        {", ".join(f"{counter} BIGINT NOT NULL" for counter in COUNTERS)},
        PRIMARY KEY (pipeline, stream, topic, partition_number))""",
    """CREATE TABLE windows (
        site TEXT NOT NULL, stream TEXT NOT NULL, entity TEXT NOT NULL, window_start BIGINT NOT NULL,
        window_end BIGINT NOT NULL, records BIGINT NOT NULL, suspects BIGINT NOT NULL, count BIGINT NOT NULL,
        final BIGINT NOT NULL, PRIMARY KEY (site, stream, entity, window_start))""",
    "CREATE INDEX windows_by_time ON windows (window_start)",
    """CREATE TABLE alerts (
        sequence {identity}, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, stream TEXT NOT NULL,
        entity TEXT NOT NULL, rule TEXT NOT NULL, title TEXT NOT NULL, severity TEXT NOT NULL,
        risk BIGINT NOT NULL, subject TEXT NOT NULL, first_seen DOUBLE PRECISION NOT NULL,
        last_seen DOUBLE PRECISION NOT NULL, created DOUBLE PRECISION NOT NULL, site TEXT NOT NULL,
        technique TEXT, tactic TEXT, count BIGINT NOT NULL, drivers TEXT NOT NULL, evidence TEXT NOT NULL,
        causes TEXT NOT NULL, models TEXT NOT NULL, subjects TEXT NOT NULL, status TEXT NOT NULL,
        handled_by TEXT, handled_at DOUBLE PRECISION, note TEXT)""",
    "CREATE INDEX alerts_by_key ON alerts (entity, rule)",
    "CREATE INDEX alerts_by_time ON alerts (created)",
    """CREATE TABLE mutes (
        id {identity}, rule TEXT, entity TEXT, until_time DOUBLE PRECISION NOT NULL,
        created DOUBLE PRECISION NOT NULL, created_by TEXT, reason TEXT)""",
    """CREATE TABLE outbox (
        id {identity}, alert_id TEXT NOT NULL, route TEXT NOT NULL, created DOUBLE PRECISION NOT NULL,
        attempts BIGINT NOT NULL, due DOUBLE PRECISION, done DOUBLE PRECISION, error TEXT,
        UNIQUE (alert_id, route))""",
    "CREATE INDEX outbox_by_due ON outbox (due)",
)

#: Migration n (counting from 1) brings the tables from version n - 1 to version n.
MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)
VERSION = len(MIGRATIONS)


def migrate(database: Database, *, read_only: bool = False, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the tables to the version of this code, each version in a transaction of its own.

    Raises EnvironmentError_ when a newer hackwatch has written them, or an older one and `read_only`.
    """
    if not read_only:
        with database.write() as transaction:
            transaction.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY)")
    # An engine that starts for the first time makes the file a moment before its tables.
    found = 0 if read_only and not _begun(database) else _version(database, len(migrations))
    if read_only and not found:
        raise EnvironmentError_(
            "there is no store yet", where=database.name, next_step="start the engine once: hackwatch run"
        )
    if read_only and found < len(migrations):
        raise EnvironmentError_(
            f"the store has the older version {found}, this hackwatch reads version {len(migrations)}",
            where=database.name,
            next_step="start the engine once, it brings the store up to date: hackwatch run",
        )
    for version in range(found + 1, len(migrations) + 1):
        with database.write() as transaction:
            # Another process may have been faster: the version is read again under the lock.
            if transaction.fetch("SELECT 1 FROM schema_version WHERE version = ?", (version,)):
                continue
            for statement in migrations[version - 1]:
                words = {"identity": database.dialect.identity, "binary": database.dialect.binary}
                transaction.execute(statement.format(**words))
            transaction.execute("INSERT INTO schema_version (version) VALUES (?)", (version,))
            named = "INSERT INTO store (one, identity) VALUES (1, ?) ON CONFLICT (one) DO NOTHING"
            transaction.execute(named, (uuid.uuid4().hex[:12],))


def _begun(database: Database) -> bool:
    with database.read() as transaction:
        return bool(transaction.fetch(database.dialect.table_exists, ("schema_version",)))


def _version(database: Database, supported: int) -> int:
    """The version of the tables (0: none yet); EnvironmentError_ when it is above what is supported."""
    with database.read() as transaction:
        rows = transaction.fetch("SELECT max(version) FROM schema_version")
    version = int(rows[0][0] or 0)
    if version > supported:
        raise EnvironmentError_(
            f"the store has version {version}, this hackwatch knows versions up to {supported}",
            where=database.name,
            next_step="use the newer hackwatch that wrote it, or another data folder",
        )
    return version
