"""The files of one spool partition: segments, and the tail that says how far they are whole.

    p00000/00000000000000000000.ndjson   a segment, named by the position of its first byte
    p00000/00000000000067108864.ndjson   the next one starts where it ends: positions have no gaps
    p00000/tail                          position of the active segment and of the end of the last whole append

The tail is also what writers lock. It is published after the data, so a reader never sees part of an append and
an append that failed can be cut off again. It can always be made again from the segments (`recover`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from hackwatch.errors import ResourceError

__all__ = [
    "Tail",
    "environment_error",
    "locked",
    "open_private",
    "partition_folder",
    "recover",
    "segment_bases",
    "segment_path",
    "sync_folder",
]

_SEGMENT = re.compile(r"(\d{20})\.ndjson")
_TAIL = struct.Struct("<QQQ")
#: Mixed into the check word, so that a tail of zeros (a crash of the machine) is not taken for a valid one.
_SALT = 0x9E3779B97F4A7C15


def partition_folder(topic: Path, partition: int) -> Path:
    return topic / f"p{partition:05d}"


def segment_path(folder: Path, base: int) -> Path:
    return folder / f"{base:020d}.ndjson"


def segment_bases(folder: Path) -> list[int]:
    """Positions at which the segments of a partition start, ascending."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        environment_error(error, folder)
    return sorted(int(match[1]) for name in names if (match := _SEGMENT.fullmatch(name)))


def environment_error(error: OSError, path: Path) -> NoReturn:
    """Say which file of the spool the machine refused, and what helps."""
    advice = {
        "ENOSPC": "free some space on this disk, then start again; nothing that was acknowledged is lost",
        "EACCES": "let the user that runs hackwatch read and write this file",
        "EIO": "check the disk (dmesg, smartctl) and restore the file from a copy",
    }
    name = _error_name(error)
    raise ResourceError(
        f"cannot use a file of the spool: {error.strerror or error}",
        where=str(path),
        next_step=advice.get(name, "check the file, its folder and its disk"),
    ) from error


def _error_name(error: OSError) -> str:
    groups = {errno.EDQUOT: "ENOSPC", errno.EFBIG: "ENOSPC", errno.EPERM: "EACCES", errno.EROFS: "EACCES"}
    number = error.errno or 0
    return groups.get(number) or errno.errorcode.get(number, "")


def open_private(path: Path, flags: int) -> int:
    """Open (and with O_CREAT create) a file that only its owner can read; never follows a symbolic link."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Tail:
    """The tail file of a partition: active segment and end, in one small read or write."""

    def __init__(self, folder: Path, *, create: bool, writable: bool = True) -> None:
        self.path = folder / "tail"
        access = os.O_RDWR if writable else os.O_RDONLY
        self.handle = open_private(self.path, access | (os.O_CREAT if create else 0))

    def read(self) -> tuple[int, int] | None:
        """(base of the active segment, end of the last whole append), or None if it was never or half written."""
        for _attempt in range(3):  # a read may overlap a write: then the check word does not fit
            raw = os.pread(self.handle, _TAIL.size, 0)
            if len(raw) == _TAIL.size:
                base, end, check = _TAIL.unpack(raw)
                if base ^ end ^ _SALT == check:
                    return base, end
        return None

    def publish(self, base: int, end: int) -> None:
        os.pwrite(self.handle, _TAIL.pack(base, end, base ^ end ^ _SALT), 0)

    def close(self) -> None:
        os.close(self.handle)


@contextlib.contextmanager
def locked(handle: int, *, wait: bool = True) -> Iterator[bool]:
    """Hold the partition's lock; without `wait` gives False at once when another process holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


def recover(folder: Path, tail: Tail, committed: int) -> tuple[int, int]:
    """Find the true end from the segments, under the lock, and publish it: (active base, end).

    A torn last line (its writer died) gets its newline: the decoder rejects it, nothing is glued to it. When the
    machine lost data that was already processed (no fsync before a power cut), the end is moved up to `committed`
    by one line of zeros, so that no new message gets a position that a reader has passed.
    """
    bases = segment_bases(folder)
    base = bases[-1] if bases else committed
    handle = open_private(segment_path(folder, base), os.O_RDWR | os.O_CREAT)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            size += os.pwrite(handle, b"\n", size)
        if base + size < committed:
            os.pwrite(handle, b"\n", committed - base - 1)
            size = committed - base
    finally:
        os.close(handle)
    tail.publish(base, base + size)
    return base, base + size
