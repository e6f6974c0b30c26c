"""What each user needs of the store. What routes need is beside them: `hackwatch.routes.dispatch.Outbox`.

Every method is one transaction that happens or does not, may be called from any thread, and raises
ResourceError (disk full, permission, a server that is away: the same call may be tried again) and DataError (the
store is damaged). What a method raises besides is said there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hackwatch.alerts.alert import Alert, AlertUpdate
from hackwatch.store.commits import BatchEntry, Checkpoint, EpochCommit

__all__ = ["CheckpointStore"]


class CheckpointStore(Protocol):
    """What an engine of either kind needs: to log, to commit, and to go on from there after a crash.

    On Spark each query is a pipeline of its own, `PIPELINE/QUERY`; its thread calls what the embedded engine's does.
    """

    @property
    def identity(self) -> str:
        """Made with the store, and never again: tells it from one that took its place.

        Asked for once by whoever builds the engine, before it starts.
        """
        ...

    def latest(self, pipeline: str) -> Checkpoint | None:
        """The last committed epoch and what was logged after it; None for a new pipeline.

        Called once by the engine's thread, before it reads a message; on Spark by the thread that builds the queries.
        """
        ...

    def log_batches(
        self,
        pipeline: str,
        batches: Sequence[BatchEntry],
        alerts: Sequence[Alert] = (),
        updates: Sequence[AlertUpdate] = (),
    ) -> None:
        """Log micro-batches, and write their alerts with the outbox messages of each, and updates of earlier alerts.

        Called by the engine's thread after a micro-batch that raised alerts and at the end of an epoch; on Spark
        before a batch writes anything, and for its alerts. Alerts of hackwatch about itself come without batches, from
        whichever thread finds the cause. Numbers and ids that are there stay untouched, an update never goes back: the
        same call twice is the same as once.
        Raises TakenOver when another engine works on the pipeline by now: never to be tried again.
        """
        ...

    def commit_epoch(self, pipeline: str, commit: EpochCommit) -> None:
        """Make an epoch count: offsets, states, windows, aggregates, totals; drop the log up to its last batch.

        Called when the rows of the epoch are safe in the lake: by the thread that writes epochs, while the engine's
        goes on; on Spark by the query's. An epoch that is committed stays as it is.
        Raises TakenOver as above, InternalError when an epoch between is missing.
        """
        ...
