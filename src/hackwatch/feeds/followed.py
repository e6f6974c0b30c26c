"""A growing file and the place up to which it was read, through rotation, truncation, deletion and restarts."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hackwatch.errors import DataError, ResourceError

__all__ = ["OpenFile", "Position", "find_position", "load_position", "save_position"]

_FINGERPRINT_BYTES = 256
_LINE_SEARCH_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file that survives its renaming: which file (device, inode), how far, and what stood just before."""

    device: int
    inode: int
    offset: int
    fingerprint: int


def load_position(path: Path) -> Position | None:
    """The position that an earlier run saved; None if there is none. DataError if it is no position."""
    try:
        return Position(**{name: int(value) for name, value in json.loads(path.read_bytes()).items()})
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResourceError(f"cannot read the saved position: {error.strerror}", where=str(path)) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            "this is not a saved position", where=str(path), next_step="delete it: the file is then read again"
        ) from error


def save_position(path: Path, position: Position) -> None:
    """Replace the saved position in one step."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(asdict(position)).encode())
        os.replace(fresh, path)
    except OSError as error:
        raise ResourceError(f"cannot save the position: {error.strerror}", where=str(path)) from error


class OpenFile:
    """A file held open by what it is, not by its name, and read up to `offset`."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self._handle)
        self.path, self.identity = path, (status.st_dev, status.st_ino)
        self.offset = offset
        self._fingerprint = self._before()

    def size(self) -> int:
        return os.fstat(self._handle).st_size

    def _before(self) -> int:
        """Checksum of the bytes just before the position: another file, or the same one rewritten, differs there."""
        start = max(0, self.offset - _FINGERPRINT_BYTES)
        return zlib.crc32(os.pread(self._handle, self.offset - start, start))

    def position(self) -> Position:
        return Position(*self.identity, self.offset, self._fingerprint)

    def holds(self, position: Position) -> bool:
        """Whether this is the file that `position` is in."""
        if self.identity != (position.device, position.inode) or self.size() < position.offset:
            return False
        self.move(position.offset)
        return self._fingerprint == position.fingerprint

    def rewritten(self) -> bool:
        """Whether what was read is no longer there: the file was truncated (and maybe has grown again)."""
        return self.size() < self.offset or self._before() != self._fingerprint

    def move(self, offset: int) -> None:
        self.offset = offset
        self._fingerprint = self._before()

    def move_to_last_line_end(self) -> None:
        """Go to the end of the last whole line (to the very end if the last line is longer than 64 KiB)."""
        size = self.size()
        start = max(0, size - _LINE_SEARCH_BYTES)
        last = os.pread(self._handle, size - start, start).rfind(b"\n") + 1
        self.move(start + last if last or start == 0 else size)

    def peek(self, size: int) -> bytes:
        """The next bytes, without moving on."""
        return os.pread(self._handle, size, self.offset)

    def head(self, most: int) -> bytes:
        """The beginning of the file."""
        return os.pread(self._handle, most, 0)

    def first_line(self, longest: int) -> bytes | None:
        """The first line with its newline; None while it is incomplete. A longer one is cut."""
        head = self.head(longest)
        end = head.find(b"\n") + 1
        if end == 0 and len(head) < longest:
            return None
        return head[:end] if end else head

    def close(self) -> None:
        os.close(self._handle)


def find_position(path: Path, position: Position) -> OpenFile | None:
    """The file of `position`: under its own name, or renamed in the same folder; None if it is gone."""
    for candidate in _candidates(path, position):
        try:
            file = OpenFile(candidate)
        except OSError:  # vanished or not ours to read: then it is not found
            continue
        if file.holds(position):
            return file
        file.close()
    return None


def _candidates(path: Path, position: Position) -> Iterator[Path]:
    yield path
    try:
        with os.scandir(path.parent) as entries:
            for entry in entries:
                if entry.inode() == position.inode and entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)
    except FileNotFoundError:
        return
