"""The door to all that can be asked of what a pipeline has kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hackwatch import streams
from hackwatch.alerts.alert import Alert, Severity
from hackwatch.config import Settings
from hackwatch.errors import ResourceError
from hackwatch.store import AlertStatus, Mute, NoStore, Store, StoredAlert, open_store
from hackwatch.views import alerts, intervals, panels
from hackwatch.views.live import Reader
from hackwatch.views.pages import Page
from hackwatch.views.panels import PanelView
from hackwatch.views.status import MAX_AGE, EngineStatus, engine_status

if TYPE_CHECKING:
    import polars as pl

    from hackwatch.lake import Lake
    from hackwatch.streams.stream import Stream
    from hackwatch.views.records import Record
    from hackwatch.views.sql import Cursor, Tables

__all__ = ["Views", "of_engine", "open"]


def open(settings: Settings) -> Views:
    """What the settings' lake and store hold, to read; nothing is asked of their disks or servers yet."""
    return Views(settings)


def of_engine(settings: Settings) -> Views:
    """The same where an engine runs, or has run; else ResourceError."""
    data = Views(settings)
    # A store with an address of its own may be filled by engines elsewhere.
    if settings.store.url or settings.lock_file.exists():
        if settings.pipeline in data.store.statuses.read():
            return data
        data.close()
    raise ResourceError(
        "no engine has run in this data folder" if settings.store.url is None else "no engine has run this pipeline",
        where=settings.store.url or str(settings.data),
        next_step="start one with: hackwatch run, hackwatch watch or hackwatch demo",
    )


class Views:
    """Asks lake and store of one data folder. Safe for several threads; close it, or use it in a `with` block.

    Lists come in pages: `limit` rows from `cursor` on (the `next` of the page before). Times are Unix seconds UTC.
    Lake and store are opened when first needed, and never made or changed. Raises ResourceError (no permission, a
    server that is away, a store of another version; NoStore: there is none yet) and DataError (damaged).
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opening = threading.Lock()
        self._store: Store | None = None

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> Views:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def store(self) -> Store:
        store = self._kept()
        if isinstance(store, NoStore):
            raise store
        return store

    def _kept(self) -> Store | NoStore:
        with self._opening:
            if self._store is None:
                try:
                    self._store = open_store(self._settings.store_url, read_only=True)
                except NoStore as error:
                    return error  # before the first run; the lake may be a copy from elsewhere
            return self._store

    @cached_property
    def lake(self) -> Lake:
        from hackwatch.lake import open_lake

        return open_lake(self._settings)

    # -- the engine ------------------------------------------------------------------------------------------------

    def status(self, *, now: float | None = None, max_age: float = MAX_AGE) -> EngineStatus:
        """What the engine said last, with the counters of its streams. ResourceError if none has ever spoken."""
        settings = self._settings
        moment = time.time() if now is None else now
        return engine_status(self.store, settings.pipeline, str(settings.data), moment, max_age)

    def live(self, clock: Callable[[], float] = time.time) -> Reader:
        """Reads the whole screen of a moment, again and again."""
        return Reader(self.store, self._settings.pipeline, clock)

    # -- what was found --------------------------------------------------------------------------------------------

    def alerts(
        self, *, statuses: Sequence[AlertStatus] | None = None, severity: Severity | None = None,
        stream: str | None = None, entity: str | None = None, rule: str | None = None, site: str | None = None,
        since: float | None = None, until: float | None = None, limit: int = 100, cursor: str | None = None,
    ) -> Page[StoredAlert]:  # fmt: skip
        """Alerts raised within `since <= created < until`, the latest first; `severity` is the least one."""
        return alerts.alerts(
            self.store, statuses=statuses, severity=severity, stream=stream, entity=entity, rule=rule, site=site,
            since=since, until=until, limit=limit, cursor=cursor,
        )  # fmt: skip

    def alert(self, alert_id: str) -> StoredAlert:
        """One alert by its id or at least 4 characters of its beginning. DataError if none or several match."""
        return self.store.triage.alert(alert_id)

    def mutes(self, *, now: float | None = None) -> list[Mute]:
        """All mutes, or those in force at `now`, the newest first."""
        return self.store.triage.mutes(now=now)

    def around(
        self, alert: Alert, *, seconds: float = 60.0, limit: int = 100, cursors: Mapping[str, str] | None = None
    ) -> dict[str, Page[Record]]:
        """What the entity of an alert did from so many seconds before it to as many after it, by stream."""
        from hackwatch.views.records import around

        return around(self.tables(), alert, seconds=seconds, limit=limit, cursors=cursors)

    # -- what was counted ------------------------------------------------------------------------------------------

    def windows(
        self, *, stream: str | None = None, entity: str | None = None, site: str | None = None,
        since: float | None = None, until: float | None = None, limit: int = 100, cursor: str | None = None,
    ) -> Page[intervals.Window]:  # fmt: skip
        """Windows that began within `since <= start < until`, the latest first."""
        return intervals.windows(
            self.store, stream=stream, entity=entity, site=site, since=since, until=until, limit=limit, cursor=cursor
        )

    def aggregates(
        self, *, stream: str | None = None, aggregate: str | None = None, site: str | None = None,
        since: float | None = None, until: float | None = None, limit: int = 100, cursor: str | None = None,
    ) -> Page[intervals.Interval]:  # fmt: skip
        """Intervals of all other aggregates that began within `since <= start < until`, the latest first."""
        return intervals.aggregates(
            self.store, stream=stream, aggregate=aggregate, site=site, since=since, until=until, limit=limit,
            cursor=cursor,
        )  # fmt: skip

    def panels(self) -> tuple[PanelView, ...]:
        """What families show of the aggregates of the engine's streams; empty if no engine has ever spoken."""
        status = self.store.statuses.read().get(self._settings.pipeline)
        return panels.panels(self.store, status) if status else ()

    def entities(
        self, *, site: str | None = None, since: float | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[intervals.Entity]:
        """Whom records are about, by name, with sums over the windows that began `since` then."""
        return intervals.entities(self.store, site=site, since=since, limit=limit, cursor=cursor)

    # -- records and SQL -------------------------------------------------------------------------------------------

    def records(
        self, stream: str, *, entity: str | None = None, since: float | None = None, until: float | None = None,
        limit: int = 100, cursor: str | None = None,
    ) -> Page[Record]:  # fmt: skip
        """Records of a stream with `since <= event time < until`, the oldest first. DataError if it has none yet."""
        from hackwatch.views.records import records

        return records(
            self.tables(), streams.get(stream), entity=entity, since=since, until=until, limit=limit, cursor=cursor
        )

    def latest(self, stream: Stream, most: int) -> pl.DataFrame:
        """The last records of a stream, at most so many, oldest first. DataError if it has none yet.

        With what the champion said of them, and with the truth, where somebody has added it.
        """
        from hackwatch.views.records import latest

        return latest(self.lake, stream, most)

    def tables(self) -> Tables:
        """What a query may name, as it is now."""
        from hackwatch.views.sql import Tables

        store = self._kept()
        return Tables(self.lake, None if isinstance(store, NoStore) else store)

    def sql(self, text: str, parameters: Sequence[Any] = (), *, memory: str = "1GB") -> Cursor:
        """Ask lake and store in SQL (DuckDB's): one statement that reads, which can reach nothing else.

        The rows come as they are read: iterate over the cursor, or hand it to `polars.DataFrame`.
        """
        from hackwatch.views.sql import query

        return query(self.tables(), text, parameters, memory=memory)
