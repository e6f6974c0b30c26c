"""The data folder: made private, and refused if others could read it."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from hackwatch.errors import ResourceError

__all__ = ["advice", "prepare_data_folder"]


def prepare_data_folder(folder: Path) -> Path:
    """Create a data folder for its owner alone (mode 0700), or check that an existing one is.

    An empty folder is made private. One with content that others may enter is refused rather than changed: it may be
    shared on purpose, and what lies in it already may have been read. Raises ResourceError.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if os.geteuid() not in (status.st_uid, 0):
            raise ResourceError(
                "the data folder belongs to another user",
                where=str(folder),
                next_step="choose one with --data",
            )
        if stat.S_IMODE(status.st_mode) & 0o077:
            if any(folder.iterdir()):
                raise ResourceError(
                    "other users may enter the data folder, which holds what runs on this machine",
                    where=str(folder),
                    next_step=advice(folder, "chmod 700"),
                )
            folder.chmod(0o700)
    except OSError as error:
        raise ResourceError(
            f"cannot use the data folder: {error.strerror}",
            where=str(folder),
            next_step="choose another with --data",
        ) from error
    return folder


def advice(folder: Path, command: str) -> str:
    """`command` for a folder of hackwatch's; any other, /tmp above all, must stay as it is."""
    if any((folder / name).exists() for name in ("engine.lock", "lake", "models", "spool", "store.sqlite")):
        return f"{command} {shlex.quote(str(folder))}"
    return f"give hackwatch a folder of its own: --data {shlex.quote(str(folder / 'hackwatch'))}"
