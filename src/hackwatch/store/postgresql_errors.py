"""What PostgreSQL and the way to it refuse, as errors of hackwatch: what it means and what helps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import errors

from hackwatch.errors import DataError, EnvironmentError_, HackwatchError, InternalError

__all__ = ["explain"]

_WAITS = "look whether the server runs and can be reached from here; work goes on by itself once it can"
#: Words of a refused connection (servers speak English or the code stands beside) -> what it means, what helps.
_REFUSED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("password authentication failed", "no password supplied", "authentication failed"),
        "the server refused the user or the password",
        "give it with store.password_file or store.password_env, or in ~/.pgpass",
    ),
    (
        ('role "',),
        "the server does not know this user",
        "let an administrator make it: createuser --pwprompt {user}",
    ),
    (
        ('database "',),
        "there is no such database",
        "let an administrator make it: createdb --encoding=UTF8 --template=template0 --owner={user} {database}",
    ),
    (("no pg_hba.conf entry",), "the server does not let this machine or user in", "add a line for it to pg_hba.conf"),
    (
        ("too many clients", "remaining connection slots", "too many connections"),
        "the server has no connection left",
        "raise max_connections of the server, or stop others that use it",
    ),
    (("certificate", "SSL"), "no encrypted connection could be made", "see sslmode and sslrootcert in the address"),
)
_PERMISSION = (
    "let the database belong to the user (ALTER DATABASE ... OWNER TO), or grant it: GRANT ALL ON SCHEMA public"
)


def explain(error: psycopg.Error, where: str, parameters: Mapping[str, Any]) -> HackwatchError:
    """The error as one of ours; the password of the connection is in none of its words."""
    what = _plain(error, parameters)
    match error:
        case errors.DiskFull() | errors.IoError():
            return EnvironmentError_(
                f"the store cannot be written: {what}",
                where=where,
                next_step="free space on the disk of the server; work goes on from the last commit",
            )
        case errors.InsufficientPrivilege() | errors.ReadOnlySqlTransaction():
            return EnvironmentError_(f"the store cannot be used: {what}", where=where, next_step=_PERMISSION)
        case (
            errors.LockNotAvailable()
            | errors.QueryCanceled()
            | errors.DeadlockDetected()
            | errors.SerializationFailure()
        ):
            return EnvironmentError_(
                f"others that write to the store were in the way: {what}",
                where=where,
                next_step="try again; if it stays, look for a hanging session in pg_stat_activity",
            )
        case errors.DataCorrupted() | errors.IndexCorrupted():
            return DataError(
                f"the store is damaged: {what}",
                where=where,
                next_step="restore the database from a backup, or start with a new one: topics are then read anew",
            )
        case errors.OutOfMemory() | errors.TooManyConnections():
            return EnvironmentError_(f"the server has no room left: {what}", where=where, next_step=_WAITS)
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return _unreachable(what, where, parameters)
    return InternalError(f"the store refused a statement: {what}", where=where)


def _unreachable(what: str, where: str, parameters: Mapping[str, Any]) -> EnvironmentError_:
    """No connection, or it is lost."""
    names = {"user": parameters.get("user") or "USER"}
    names["database"] = parameters.get("dbname") or names["user"]
    for words, meaning, advice in _REFUSED:
        if any(word in what for word in words):
            return EnvironmentError_(f"{meaning}: {what}", where=where, next_step=advice.format(**names))
    return EnvironmentError_(f"the store cannot be reached: {what}", where=where, next_step=_WAITS)


def _plain(error: psycopg.Error, parameters: Mapping[str, Any]) -> str:
    """The reason in one line, without the statement, and without the password whatever the library says."""
    text = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    secret = str(parameters.get("password") or "")
    return text.replace(secret, "***") if secret else text
