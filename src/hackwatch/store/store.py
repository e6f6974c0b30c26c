"""The store in parts: each is small, has its own tables, and all are over one database."""

from __future__ import annotations

import polars as pl

from hackwatch.store.accounting import Accounting
from hackwatch.store.checkpoints import Checkpoints
from hackwatch.store.database import Database
from hackwatch.store.frames import frame
from hackwatch.store.locks import PipelineLocks
from hackwatch.store.outbox import Outbox
from hackwatch.store.retention import Retention
from hackwatch.store.statuses import Statuses
from hackwatch.store.triage import Triage
from hackwatch.store.windows import Windows

__all__ = ["Store"]


class Store:
    """Hands out its parts; what spans several of them in one transaction is done by `checkpoints`.

    Times are Unix seconds UTC and come from the caller: the store has no clock. Safe for several threads. All parts
    raise ResourceError (disk full, permission, a server that is away: the same call may be tried again) and
    DataError (damaged).

    `checkpoints`: what engines write and go on from. `locks`: one engine a pipeline. `statuses`: what engines say of
    themselves. `outbox`: alerts on their way to routes. `triage`: alerts as people see and handle them, mutes.
    `windows`: windows and other aggregates. `accounting`: totals. `retention`: deletes what is old.
    """

    def __init__(self, database: Database, site: str) -> None:
        self.database = database
        self.locks = PipelineLocks(database)
        self.accounting = Accounting(database)
        self.windows = Windows(database, site)
        self.outbox = Outbox(database)
        self.triage = Triage(database)
        self.statuses = Statuses(database, self.locks)
        self.checkpoints = Checkpoints(database, self.locks, self.accounting, self.windows, self.outbox)
        self.retention = Retention(database, site)

    def frame(self, name: str) -> pl.DataFrame:
        """A table as SQL users see it: one of `hackwatch.store.frames.FRAMES`, times as timestamps in UTC."""
        return frame(self.database, name)

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
