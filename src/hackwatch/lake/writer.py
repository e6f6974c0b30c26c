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
from hackwatch.lake.files import make_folder, sync_folder, write_file
from hackwatch.lake.log import Action
from hackwatch.lake.schema import PARTITIONS
from hackwatch.lake.statistics import summarise, to_json

__all__ = ["add_action", "discard", "new_file", "partition_folder", "write_rows"]

PartitionValues = Mapping[str, str | None]


def write_rows(folder: Path, frame: pl.DataFrame, epoch: int, bounded: Sequence[str]) -> list[Action]:
    """Write rows (with the columns `date` and `site`) into files, one a partition; the actions that add them.

    `bounded`: the columns that have statistics.
    Files are durable when it returns; when it raises, none is left.
    """
    actions: list[Action] = []
    try:
        for values, rows in _partitions(frame):
            target = new_file(folder, values, epoch)
            buffer = io.BytesIO()
            rows.write_parquet(buffer, compression="zstd", compression_level=1, statistics=True)
            write_file(target, buffer.getbuffer())
            actions.append(add_action(folder, target, values, to_json(summarise(rows, bounded))))
            sync_folder(target.parent)
    except BaseException:
        discard(folder, actions)
        raise
    return actions


def discard(folder: Path, actions: list[Action]) -> None:
    """Delete the files of a commit that did not happen; vacuum gets those that cannot be deleted now."""
    for action in actions:
        if "add" in action:
            with suppress(OSError):
                (folder / unquote(action["add"]["path"])).unlink()


def new_file(folder: Path, values: PartitionValues, epoch: int) -> Path:
    """A new file name in the folder of its partition; names sort by epoch."""
    target = folder / partition_folder(values)
    make_folder(target)
    return target / f"part-{epoch:010d}-{uuid.uuid4()}.parquet"


def partition_folder(values: PartitionValues) -> str:
    """The folder of a partition, in the way of Hive: `date=2031-02-03/site=local`."""
    names = (
        f"{name}={'__HIVE_DEFAULT_PARTITION__' if values[name] is None else quote(str(values[name]), safe='')}"
        for name in PARTITIONS
    )
    return "/".join(names)


def add_action(
    folder: Path, file: Path, values: PartitionValues, statistics: str, *, data_change: bool = True
) -> Action:
    """The action that adds a file to its table."""
    return {
        "add": {
            "path": quote(file.relative_to(folder).as_posix(), safe="/="),
            "partitionValues": dict(values),
            "size": file.stat().st_size,
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
