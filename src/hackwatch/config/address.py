"""Addresses of databases with and without their password: what is shown never holds one."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

__all__ = ["is_server", "parted", "with_password"]

_HOST = r"(?:\[[\w:.%]*\]|[^][:/?#@,]*)(?::\d*)?"
_OPTIONS = r"\?(?:\w+=[^&]*(?:&\w+=[^&]*)*)?"
_WELL_FORMED = re.compile(rf"(?:(?P<login>[^/]*)@)?{_HOST}(?:,{_HOST})*(?:/[^@?]*)?(?:{_OPTIONS})?")
_SCHEMES = ("postgresql://", "postgres://")


def is_server(address: str) -> bool:
    """Whether it is the address of a PostgreSQL server."""
    return address.startswith(_SCHEMES)


def parted(address: str) -> tuple[str, str | None]:
    """The address without its secrets, and the password (None: there is none in it).

    >>> parted("postgresql://ann:p%40ss@db.example.org:5432/store?sslmode=require")
    ('postgresql://ann@db.example.org:5432/store?sslmode=require', 'p@ss')
    >>> parted("postgresql:///store?password=x")
    ('postgresql:///store', 'x')
    """
    scheme, login, rest = _split(address)
    user, colon, secret = login.partition(":")
    password = unquote(secret) if colon else None
    place, mark, query = rest.partition("?")
    kept = []
    for option in query.split("&"):
        name, _, value = option.partition("=")
        if name == "password":
            password = unquote(value)
        elif name != "sslpassword":
            kept.append(option)
    options = f"{mark}{'&'.join(kept)}" if any(kept) else ""
    return f"{scheme}{user}{'@' if login else ''}{place}{options}", password


def with_password(address: str, password: str | None) -> str:
    """The address for connecting; it holds the password and must not be shown.

    >>> with_password("postgresql://ann@db/store", "p@ss")
    'postgresql://ann:p%40ss@db/store'
    >>> with_password("postgresql:///store", "x")
    'postgresql:///store?password=x'
    """
    if password is None:
        return address
    secret = quote(password, safe="")
    scheme, login, rest = _split(address)
    if login:
        return f"{scheme}{login}:{secret}@{rest}"
    return f"{address}{'&' if '?' in address else '?'}password={secret}"


def _split(address: str) -> tuple[str, str, str]:
    """Scheme, `USER[:PASSWORD]` (empty: none), and all behind it.

    Where the rest does not look like hosts, database and options, a secret was not escaped as it must be: then it
    reaches to the last @.
    """
    scheme, slashes, rest = address.partition("://")
    match = _WELL_FORMED.fullmatch(rest)
    login = (match["login"] if match else rest.rpartition("@")[0]) or ""
    behind = rest[len(login) :]
    return f"{scheme}{slashes}", login, behind.removeprefix("@")
