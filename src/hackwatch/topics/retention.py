"""What a spool may forget: the readers' committed positions, and pruning of whole segments below them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from hackwatch.config import SpoolSettings
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.topics.segments import (
    environment_error,
    open_private,
    partition_folder,
    segment_bases,
    segment_path,
    sync_folder,
)

__all__ = [
    "Pruned",
    "Retention",
    "committed_offsets",
    "prune",
    "read_committed",
    "reader_names",
    "retention_of",
    "write_committed",
]


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of what is processed to keep: bytes of all segments of the topic, seconds since the last write."""

    max_bytes: int | None = None
    max_age_seconds: float | None = None


def retention_of(spool: SpoolSettings) -> Retention:
    """What the settings say to keep: 0 there means everything, for ever."""
    return Retention(
        max_bytes=int(spool.retention_gib * (1 << 30)) if spool.retention_gib else None,
        max_age_seconds=spool.retention_hours * 3600 if spool.retention_hours else None,
    )


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning removed."""

    segments: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, order=True)
class _Segment:
    modified: float
    path: Path
    size: int


def _committed_path(topic: Path, reader: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", reader):
        raise ConfigurationError(
            f"{reader!r} cannot name a reader of a topic",
            where=str(topic),
            next_step="use letters, digits, dots, dashes and underscores",
        )
    return topic / f"committed-{reader}.json"


def read_committed(topic: Path, reader: str) -> dict[int, int]:
    """Committed position of each partition for one reader; empty if it never committed."""
    return _load(_committed_path(topic, reader))


def _load(path: Path) -> dict[int, int]:
    try:
        return {int(partition): int(offset) for partition, offset in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        environment_error(error, path)
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(
            "this is not a list of committed positions",
            where=str(path),
            next_step="delete the file: the engine writes it again with its next epoch",
        ) from error


def write_committed(topic: Path, reader: str, offsets: Mapping[int, int]) -> None:
    """Replace a reader's committed positions, durably and in one step."""
    path = _committed_path(topic, reader)
    fresh = path.with_suffix(f".{os.getpid()}.new")
    try:
        handle = open_private(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(handle, json.dumps({str(partition): offset for partition, offset in offsets.items()}).encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(fresh, path)
        sync_folder(topic)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        environment_error(error, path)


def reader_names(topic: Path) -> list[str]:
    """The readers that ever committed a position."""
    return sorted(path.stem.removeprefix("committed-") for path in topic.glob("committed-*.json"))


def committed_offsets(topic: Path) -> dict[int, list[int]]:
    """Every reader's committed position for each partition; a reader that never committed does not count."""
    offsets: dict[int, list[int]] = {}
    for name in reader_names(topic):
        for partition, offset in read_committed(topic, name).items():
            offsets.setdefault(partition, []).append(offset)
    return offsets


def prune(topic: Path, partitions: int, retention: Retention, now: float) -> Pruned:
    """Delete whole segments that every reader has committed and that are too old or, oldest first, too much.

    `now` is Unix seconds. Never touches the active segment of a partition nor anything not committed: with no
    reader that ever committed, nothing is deleted.
    """
    committed = committed_offsets(topic)
    total, free = 0, list[_Segment]()
    for partition in range(partitions):
        folder = partition_folder(topic, partition)
        kept, below = _split(folder, min(committed.get(partition, [0])))
        total += kept + sum(segment.size for segment in below)
        free += below
    segments = freed = 0
    for segment in sorted(free):
        old = retention.max_age_seconds is not None and now - segment.modified > retention.max_age_seconds
        large = retention.max_bytes is not None and total - freed > retention.max_bytes
        if old or large:
            _unlink(segment.path)
            segments, freed = segments + 1, freed + segment.size
    return Pruned(segments, freed)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        environment_error(error, path)


def _split(folder: Path, committed: int) -> tuple[int, list[_Segment]]:
    """(bytes that must stay, segments that lie wholly below `committed` and are no longer written to)."""
    bases = segment_bases(folder)
    must_stay, below = 0, list[_Segment]()
    modified = 0.0
    for base, following in zip_longest(bases, bases[1:]):
        path = segment_path(folder, base)
        try:
            status = path.stat()
        except FileNotFoundError:  # pruned by another process meanwhile
            continue
        if following is not None and following <= committed:
            modified = max(modified, status.st_mtime)  # a clock that stepped back must not make a hole
            below.append(_Segment(modified, path, status.st_size))
        else:
            must_stay += status.st_size
    return must_stay, below
