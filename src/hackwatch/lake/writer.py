"""Rows as Parquet files of a table, and as the actions that add them to it."""

from __future__ import annotations

import datetime
import io
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

import polars as pl

from hackwatch.errors import InternalError
from hackwatch.lake.log import Action
from hackwatch.lake.schema import PARTITIONS
from hackwatch.lake.statistics import summarise, to_json
from hackwatch.lake.storage import Storage, storage_at

__all__ = ["add_action", "new_file", "partition_folder", "write_rows"]

PartitionValues = Mapping[str, str | None]


def write_rows(storage: Storage | Path, frame: pl.DataFrame, epoch: int, bounded: Sequence[str]) -> list[Action]:
    """Write rows (with the columns `date` and `site`) into files, one a partition; the actions that add them.

    `bounded`: the columns that have statistics.
    Files are durable when it returns; when it raises, none is left (in a bucket: vacuum gets them).
    """
    storage = storage_at(storage)
    actions: list[Action] = []
    try:
        for values, rows in _partitions(frame):
            key = new_file(values, epoch)
            buffer = io.BytesIO()
            rows.write_parquet(buffer, compression="zstd", compression_level=1, statistics=True)
            data = buffer.getbuffer()
            actions.append(add_action(key, len(data), values, to_json(summarise(rows, bounded))))
            storage.write(key, data)
    except BaseException:
        if storage.settled:
            with suppress(OSError):
                storage.delete(unquote(action["add"]["path"]) for action in actions)
        raise
    return actions


def new_file(values: PartitionValues, epoch: int) -> str:
    """The key of a new file in the folder of its partition; names sort by epoch."""
    return f"{partition_folder(values)}/part-{epoch:010d}-{uuid.uuid4()}.parquet"


def partition_folder(values: PartitionValues) -> str:
    """The folder of a partition, in the way of Hive: `date=2031-02-03/site=local`."""
    names = (
        f"{name}={'__HIVE_DEFAULT_PARTITION__' if values[name] is None else quote(str(values[name]), safe='')}"
        for name in PARTITIONS
    )
    return "/".join(names)


def add_action(key: str, size: int, values: PartitionValues, statistics: str, *, data_change: bool = True) -> Action:
    """The action that adds a file of so many bytes to its table."""
    return {
        "add": {
            "path": quote(key, safe="/="),
            "partitionValues": dict(values),
            "size": size,
            "modificationTime": time.time_ns() // 1_000_000,
            "dataChange": data_change,
            "stats": statistics,
        }
    }


def _partitions(frame: pl.DataFrame) -> Iterator[tuple[PartitionValues, pl.DataFrame]]:
    missing = [name for name in PARTITIONS if name not in frame.columns]
    if missing:
        raise InternalError(f"rows for the lake lack the columns {', '.join(missing)}")
    for (date, site), rows in _split(frame):
        text = date.isoformat() if isinstance(date, datetime.date) else None
        yield {"date": text, "site": None if site is None else str(site)}, rows


def _split(frame: pl.DataFrame) -> Iterator[tuple[tuple[object, ...], pl.DataFrame]]:
    same = (pl.col(name).eq_missing(pl.col(name).first()).all() for name in PARTITIONS)
    if all(frame.select(same).row(0)):
        # The common case, without copying all rows.
        yield frame.select(pl.col(PARTITIONS).first()).row(0), frame.drop(PARTITIONS)
    else:
        yield from frame.partition_by(PARTITIONS, include_key=False, as_dict=True, maintain_order=True).items()
