"""One engine a pipeline: who starts second is refused, and who was cut off and came back too late writes nothing."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from hackwatch.errors import ResourceError
from hackwatch.store.database import Database, Lock, Transaction
from hackwatch.store.schema import identity

__all__ = ["PipelineLocks", "TakenOver"]

_TAKE = (
    "INSERT INTO holder (pipeline, token, host, process) VALUES (?, ?, ?, ?) ON CONFLICT (pipeline) DO UPDATE SET "
    "token = excluded.token, host = excluded.host, process = excluded.process"
)


class TakenOver(ResourceError):
    """Another engine works on the pipeline by now: this one may not write any more, however long it waits."""

    passing = False


class PipelineLocks:
    """The pipelines that this process works on, and their transactions.

    The database's lock refuses a second engine. It is lost with its connection (the server restarts, the network is
    gone for long), and then another engine may rightly begin. So each also leaves a token, which all it writes is
    checked against in the same transaction: the one that came later wins, and nothing of both is mixed.
    A pipeline `NAME/PART` is held with `NAME`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tokens: dict[str, str] = {}

    @contextmanager
    def hold(self, pipeline: str) -> Iterator[Lock]:
        """Be the one engine of a pipeline, and of its parts `PIPELINE/...`; renew the lock every few seconds.

        Raises ResourceError if another engine works on it. From here on whatever is written for the pipeline
        raises TakenOver once another engine has begun, which it can only after this one's connection was lost.
        """
        lock = self._database.lock(f"{identity(self._database)} {pipeline}")
        if lock is None:
            raise ResourceError(
                f"another engine ({self._who(pipeline)}) works on the pipeline {pipeline!r} of this store",
                where=self._database.name,
                next_step="stop it, or give this engine a pipeline of its own: the setting `pipeline`",
            )
        try:
            token = uuid.uuid4().hex
            with self._database.write() as transaction:
                transaction.execute(_TAKE, (pipeline, token, socket.gethostname(), os.getpid()))
            self._tokens[pipeline] = token
            yield lock
        finally:
            self._tokens.pop(pipeline, None)
            lock.close()

    @contextmanager
    def write(self, pipeline: str) -> Iterator[Transaction]:
        """A transaction in which only the engine that holds the pipeline may write; anyone, if this process does not.

        Raises TakenOver if another engine has begun since this one did; if not, none can before the transaction ends.
        """
        with self._database.write() as transaction:
            self._check(transaction, pipeline)
            yield transaction

    def _check(self, transaction: Transaction, pipeline: str) -> None:
        whole = pipeline.partition("/")[0]
        token = self._tokens.get(whole)
        if token is None:
            return
        sql = f"SELECT token FROM holder WHERE pipeline = ?{self._database.dialect.shared}"
        if transaction.fetch(sql, (whole,)) != [(token,)]:
            raise TakenOver(
                f"another engine has taken over the pipeline {whole!r}",
                where=self._database.name,
                next_step="let one of them run: this one lost its connection for a while, and the other began",
            )

    def _who(self, pipeline: str) -> str:
        with self._database.read() as transaction:
            rows = transaction.fetch("SELECT host, process FROM holder WHERE pipeline = ?", (pipeline,))
        return f"process {rows[0][1]} on {rows[0][0]}" if rows else "that is just starting"
