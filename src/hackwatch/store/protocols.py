"""What each user needs of the store. What routes need is beside them: `hackwatch.routes.dispatch.Outbox`.

Every method is one transaction that happens or does not, may be called from any thread, and raises
ResourceError (disk full, permission, a server that is away: the same call may be tried again) and DataError (the
store is damaged). What a method raises besides is said there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hackwatch.alerts.alert import Alert, AlertUpdate, Kind, Severity
from hackwatch.store.alerts import AlertStatus, Mute, StoredAlert
from hackwatch.store.commits import BatchEntry, Checkpoint, EpochCommit

__all__ = ["AlertTriage", "CheckpointStore"]


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


class AlertTriage(Protocol):
    """What people need, through the command line and the screens: to see alerts, to handle them, to mute.

    Called by the main thread of a command, while engines write.
    """

    def alerts(
        self,
        *,
        statuses: Sequence[AlertStatus] | None = None,
        severity: Severity | None = None,
        kind: Kind | None = None,
        stream: str | None = None,
        entity: str | None = None,
        rule: str | None = None,
        site: str | None = None,
        since: float | None = None,
        until: float | None = None,
        after: int | None = None,
        limit: int | None = 100,
    ) -> list[StoredAlert]:
        """Alerts, newest first; or, with `after` (a sequence number), those stored later, oldest first."""
        ...

    def alert(self, alert_id: str) -> StoredAlert:
        """One alert by its id or at least 4 characters of its beginning. DataError if none or several match."""
        ...

    def acknowledge(self, alert_id: str, *, by: str, now: float, note: str | None = None) -> StoredAlert:
        """A person has seen it and takes care. DataError as with `alert`."""
        ...

    def close(self, alert_id: str, *, by: str, now: float, note: str | None = None) -> StoredAlert:
        """A person is done with it. DataError as with `alert`."""
        ...

    def mute(
        self,
        rule: str | None,
        entity: str | None,
        until: float,
        *,
        now: float,
        by: str | None = None,
        reason: str | None = None,
    ) -> Mute:
        """Silence a rule, an entity, or a rule at an entity. ConfigurationError if neither is named."""
        ...

    def unmute(self, mute_id: int, *, now: float) -> bool:
        """End a mute now; False if there is no such mute in force."""
        ...

    def mutes(self, *, now: float | None = None) -> list[Mute]:
        """All mutes, or those in force at `now`, the newest first."""
        ...
