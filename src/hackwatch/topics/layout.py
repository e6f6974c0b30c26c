"""The folder of a spool topic: made once, by whoever comes first, with a fixed number of partitions."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

from hackwatch.errors import ConfigurationError, DataError
from hackwatch.topics.segments import environment_error, partition_folder

__all__ = ["create_topic", "partition_count"]

_FORMAT = 1


def partition_count(folder: Path) -> int:
    """How many partitions the topic in this folder has; 0 if there is no topic (yet)."""
    path = folder / "topic.json"
    try:
        description = json.loads(path.read_bytes())
        count = int(description["partitions"])
        if description["format"] != _FORMAT or count < 1:
            raise ValueError(description)
    except FileNotFoundError:
        return 0
    except OSError as error:
        environment_error(error, path)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "this does not describe a topic that this version can read",
            where=str(path),
            next_step="name another folder, or update hackwatch",
        ) from error
    return count


def create_topic(folder: Path, partitions: int) -> int:
    """Make the topic unless it exists; its number of partitions, which is that of the first who came."""
    if partitions < 1:
        raise ConfigurationError("a topic needs at least one partition", where=str(folder))
    existing = partition_count(folder)
    if existing:
        return existing
    try:
        _make(folder, partitions)
    except OSError as error:
        environment_error(error, folder)
    return partition_count(folder)


def _make(folder: Path, partitions: int) -> None:
    _private_folders(folder)
    for partition in range(partitions):
        partition_folder(folder, partition).mkdir(mode=0o700, exist_ok=True)
    handle, fresh = tempfile.mkstemp(dir=folder, prefix=".topic")  # 0600
    try:
        os.write(handle, json.dumps({"format": _FORMAT, "partitions": partitions}).encode())
        os.fsync(handle)
        with contextlib.suppress(FileExistsError):  # another writer was first: its number counts
            os.link(fresh, folder / "topic.json")
    finally:
        os.close(handle)
        os.unlink(fresh)


def _private_folders(folder: Path) -> None:
    """Make the folder and its missing parents, each for the owner alone (mkdir's own parents are not)."""
    for part in [*reversed(folder.parents), folder]:
        if not part.exists():
            part.mkdir(mode=0o700, exist_ok=True)
