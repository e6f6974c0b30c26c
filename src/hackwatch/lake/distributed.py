"""Appends to a table by many processes at once: each writes files, one commits them all.

The files are nothing until they are committed, so a process that is killed, or a task that runs twice, leaves only
files that the next vacuum deletes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from hackwatch.lake import Lake
from hackwatch.lake.log import Action
from hackwatch.lake.schema import merge
from hackwatch.lake.writer import write_rows

__all__ = ["Share", "commit_files", "share"]

Schema = Mapping[str, pl.DataType]


@dataclass(frozen=True, slots=True)
class Share:
    """What a process needs to write files for a table; goes to other machines, which must see the same place."""

    location: str
    table: str
    bounded: tuple[str, ...]
    options: Mapping[str, str] = field(repr=False)

    def write(self, frame: pl.DataFrame, epoch: int) -> list[Action]:
        """Write rows (with the columns `date` and `site`) into new files; the actions that add them."""
        storage = Lake(self.location, options=self.options).storage(self.table)
        with storage.explained():
            return write_rows(storage, frame, epoch, self.bounded) if len(frame) else []


def share(lake: Lake, table: str, schema: Schema) -> Share:
    """The share in a table that has, or will have, these columns."""
    log = lake._log(table)
    with log.storage.explained():
        log.refresh()
        return Share(lake.location, table, tuple(log.bounded(schema)), lake.options)


def commit_files(
    lake: Lake, table: str, schema: Schema, actions: Sequence[Action], epoch: int, application: str
) -> bool:
    """Commit files that shares have written, once; False if the application has already committed this epoch."""
    if not actions:
        return True
    log = lake._log(table)

    def build(_: list[Action]) -> list[Action] | None:
        last = log.last_epoch(application)
        if last is not None and last >= epoch:
            return None
        if log.schema is None:
            prelude = log.creation(schema)
        else:
            wider = merge(log.schema, schema, log.storage.where)
            prelude = [] if wider is None else log.evolution(wider)
        return [*prelude, {"txn": {"appId": application, "version": epoch}}, *actions]

    with log.storage.explained():
        return log.commit("WRITE", build)
