"""The lake: Delta tables of all records, attacks and rejected messages, appended to exactly once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from hackwatch.config import Settings
from hackwatch.lake.log import Action, TableLog
from hackwatch.lake.schema import conform, merge
from hackwatch.lake.statistics import texts_of
from hackwatch.lake.storage import BucketHome, FolderHome, Storage
from hackwatch.lake.writer import write_rows
from hackwatch.objects import Bucket, explained, is_remote, storage_options

if TYPE_CHECKING:
    import pyarrow.dataset  # type: ignore[import-untyped]  # it ships no types

    from hackwatch.lake.maintenance import Compaction, TableStatistics

__all__ = ["Lake", "open_lake"]


def open_lake(settings: Settings) -> Lake:
    """The lake that the settings name; nothing is asked of its disk or server yet."""
    return Lake(
        settings.lake_location,
        options=storage_options(settings.lake.storage) if is_remote(settings.lake_location) else None,
        target_file_mib=settings.lake.target_file_mib,
        retention_hours=settings.lake.retention_hours,
    )


class Lake:
    """A place of Delta tables, made when first appended to: a folder, or `s3://BUCKET/PREFIX`.

    Appends come from one thread; several processes and machines may append to one table.
    `options`: those of the S3 server, by object_store's names (`objects.storage_options`). `texts`: the text columns
    of a new table that files are searched by.

    Raises ResourceError (disk full, permission, server away: nothing is half committed, try again later) and
    DataError (columns of another type than the table's, an unreadable log).
    """

    # Maintenance and datasets need pyarrow, which takes a second and 50 MB to load: the engine does without.

    def __init__(
        self,
        location: Path | str,
        *,
        options: Mapping[str, str] | None = None,
        target_file_mib: int = 128,
        retention_hours: float = 168,
        texts: Callable[[str], Collection[str]] = texts_of,
    ) -> None:
        self.location, self.options = str(location).rstrip("/"), dict(options or {})
        self.remote, self.retention_hours = is_remote(self.location), retention_hours
        self.target_bytes, self.texts = target_file_mib << 20, texts
        self._logs: dict[str, TableLog] = {}

    @property
    def path(self) -> Path:
        """The folder, of a lake that is in one."""
        return Path(self.location)

    def storage(self, table: str) -> Storage:
        """Where a table is or will be."""
        if self.remote:
            return BucketHome(f"{self.location}/{table}", self.options)
        return FolderHome(self.path / table)

    def append(self, table: str, frame: pl.DataFrame, epoch: int, pipeline: str) -> bool:
        """Append rows once; False if this pipeline has already committed this epoch to the table.

        `frame` has the columns `date` (Date) and `site` beside the table's own; new columns are added to the
        table. Durable when it returns. No rows, no commit.
        """
        if frame.is_empty():
            return True
        log = self._log(table)
        fitting: list[pl.DataFrame] = []
        written: list[Action] = []

        def actions(_: list[Action]) -> list[Action] | None:
            # Asked again when another writer was faster: one under the same name may have committed this epoch.
            if _done(log, pipeline, epoch):
                return None
            if not fitting:
                fitting.append(conform(frame, log.schema))
            prelude = _prelude(log, fitting[0])
            if not written:
                written.extend(write_rows(log.storage, fitting[0], epoch, log.bounded(fitting[0].schema)))
            return [*prelude, {"txn": {"appId": pipeline, "version": epoch}}, *written]

        committed = refused = False
        with log.storage.explained():
            try:
                committed = log.commit("WRITE", actions)
                refused = not committed
            finally:
                if not committed:
                    del self._logs[table]
                    log.abandon(written, refused=refused)
        return committed

    def last_epoch(self, table: str, pipeline: str) -> int | None:
        """The last epoch that this pipeline has committed to the table; None if there is none."""
        log = self._log(table)
        with log.storage.explained():
            log.refresh()
        return log.last_epoch(pipeline)

    def tables(self) -> list[str]:
        """The names of the tables that exist."""
        if self.remote:
            names = Bucket(self.location, self.options).folders()
            return [name for name in names if self.storage(name).has_log()]
        return sorted(folder.name for folder in self.path.glob("*") if self.storage(folder.name).has_log())

    def scan(self, table: str) -> pl.LazyFrame:
        """The table as a lazy frame. DataError if there is none."""
        return self.storage(table).scan()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What goes wrong while rows of `scan` are read, from a server that has gone away, as ResourceError."""
        try:
            yield
        except (OSError, pl.exceptions.PolarsError) as error:
            if not self.remote:
                raise
            Bucket(self.location, self.options).check()
            raise explained(error, self.location) from error

    def dataset(self, table: str) -> pyarrow.dataset.Dataset:
        """The table as an Arrow dataset. DataError if there is none."""
        from hackwatch.lake.reading import arrow_dataset

        return arrow_dataset(self.storage(table))

    def compact(self, table: str, *, site: str | None = None) -> Compaction:
        """Join small files (of one site, if it is given); safe while others append."""
        from hackwatch.lake.maintenance import compact_table

        storage = self.storage(table)
        with storage.explained():
            return compact_table(storage, self.target_bytes, site)

    def vacuum(self, table: str, *, dry_run: bool = False) -> list[str]:
        """Delete files that the table has not used for the retention time; those that it deleted (or would)."""
        from hackwatch.lake.maintenance import vacuum_table

        storage = self.storage(table)
        with storage.explained():
            return vacuum_table(storage, self.retention_hours, dry_run=dry_run)

    def statistics(self, table: str) -> TableStatistics:
        """Rows, files, bytes and time span of a table, from its log alone."""
        from hackwatch.lake.maintenance import table_statistics

        return table_statistics(self.storage(table))

    def versions(self) -> dict[str, int]:
        """The last versions that this process has seen of the tables it appends to; nothing is asked of the lake."""
        return {table: log.version for table, log in self._logs.copy().items()}

    def _log(self, table: str) -> TableLog:
        if table not in self._logs:
            self._logs[table] = TableLog(self.storage(table), self.retention_hours, self.texts(table))
        return self._logs[table]


def _done(log: TableLog, pipeline: str, epoch: int) -> bool:
    last = log.last_epoch(pipeline)
    return last is not None and last >= epoch


def _prelude(log: TableLog, frame: pl.DataFrame) -> list[Action]:
    """What must come before the rows: the table itself, or its new columns."""
    if log.schema is None:
        return log.creation(frame.schema)
    wider = merge(log.schema, frame.schema, log.storage.where)
    return [] if wider is None else log.evolution(wider)
