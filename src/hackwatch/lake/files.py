"""Writing files so that they survive a power failure, are private, and leave nothing behind when they fail."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hackwatch.errors import ResourceError

__all__ = ["explained", "make_folder", "put_if_absent", "sync_file", "sync_folder", "write_file"]


@contextmanager
def explained(where: Path) -> Iterator[None]:
    """Errors of the file system as ResourceError with advice."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise ResourceError(
            f"the lake cannot be written: {error.strerror or error}",
            where=str(error.filename or where),
            next_step="free space on this disk; nothing was half written"
            if full
            else "check that the folder is yours, writable and on a working disk",
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, private to the owner and durable; existing ones stay as they are."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Make what another library wrote durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes | memoryview) -> None:
    """Write a new private file; durable, but for its name (`sync_folder`). Nothing is left when it fails."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def put_if_absent(path: Path, data: bytes) -> bool:
    """Create a file whole and durable, or not at all; False if it is there already."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    write_file(draft, data)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        with suppress(OSError):
            draft.unlink()
    sync_folder(path.parent)
    return True
