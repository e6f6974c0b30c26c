"""The store: the small relational database of windows, alerts, outbox and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hackwatch.config.address import is_server, parted
from hackwatch.errors import ConfigurationError, ResourceError
from hackwatch.store.alerts import STATUSES, AlertStatus, Mute, StoredAlert
from hackwatch.store.database import Database, NoStore
from hackwatch.store.outbox import OutboxMessage
from hackwatch.store.schema import migrate
from hackwatch.store.sqlite import SqliteDatabase
from hackwatch.store.store import Store

if TYPE_CHECKING:
    from hackwatch.store.postgresql import PostgresqlDatabase

__all__ = ["STATUSES", "AlertStatus", "Mute", "NoStore", "OutboxMessage", "Store", "StoredAlert", "open_store"]


def open_store(address: str | Path, *, site: str = "local", read_only: bool = False) -> Store:
    """Open the store at a path, `sqlite:PATH` or `postgresql://...`, made and brought to this version if needed.

    `site` names where the windows written through it were counted. With `read_only` nothing is changed.
    Raises ConfigurationError for other kinds of address, ResourceError (permission, disk, no server, password,
    newer version), NoStore (none to read), DataError (damaged).
    """
    database: Database
    if isinstance(address, str) and is_server(address):
        database = _postgresql(address, read_only=read_only)
    else:
        database = SqliteDatabase(_path(address), read_only=read_only)
    try:
        migrate(database, read_only=read_only)
    except BaseException:
        database.close()
        raise
    return Store(database, site)


def _postgresql(address: str, *, read_only: bool) -> PostgresqlDatabase:
    try:
        from hackwatch.store.postgresql import PostgresqlDatabase
    except ImportError as error:
        raise ResourceError(
            "a store on PostgreSQL needs the extra `postgres`",
            where=parted(address)[0],
            next_step="pip install 'hackwatch[postgres]'",
        ) from error
    return PostgresqlDatabase(address, read_only=read_only)


def _path(address: str | Path) -> Path:
    if isinstance(address, Path):
        return address
    scheme, colon, rest = address.partition(":")
    if colon and scheme == "sqlite":
        return Path(rest.removeprefix("//"))
    if colon and rest.startswith("//"):
        raise ConfigurationError(
            f"a store of the kind {scheme!r} is not supported",
            where="store.url",
            next_step="give a path, sqlite:PATH or postgresql://USER@HOST/DATABASE",
        )
    return Path(address)
