"""The tables of the store, as numbered migrations in SQL that SQLite and PostgreSQL both read.

What differs between databases is named in braces and filled in by the `Dialect`, the type of texts as `{text}`. A
released migration never changes: a new one is added behind it. Times are Unix seconds UTC, JSON is text.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hackwatch.errors import ResourceError
from hackwatch.store.database import Database, Dialect, NoStore, Transaction, take_turn

__all__ = ["MIGRATIONS", "VERSION", "identity", "migrate"]

_FIRST = (
    "CREATE TABLE store (one BIGINT PRIMARY KEY, identity {text} NOT NULL)",
    """CREATE TABLE pipeline (
        pipeline {text} PRIMARY KEY, epoch BIGINT NOT NULL, last_batch BIGINT NOT NULL,
        elapsed DOUBLE PRECISION NOT NULL, committed_at DOUBLE PRECISION NOT NULL)""",
    "CREATE TABLE status (pipeline {text} PRIMARY KEY, status {text} NOT NULL)",
    """CREATE TABLE batch (
        pipeline {text} NOT NULL, number BIGINT NOT NULL, epoch BIGINT NOT NULL, wall DOUBLE PRECISION NOT NULL,
        elapsed DOUBLE PRECISION NOT NULL, ranges {text} NOT NULL, models {text} NOT NULL,
        PRIMARY KEY (pipeline, number))""",
    """CREATE TABLE position (
        pipeline {text} NOT NULL, stream {text} NOT NULL, topic {text} NOT NULL, partition_number BIGINT NOT NULL,
        next_offset BIGINT NOT NULL, PRIMARY KEY (pipeline, stream, topic, partition_number))""",
    # A state is kept in parts, so that a large one can be written ahead of its epoch in many short transactions.
    """CREATE TABLE state (
        pipeline {text} NOT NULL, epoch BIGINT NOT NULL, name {text} NOT NULL, part BIGINT NOT NULL,
        snapshot {binary} NOT NULL, PRIMARY KEY (pipeline, epoch, name, part))""",
    # The counters of `hackwatch.counts.Counts`; one that is added there is added here by a migration.
    """CREATE TABLE accounting (
        pipeline {text} NOT NULL, stream {text} NOT NULL, topic {text} NOT NULL, partition_number BIGINT NOT NULL,
        messages BIGINT NOT NULL, records BIGINT NOT NULL, on_time BIGINT NOT NULL, late BIGINT NOT NULL,
        duplicate BIGINT NOT NULL, rejected BIGINT NOT NULL, unknown_fields BIGINT NOT NULL, suspects BIGINT NOT NULL,
        PRIMARY KEY (pipeline, stream, topic, partition_number))""",
    """CREATE TABLE windows (
        site {text} NOT NULL, stream {text} NOT NULL, entity {text} NOT NULL, window_start BIGINT NOT NULL,
        window_end BIGINT NOT NULL, records BIGINT NOT NULL, suspects BIGINT NOT NULL, count BIGINT NOT NULL,
        final BIGINT NOT NULL, PRIMARY KEY (site, stream, entity, window_start))""",
    "CREATE INDEX windows_by_time ON windows (window_start)",
    """CREATE TABLE alerts (
        sequence {identity}, id {text} NOT NULL UNIQUE, kind {text} NOT NULL, stream {text} NOT NULL,
        entity {text} NOT NULL, rule {text} NOT NULL, title {text} NOT NULL, severity {text} NOT NULL,
        risk BIGINT NOT NULL, subject {text} NOT NULL, first_seen DOUBLE PRECISION NOT NULL,
        last_seen DOUBLE PRECISION NOT NULL, created DOUBLE PRECISION NOT NULL, site {text} NOT NULL,
        technique {text}, tactic {text}, count BIGINT NOT NULL, drivers {text} NOT NULL, evidence {text} NOT NULL,
        causes {text} NOT NULL, models {text} NOT NULL, subjects {text} NOT NULL, status {text} NOT NULL,
        handled_by {text}, handled_at DOUBLE PRECISION, note {text})""",
    "CREATE INDEX alerts_by_key ON alerts (entity, rule)",
    "CREATE INDEX alerts_by_time ON alerts (created)",
    """CREATE TABLE mutes (
        id {identity}, rule {text}, entity {text}, until_time DOUBLE PRECISION NOT NULL,
        created DOUBLE PRECISION NOT NULL, created_by {text}, reason {text})""",
    """CREATE TABLE outbox (
        id {identity}, alert_id {text} NOT NULL, route {text} NOT NULL, created DOUBLE PRECISION NOT NULL,
        attempts BIGINT NOT NULL, due DOUBLE PRECISION, done DOUBLE PRECISION, error {text},
        UNIQUE (alert_id, route))""",
    "CREATE INDEX outbox_by_due ON outbox (due)",
)

_SECOND = (
    # Who works on a pipeline: what another engine writes under its name is refused.
    """CREATE TABLE holder (
        pipeline {text} PRIMARY KEY, token {text} NOT NULL, host {text} NOT NULL, process BIGINT NOT NULL)""",
    # Whose engine sends a message; null: of a time when one store had one engine.
    "ALTER TABLE outbox ADD COLUMN pipeline {text}",
)

_THIRD = (
    # Windows of each source by themselves, told apart by their length too, and kept by the time they were made at.
    # `made` is null for those of an older version: they are taken to be made when it is first asked for.
    "ALTER TABLE windows RENAME TO windows_before",
    "DROP INDEX windows_by_time",
    """CREATE TABLE windows (
        site {text} NOT NULL, stream {text} NOT NULL, entity {text} NOT NULL, source {text} NOT NULL,
        window_start BIGINT NOT NULL, window_end BIGINT NOT NULL, records BIGINT NOT NULL, suspects BIGINT NOT NULL,
        count BIGINT NOT NULL, final BIGINT NOT NULL, made DOUBLE PRECISION,
        PRIMARY KEY (site, stream, entity, source, window_start, window_end))""",
    """INSERT INTO windows (site, stream, entity, source, window_start, window_end, records, suspects, count, final)
        SELECT site, stream, entity, entity, window_start, window_end, records, suspects, count, final
        FROM windows_before""",
    "DROP TABLE windows_before",
    "CREATE INDEX windows_by_time ON windows (window_start)",
    "CREATE INDEX windows_by_age ON windows (made)",
    """CREATE TABLE aggregates (
        site {text} NOT NULL, stream {text} NOT NULL, aggregate {text} NOT NULL, keys {text} NOT NULL,
        source {text} NOT NULL, start_time BIGINT NOT NULL, end_time BIGINT NOT NULL, measures {text} NOT NULL,
        final BIGINT NOT NULL, made DOUBLE PRECISION,
        PRIMARY KEY (site, stream, aggregate, keys, source, start_time, end_time))""",
    "CREATE INDEX aggregates_by_time ON aggregates (start_time)",
    "CREATE INDEX aggregates_by_age ON aggregates (made)",
    # Which partitions had more messages than a micro-batch took.
    "ALTER TABLE batch ADD COLUMN waiting {text}",
)

#: Migration n (counting from 1) brings the tables from version n - 1 to version n.
MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SECOND, _THIRD)
VERSION = len(MIGRATIONS)


def migrate(database: Database, *, read_only: bool = False, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the tables to the version of this code, each version in a transaction of its own.

    Raises NoStore when there is none and `read_only`, ResourceError when a newer hackwatch has written it, or an
    older one and `read_only`.
    """
    # An engine that starts for the first time makes the file a moment before its tables.
    begun = _begun(database)
    if not (begun or read_only):
        with _turn(database) as transaction:
            transaction.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY)")
    found = _version(database, len(migrations)) if begun or not read_only else 0
    if read_only and not found:
        raise NoStore(database.name)
    if read_only and found < len(migrations):
        raise ResourceError(
            f"the store has the older version {found}, this hackwatch reads version {len(migrations)}",
            where=database.name,
            next_step="start the engine once, it brings the store up to date: hackwatch run",
        )
    for version in range(found + 1, len(migrations) + 1):
        with _turn(database) as transaction:
            # Another process may have been faster: the version is read again under the lock.
            if not transaction.fetch("SELECT 1 FROM schema_version WHERE version = ?", (version,)):
                _apply(transaction, database.dialect, version, migrations[version - 1])


