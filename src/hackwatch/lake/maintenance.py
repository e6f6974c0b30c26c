"""Maintenance of a table: joining small files, deleting unused ones, statistics."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import orjson
import polars as pl
import pyarrow  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
from deltalake import DeltaTable

from hackwatch.lake.log import Action, TableLog
from hackwatch.lake.schema import PARTITIONS, polars_schema
from hackwatch.lake.statistics import combine, summarise, to_json
from hackwatch.lake.storage import Storage
from hackwatch.lake.writer import add_action, new_file

__all__ = ["Compaction", "TableStatistics", "compact_table", "table_statistics", "vacuum_table"]

# Rows of a compacted file that are held in memory, and that readers skip, together.
_GROUP_ROWS = 1 << 18
_ROW_READ = 1 << 16
# A file this close to the target is as good as one of its size.
_FULL = 0.75
# In a partition that still grows a file is joined again only when the others together are a good part of it,
# so that a byte is rewritten a few times and not at every compaction.
_GROWTH = 2.0
# Without a new file for this long a partition has stopped growing.
_SETTLED_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did: files that went, files that came, rows in them, and bytes before and after."""

    removed: int = 0
    added: int = 0
    rows: int = 0
    bytes_before: int = 0
    bytes_after: int = 0

    def __add__(self, other: Compaction) -> Compaction:
        return Compaction(
            self.removed + other.removed,
            self.added + other.added,
            self.rows + other.rows,
            self.bytes_before + other.bytes_before,
            self.bytes_after + other.bytes_after,
        )


@dataclass(frozen=True, slots=True)
class TableStatistics:
    """A table as its log tells. `oldest`, `newest`: dates of partitions; `small_files`: those worth compacting."""

    table: str
    version: int
    rows: int
    files: int
    small_files: int
    bytes: int
    partitions: int
    oldest: datetime.date | None
    newest: datetime.date | None
    columns: dict[str, str]


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size: int
    modified: float
    date: str | None
    site: str | None


def table_statistics(storage: Storage, target_bytes: int = 128 << 20) -> TableStatistics:
    """Statistics of a table without reading its data."""
    table = storage.table()
    files = _files(table)
    dates: list[datetime.date] = files["partition.date"].drop_nulls().to_list()
    return TableStatistics(
        table=storage.name,
        version=table.version(),
        rows=int(files["num_records"].sum()),
        files=files.height,
        small_files=int((files["size_bytes"] < target_bytes * _FULL).sum()),
        bytes=int(files["size_bytes"].sum()),
        partitions=files.select("partition.date", "partition.site").n_unique(),
        oldest=min(dates, default=None),
        newest=max(dates, default=None),
        columns={name: str(kind) for name, kind in polars_schema(orjson.loads(table.schema().to_json())).items()},
    )


def _files(table: DeltaTable) -> pl.DataFrame:
    """One row a data file: path, size_bytes, modification_time, num_records, partition.date, partition.site."""
    return pl.DataFrame(pl.from_arrow(pyarrow.table(table.get_add_actions(flatten=True))))


def vacuum_table(storage: Storage, retention_hours: float, *, dry_run: bool = False) -> list[str]:
    """Delete files that no version of the retention time uses: compacted ones, and those of crashed writers.

    delta-rs says which; deleting them here needs no entry in the log, so no writer is disturbed. File names are
    never used twice, so a file found unused stays unused.
    """
    hours = max(0, round(retention_hours))
    unused = storage.table().vacuum(hours, dry_run=True, full=True, enforce_retention_duration=False)
    keys = sorted(unquote(path) for path in unused)
    if not dry_run:
        storage.delete(keys)
    return [f"{storage.where}/{key}" for key in keys]


def compact_table(storage: Storage, target_bytes: int, site: str | None = None) -> Compaction:
    """Join the small files of each partition into files of about `target_bytes`; nothing if another process does.

    `site`: only its partitions. Single-threaded and in row groups, so that it takes little from an engine beside it.
    Rows keep the order of their epochs.
    """
    done = Compaction()
    with storage.alone() as alone:
        if not alone:
            return done
        log = TableLog(storage)
        log.refresh()
        lost = _Lost(log)
        partitions = _small_files(log, target_bytes)
        chosen = {values: files for values, files in partitions.items() if site is None or values[1] == site}
        for group in _groups(chosen, target_bytes):
            done += _join(log, group, lost)
    return done


def _small_files(log: TableLog, target_bytes: int) -> dict[tuple[str | None, str | None], list[_File]]:
    """Files below the target, by partition, the smallest first."""
    files = _files(log.table())
    columns = ("path", "size_bytes", "modification_time", "partition.date", "partition.site")
    partitions: dict[tuple[str | None, str | None], list[_File]] = {}
    rows = files.filter(pl.col("size_bytes") < target_bytes * _FULL).sort("size_bytes", "path")
    for path, size, modified, date, site in rows.select(columns).iter_rows():
        file = _File(path, size, modified / 1000, date.isoformat() if date else None, site)
        partitions.setdefault((file.date, file.site), []).append(file)
    return partitions


