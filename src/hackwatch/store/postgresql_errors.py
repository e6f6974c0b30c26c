"""What PostgreSQL and the way to it refuse, as errors of hackwatch: what it means and what helps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import psycopg

from hackwatch.errors import DataError, HackwatchError, InternalError, ResourceError

__all__ = ["explain"]

_WAITS = "look whether the server runs and can be reached from here; work goes on by itself once it can"
#: What the server says of a refused connection -> what it means, what helps.
_REFUSED: tuple[tuple[str, str, str], ...] = (
    (
        "authentication failed|no password supplied",
        "the server refused the user or the password",
        "give the password with store.password_file or store.password_env, or in ~/.pgpass",
    ),
    (
        "role .* does not exist",
        "the server does not know this user",
        "let an administrator make it: createuser --pwprompt {user}",
    ),
    (
        "database .* does not exist",
        "there is no such database",
        "let an administrator make it: createdb --encoding=UTF8 --template=template0 --owner={user} {database}",
    ),
    (
        "no pg_hba.conf entry|permission denied for database",
        "the server does not let this user or machine in",
        "let an administrator GRANT CONNECT ON DATABASE, or add a line to pg_hba.conf",
    ),
    (
        "too many clients|remaining connection slots|too many connections",
        "the server has no connection left",
        "raise max_connections of the server, or stop others that use it",
    ),
    ("certificate|SSL", "no encrypted connection could be made", "see sslmode and sslrootcert in the address"),
)
#: SQLSTATE or the beginning of it -> what it means, what helps. All of it may pass.
_PASSING: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("53100", "58030"),
        "the store cannot be written",
        "free space on the disk of the server; work goes on from the last commit",
    ),
    (
        ("42501", "25006"),
        "the store cannot be used",
        "let the database belong to the user (ALTER DATABASE ... OWNER TO), or GRANT ALL ON SCHEMA public to it",
    ),
    (
        ("40", "55P03", "57014", "25P03"),
        "the server undid what was being written",
        "try again; if it stays, look for a hanging session in pg_stat_activity",
    ),
    (("53",), "the server has no room left", "give it more memory or connections, or stop others that use it"),
)


def explain(error: psycopg.Error, where: str, parameters: Mapping[str, Any]) -> HackwatchError:
    """The error as one of ours; the password of the connection is in none of its words."""
    what, state = _plain(error, parameters), error.sqlstate or ""
    for states, meaning, advice in _PASSING:
        if state.startswith(states):
            return ResourceError(f"{meaning}: {what}", where=where, next_step=advice)
    if state in ("XX001", "XX002"):
        return DataError(
            f"the store is damaged: {what}",
            where=where,
            next_step="restore the database from a backup, or start with a new one: topics are then read again",
        )
    if state in ("42P01", "42703"):
        return DataError(
            f"this is not the store that it was: {what}",
            where=where,
            next_step="stop whoever replaces or changes its tables, and start the engine again",
        )
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return _unreachable(what, where, parameters)
    return InternalError(f"the store refused a statement: {what}", where=where)


def _unreachable(what: str, where: str, parameters: Mapping[str, Any]) -> ResourceError:
    """No connection, or it is lost."""
    names = {"user": parameters.get("user") or "USER"}
    names["database"] = parameters.get("dbname") or names["user"]
    for words, meaning, advice in _REFUSED:
        if re.search(words, what):
            return ResourceError(f"{meaning}: {what}", where=where, next_step=advice.format(**names))
    return ResourceError(f"the store cannot be reached: {what}", where=where, next_step=_WAITS)


def _plain(error: psycopg.Error, parameters: Mapping[str, Any]) -> str:
    """The reason in one line, without the statement, and without the password whatever the library says."""
    text = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    secret = str(parameters.get("password") or "")
    return text.replace(secret, "***") if secret else text