def identity(database: Database) -> str:
    """Made with the store and never again: tells it from one that took its place."""
    with database.read() as transaction:
        rows = transaction.fetch("SELECT identity FROM store")
    return str(rows[0][0])


@contextmanager
def _turn(database: Database) -> Iterator[Transaction]:
    """A transaction that changes tables, one after the other."""
    with database.write() as transaction:
        take_turn(transaction, database.dialect, "schema")
        yield transaction


def _apply(transaction: Transaction, dialect: Dialect, version: int, statements: Sequence[str]) -> None:
    words = {"identity": dialect.identity, "binary": dialect.binary, "text": dialect.text}
    for statement in (*statements, *dialect.tuning.get(version, ())):
        transaction.execute(statement.format(**words))
    transaction.execute("INSERT INTO schema_version (version) VALUES (?)", (version,))
    named = "INSERT INTO store (one, identity) VALUES (1, ?) ON CONFLICT (one) DO NOTHING"
    transaction.execute(named, (uuid.uuid4().hex[:12],))


def _begun(database: Database) -> bool:
    with database.read() as transaction:
        return bool(transaction.fetch(database.dialect.table_exists, ("schema_version",)))


def _version(database: Database, supported: int) -> int:
    """The version of the tables (0: none yet); ResourceError when it is above what is supported."""
    with database.read() as transaction:
        rows = transaction.fetch("SELECT max(version) FROM schema_version")
    version = int(rows[0][0] or 0)
    if version > supported:
        raise ResourceError(
            f"the store has version {version}, this hackwatch knows versions up to {supported}",
            where=database.name,
            next_step="use the newer hackwatch that wrote it, or another data folder",
        )
    return version
