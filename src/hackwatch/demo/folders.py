"""Where the demo keeps its detectors and its data, apart from everything else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hackwatch.config import prepare_data_folder
from hackwatch.errors import ConfigurationError
from hackwatch.runtime.lock import EngineLock

__all__ = ["cache_folder", "data_folder"]

_LOCK = "engine.lock"


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/hackwatch/demo`, or `~/.cache/hackwatch/demo`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hackwatch" / "demo"


def data_folder(given: Path | None) -> Path:
    """An empty private folder for the data: the given one, or that of the last demo, emptied.

    ConfigurationError if the given one is not empty; ResourceError if another demo is at work in the usual one.
    """
    if given is not None:
        if given.exists() and any(given.iterdir()):
            raise ConfigurationError(
                "the demo wants an empty data folder", where=str(given), next_step="name a new one, or leave out --data"
            )
        return prepare_data_folder(given)
    prepare_data_folder(cache_folder())
    folder = prepare_data_folder(cache_folder() / "data")
    with EngineLock(folder / _LOCK):
        for entry in folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != _LOCK:
                entry.unlink()
    return folder