def _groups(partitions: dict[tuple[str | None, str | None], list[_File]], target_bytes: int) -> Iterator[list[_File]]:
    """Files to join, each group into one."""
    settled = time.time() - _SETTLED_SECONDS
    for files in partitions.values():
        grows = max(file.modified for file in files) > settled
        group: list[_File] = []
        size = 0
        for file in files:
            if grows and group and file.size > _GROWTH * size:
                break
            if size + file.size > target_bytes and len(group) > 1:
                yield group
                group, size = [], 0
            group.append(file)
            size += file.size
        if len(group) > 1:
            yield group


class _Lost:
    """What others have removed since a compaction looked at the table; of one that joins several groups, in all."""

    def __init__(self, log: TableLog) -> None:
        self._log, self._loads = log, log.loads
        self._paths: set[str] = set()

    def any_of(self, paths: set[str], seen: list[Action]) -> bool:
        """Whether any of these is gone, or may be: when all was read again, removals were not seen one by one."""
        self._paths |= {action["remove"]["path"] for action in seen if "remove" in action}
        return self._log.loads != self._loads or not self._paths.isdisjoint(paths)


def _join(log: TableLog, group: Sequence[_File], lost: _Lost) -> Compaction:
    """Write the rows of some files of one partition into one, and swap them in the log."""
    values = dict(zip(PARTITIONS, (group[0].date, group[0].site), strict=True))
    key = new_file(values, max(_epoch(file) for file in group))
    ordered = sorted(group, key=lambda file: file.path)
    rows, size, statistics = _rewrite([unquote(file.path) for file in ordered], key, log)
    addition = add_action(key, size, values, statistics, data_change=False)
    gone = {file.path for file in group}

    def actions(seen: list[Action]) -> list[Action] | None:
        # Somebody has rewritten or deleted one of the files meanwhile: leave it at that.
        if lost.any_of(gone, seen):
            return None
        return [*(_remove_action(file, values) for file in ordered), addition]

    committed = refused = False
    try:
        committed = log.commit("OPTIMIZE", actions, mode="Compact")
        refused = not committed
    finally:
        if not committed:
            log.abandon([addition], refused=refused)
    return Compaction(len(group), 1, rows, sum(file.size for file in group), size) if committed else Compaction()


def _epoch(file: _File) -> int:
    """The epoch in a file's name; 0 for files of other writers."""
    parts = file.path.rsplit("/", 1)[-1].split("-")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


def _remove_action(file: _File, values: dict[str, str | None]) -> Action:
    return {
        "remove": {
            "path": file.path,
            "deletionTimestamp": time.time_ns() // 1_000_000,
            "dataChange": False,
            "extendedFileMetadata": True,
            "partitionValues": values,
            "size": file.size,
        }
    }


def _rewrite(sources: Sequence[str], target: str, log: TableLog) -> tuple[int, int, str]:
    """Copy the rows of some files into a new, durable one; number of rows, of bytes, and statistics."""
    assert log.schema is not None
    types = {name: kind for name, kind in polars_schema(log.schema).items() if name not in PARTITIONS}
    bounded = log.bounded(types)
    summaries: list[pl.DataFrame] = []
    with log.storage.writing(target) as file:
        schema = pl.DataFrame(schema=types).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        with pq.ParquetWriter(file, schema, compression="zstd", compression_level=3) as writer:
            for rows in _row_groups(log.storage, sources, types):
                writer.write_table(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
                summaries.append(summarise(rows, bounded))
        size = file.tell()
    summary = combine(summaries)
    return int(summary["rows"][0]), size, to_json(summary)


def _row_groups(storage: Storage, sources: Sequence[str], types: dict[str, pl.DataType]) -> Iterator[pl.DataFrame]:
    """The rows of some files in the columns of `types` (null where a file lacks one), a row group at a time."""
    held: list[pl.DataFrame] = []
    for source in sources:
        with pq.ParquetFile(storage.reading(source), memory_map=False) as file:
            for batch in file.iter_batches(_ROW_READ, use_threads=False):
                rows = pl.DataFrame(pl.from_arrow(batch))
                columns = [
                    pl.col(name).cast(kind) if name in rows.columns else pl.lit(None, kind).alias(name)
                    for name, kind in types.items()
                ]
                held.append(rows.select(columns))
                if sum(map(len, held)) >= _GROUP_ROWS:
                    yield pl.concat(held)
                    held = []
    if held:
        yield pl.concat(held)
