"""The state of partitions as files beside the checkpoint: `clocks.PARTITION.EPOCH` and `keys.PARTITION.EPOCH`.

A file is written before the commit to the store that names it, and never changed: a crash in between leaves a file that
nobody names. What is no longer named is deleted after the commit, or at the next start.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from hackwatch.errors import DataError
from hackwatch.spark.folder import Folder, LocalFolder

__all__ = ["SentFiles", "StateFiles", "StateFolder", "clocks_name", "keys_name", "read_state", "write_state"]

#: A mark of the format, and a checksum of what follows.
_HEAD = struct.Struct("<4sI")
_MAGIC = b"HWS1"
#: Writes at a time: of many partitions each is small, and a server answers late.
_WRITERS = 8


def clocks_name(partition: int, epoch: int) -> str:
    """The file of clocks that an epoch has written for a partition."""
    return f"clocks.{partition}.{epoch}"


def keys_name(partition: int, epoch: int) -> str:
    """The file with all keys of a partition as of an epoch."""
    return f"keys.{partition}.{epoch}"


class StateFolder(Protocol):
    """Where tasks read files."""

    @property
    def where(self) -> str: ...

    def read(self, name: str) -> bytes | None: ...


class SentFiles:
    """Files of a folder that the workers cannot read, as broadcast variables: each goes to an executor once."""

    def __init__(self, where: str, sent: Mapping[str, Any]) -> None:
        self.where, self._sent = where, sent

    def read(self, name: str) -> bytes | None:
        found = self._sent.get(name)
        return None if found is None else found.value


def write_state(folder: Folder, name: str, content: bytes) -> bytes:
    """Write a file so that its content can be checked; what was written. Raises ResourceError."""
    whole = _HEAD.pack(_MAGIC, zlib.crc32(content)) + content
    folder.write(name, whole)
    return whole


def read_state(folder: StateFolder, name: str) -> bytes:
    """A file's content. Raises DataError (lost, damaged), ResourceError (disk)."""
    whole = folder.read(name)
    if whole is None:
        raise _error(f"the checkpoint folder has lost the file {name}", folder, name)
    if len(whole) < _HEAD.size or _HEAD.unpack_from(whole) != (_MAGIC, zlib.crc32(whole[_HEAD.size :])):
        raise _error(f"the file {name} in the checkpoint folder is damaged", folder, name)
    return whole[_HEAD.size :]


def _error(what: str, folder: StateFolder, name: str) -> DataError:
    return DataError(
        what,
        where=f"{folder.where}/{name}",
        next_step="put back the checkpoint folder that belongs to the store (all executors must see it), or give the "
        "settings another `pipeline` name: topics are then read from their start",
    )


class StateFiles:
    """The driver's side of a folder of state files.

    `send`: makes a broadcast variable; used for a folder that is not of this file system, since the Python of an
    executor has no client of HDFS or S3A.
    """

    def __init__(self, folder: Folder, send: Callable[[bytes], Any]) -> None:
        self._folder, self._send = folder, send
        self._sent: dict[str, Any] = {}

    @property
    def local(self) -> LocalFolder | None:
        """The folder, if tasks can read and write it themselves."""
        return self._folder if isinstance(self._folder, LocalFolder) else None

    def keep(self, names: Iterable[str]) -> None:
        """Delete all but these; for the start."""
        kept = set(names)
        self._folder.delete([name for name in self._folder.names() if name not in kept] + self._folder.unfinished())

    def read(self, name: str) -> bytes:
        """A file's content; from now on tasks can read it too."""
        content = read_state(self._folder, name)
        if self.local is None and name not in self._sent:
            self._sent[name] = self._send(_HEAD.pack(_MAGIC, zlib.crc32(content)) + content)
        return content

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files; the same ones again take their places."""
        with ThreadPoolExecutor(_WRITERS) as pool:
            written = dict(zip(files, pool.map(self._write, files.items()), strict=True))
        if self.local is None:
            self._sent |= {name: self._send(whole) for name, whole in written.items() if name not in self._sent}

    def _write(self, file: tuple[str, bytes]) -> bytes:
        return write_state(self._folder, *file)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files that no commit names any more."""
        names = list(names)
        self._folder.delete(names)
        for name in names:
            if (sent := self._sent.pop(name, None)) is not None:
                sent.destroy()

    def for_tasks(self) -> StateFolder:
        """What tasks read with."""
        return self.local or SentFiles(self._folder.where, dict(self._sent))
