"""Snapshots of a pipeline's state, one set an epoch, in parts that a writer of alerts need not wait for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hackwatch.store.database import Database, Transaction
from hackwatch.store.locks import PipelineLocks

__all__ = ["PART_BYTES", "States"]

#: Snapshots up to this size are written within the epoch's transaction, larger ones ahead of it in parts of
#: this size: a writer of alerts never waits longer than one part takes.
PART_BYTES = 1 << 20
_DROPPED_AT_ONCE = 4

_INSERT = "INSERT INTO state (pipeline, epoch, name, part, snapshot) VALUES (?, ?, ?, ?, ?)"
_DELETE_EPOCH = "DELETE FROM state WHERE pipeline = ? AND epoch = ?"
_DELETE_PART = "DELETE FROM state WHERE pipeline = ? AND epoch = ? AND name = ? AND part = ?"

_Part = tuple[str, int, str, int, bytes]


class States:
    """The snapshots of each epoch, by name. Only those of the committed epoch count."""

    def __init__(self, database: Database, locks: PipelineLocks) -> None:
        self._database, self._locks = database, locks

    @staticmethod
    def large(states: Mapping[str, bytes]) -> bool:
        """Whether they are to be written ahead of the transaction that commits their epoch."""
        return sum(map(len, states.values())) > PART_BYTES

    def read(self, transaction: Transaction, pipeline: str, epoch: int) -> dict[str, bytes]:
        """The snapshots of an epoch by name."""
        rows = transaction.fetch(
            "SELECT name, snapshot FROM state WHERE pipeline = ? AND epoch = ? ORDER BY name, part",
            (pipeline, epoch),
        )
        parts: dict[str, list[bytes]] = {}
        for name, snapshot in rows:
            parts.setdefault(name, []).append(snapshot)
        return {name: b"".join(snapshots) for name, snapshots in parts.items()}

    def write(self, transaction: Transaction, pipeline: str, epoch: int, states: Mapping[str, bytes]) -> None:
        """Write the snapshots of an epoch in its transaction, in place of what was written ahead of a crash."""
        transaction.execute(_DELETE_EPOCH, (pipeline, epoch))
        transaction.execute_many(_INSERT, _parts(pipeline, epoch, states))

    def write_ahead(self, pipeline: str, epoch: int, states: Mapping[str, bytes]) -> None:
        """Write the snapshots of an epoch before it is committed, part by part: nobody reads them until then."""
        with self._locks.write(pipeline) as transaction:
            transaction.execute(_DELETE_EPOCH, (pipeline, epoch))
        for part in _parts(pipeline, epoch, states):
            with self._locks.write(pipeline) as transaction:
                transaction.execute(_INSERT, part)
            self._database.tidy()

    def drop_before(self, pipeline: str, epoch: int) -> None:
        """Delete the snapshots of earlier epochs, a few parts at a time."""
        where = "pipeline = ? AND epoch < ?"
        with self._database.read() as transaction:
            old = transaction.fetch(f"SELECT epoch, name, part FROM state WHERE {where}", (pipeline, epoch))
        for start in range(0, len(old), _DROPPED_AT_ONCE):
            with self._locks.write(pipeline) as transaction:
                transaction.execute_many(
                    _DELETE_PART, [(pipeline, *key) for key in old[start : start + _DROPPED_AT_ONCE]]
                )


def _parts(pipeline: str, epoch: int, states: Mapping[str, bytes]) -> Iterator[_Part]:
    for name, snapshot in states.items():
        for part, start in enumerate(range(0, max(len(snapshot), 1), PART_BYTES)):
            yield (pipeline, epoch, name, part, snapshot[start : start + PART_BYTES])
