"""The lake: Delta tables of all records, attacks and rejected messages, appended to exactly once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from hackwatch.lake.files import explained
from hackwatch.lake.log import Action, TableLog
from hackwatch.lake.schema import conform, merge
from hackwatch.lake.writer import discard, write_rows

if TYPE_CHECKING:
    import pyarrow.dataset  # type: ignore[import-untyped]  # it ships no types

    from hackwatch.lake.maintenance import Compaction, TableStatistics

__all__ = ["Lake"]


class Lake:
    """A folder of Delta tables, made when first appended to. Appends come from one thread.

    Raises EnvironmentError_ (disk full, permission: nothing is half committed, try again later) and DataError
    (columns of another type than the table's, an unreadable log).
    """

    # Maintenance and datasets need pyarrow, which takes a second and 50 MB to load: the engine does without.

    def __init__(self, path: Path, *, target_file_mib: int = 128, retention_hours: float = 168) -> None:
        self.path, self.retention_hours = path, retention_hours
        self.target_bytes = target_file_mib << 20
        self._logs: dict[str, TableLog] = {}

    def append(self, table: str, frame: pl.DataFrame, epoch: int, pipeline: str) -> bool:
        """Append rows once; False if this pipeline has already committed this epoch to the table.

        `frame` has the columns `date` (Date) and `site` beside the table's own; new columns are added to the
        table. Durable when it returns. No rows, no commit.
        """
        if frame.is_empty():
            return True
        folder = self.path / table
        log = self._log(table)
        with explained(folder):
            log.refresh()
            if _done(log, pipeline, epoch):
                return False
            frame = conform(frame, log.schema)
            written: list[Action] = []

            def actions(_: list[Action]) -> list[Action] | None:
                # Another engine under the same pipeline name may have committed this epoch in between.
                if _done(log, pipeline, epoch):
                    return None
                prelude = _prelude(log, frame)
                if not written:
                    written.extend(write_rows(folder, frame, epoch, log.bounded(frame.schema)))
                return [*prelude, {"txn": {"appId": pipeline, "version": epoch}}, *written]

            committed = False
            try:
                committed = log.commit("WRITE", actions)
            finally:
                if not committed:
                    self._forget(table, written)
            return committed

    def last_epoch(self, table: str, pipeline: str) -> int | None:
        """The last epoch that this pipeline has committed to the table; None if there is none."""
        log = self._log(table)
        with explained(self.path / table):
            log.refresh()
        return log.last_epoch(pipeline)

    def tables(self) -> list[str]:
        """The names of the tables that exist."""
        # The folder is there a moment before the first commit.
        logs = self.path.glob("*/_delta_log")
        return sorted(log.parent.name for log in logs if next(log.glob("*.json"), None) is not None)

    def scan(self, table: str) -> pl.LazyFrame:
        """The table as a lazy frame. DataError if there is none."""
        TableLog(self.path / table).table()
        return pl.scan_delta(str(self.path / table))

    def dataset(self, table: str) -> pyarrow.dataset.Dataset:
        """The table as an Arrow dataset. DataError if there is none."""
        from hackwatch.lake.reading import arrow_dataset

        folder = self.path / table
        return arrow_dataset(folder, TableLog(folder).table())

    def compact(self, table: str) -> Compaction:
        """Join small files; safe while others append."""
        from hackwatch.lake.maintenance import compact_table

        with explained(self.path / table):
            return compact_table(self.path / table, self.target_bytes)

    def vacuum(self, table: str, *, dry_run: bool = False) -> list[Path]:
        """Delete files that the table has not used for the retention time; those that it deleted (or would)."""
        from hackwatch.lake.maintenance import vacuum_table

        with explained(self.path / table):
            return vacuum_table(self.path / table, self.retention_hours, dry_run=dry_run)

    def statistics(self, table: str) -> TableStatistics:
        """Rows, files, bytes and time span of a table, from its log alone."""
        from hackwatch.lake.maintenance import table_statistics

        return table_statistics(self.path / table)

    def _log(self, table: str) -> TableLog:
        return self._logs.setdefault(table, TableLog(self.path / table, self.retention_hours))

    def _forget(self, table: str, written: list[Action]) -> None:
        """Remove the files of a commit that failed, unless it did happen after all (a fsync that failed late)."""
        log = self._logs.pop(table)
        if not log.entry_exists(log.version + 1):
            discard(self.path / table, written)


def _done(log: TableLog, pipeline: str, epoch: int) -> bool:
    last = log.last_epoch(pipeline)
    return last is not None and last >= epoch


def _prelude(log: TableLog, frame: pl.DataFrame) -> list[Action]:
    """What must come before the rows: the table itself, or its new columns."""
    if log.schema is None:
        return log.creation(frame.schema)
    wider = merge(log.schema, frame.schema, str(log.folder))
    return [] if wider is None else log.evolution(wider)
