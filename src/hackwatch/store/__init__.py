"""The store: the small relational database of windows, alerts, outbox and checkpoints."""

from __future__ import annotations

from pathlib import Path

from hackwatch.errors import ConfigurationError
from hackwatch.store.rows import STATUSES, AlertStatus, Mute, OutboxMessage, StoredAlert
from hackwatch.store.schema import migrate
from hackwatch.store.sqlite import SqliteDatabase
from hackwatch.store.triage import Store

__all__ = ["STATUSES", "AlertStatus", "Mute", "OutboxMessage", "Store", "StoredAlert", "open_store"]


def open_store(address: str | Path, *, site: str = "local", read_only: bool = False) -> Store:
    """Open the store at a path or `sqlite:PATH`, made and brought to this version if needed.

    `site` names where the windows written through it were counted. With `read_only` nothing is changed.
    Raises ConfigurationError for other kinds of address, EnvironmentError_ (permission, disk, newer version,
    no store to read), DataError (damaged).
    """
    database = SqliteDatabase(_path(address), read_only=read_only)
    try:
        migrate(database, read_only=read_only)
    except BaseException:
        database.close()
        raise
    return Store(database, site)


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
            next_step="give a path or sqlite:PATH",
        )
    return Path(address)
