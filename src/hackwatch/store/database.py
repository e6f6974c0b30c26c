"""The database below the store: the one seam that SQLite and PostgreSQL implement, and all parts of the store use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from hackwatch.errors import ResourceError

__all__ = ["Database", "Dialect", "Lock", "NoStore", "Transaction", "take_turn"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a database calls its own.

    Words of the migrations: `identity` (a growing key), `binary`, `text` (compared byte by byte). `table_exists` asks
    for a table by name. Where several write at once, and not where there is one writer at a time anyway:
    `turn` waits until no other transaction holds the turn of that name (its parameter), and keeps it to the end;
    `shared` at the end of a SELECT keeps its rows from being changed until then; `unclaimed` leaves out the rows that
    another transaction is changing and keeps the others. `tuning`: after migration n, statements that change nothing
    but the speed.
    """

    identity: str
    binary: str
    text: str
    table_exists: str
    turn: str = ""
    shared: str = ""
    unclaimed: str = ""
    tuning: Mapping[int, Sequence[str]] = field(default_factory=dict)


class NoStore(ResourceError):
    """Nobody has made a store there yet."""

    def __init__(self, where: str) -> None:
        super().__init__("there is no store yet", where=where, next_step="start the engine once: hackwatch run")


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


class Lock(Protocol):
    """A lock that other processes see, until it is closed or its process or connection dies."""

    def renew(self) -> None:
        """Take it again if the database has lost it in between (a restart) and nobody else has it."""
        ...

    def close(self) -> None: ...


class Database(Protocol):
    """A relational database, safe to use from several threads. Errors come as those of `hackwatch.errors`."""

    @property
    def name(self) -> str:
        """Where it is, for messages: a path or an address without its secret."""
        ...

    @property
    def dialect(self) -> Dialect: ...

    def write(self) -> AbstractContextManager[Transaction]:
        """A transaction that may write; durable when the block ends, undone when it raises.

        A statement sees what was committed before it began. Others may write other rows meanwhile.
        """
        ...

    def read(self) -> AbstractContextManager[Transaction]:
        """A transaction that sees one consistent state and waits for no writer."""
        ...

    def stream(self, sql: str, parameters: Sequence[Any] = (), *, rows: int) -> Iterator[list[tuple[Any, ...]]]:
        """All rows of a query in one consistent state, so many at a time.

        Waits for no writer, and may be read on in another thread. What is not read to its end is to be closed.
        """
        ...

    def lock(self, name: str) -> Lock | None:
        """Take the lock of a name for as long as this process wants; None if another one has it."""
        ...

    def tidy(self) -> None:
        """Housekeeping after much was written; short."""
        ...

    def close(self) -> None: ...


def take_turn(transaction: Transaction, dialect: Dialect, name: str) -> None:
    """Wait until no other transaction holds the turn of this name, and keep it to the end of this one."""
    if dialect.turn:
        transaction.fetch(dialect.turn, (name,))
