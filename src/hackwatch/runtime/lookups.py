"""The tables that enrichers look things up in: read again when their files change, kept as micro-batches used them."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hackwatch.errors import DataError, HackwatchError, ResourceError

__all__ = ["LookupTable", "LookupTables", "read_table"]

_LOG = logging.getLogger(__name__)
_ADVICE = "give a CSV with a header (.csv, .tsv) or a Parquet file (.parquet); replace it by renaming a new one"
#: A table and its version.
Copy = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class LookupTable:
    """A table. `version`: the beginning of the SHA-256 of its file."""

    version: str
    frame: pl.DataFrame


def read_table(path: Path, data: bytes | None = None) -> LookupTable:
    """The table in a CSV (its first line names the columns) or Parquet file. `data`: its content, if that is known.

    Raises ResourceError if it cannot be read, DataError if it is no such file.
    """
    try:
        data = path.read_bytes() if data is None else data
    except OSError as error:
        raise ResourceError(
            f"cannot read the table: {error.strerror}", where=str(path), next_step="put it there, or correct the path"
        ) from error
    try:
        return LookupTable(hashlib.sha256(data).hexdigest()[:16], _frame(path.suffix, data))
    except (pl.exceptions.PolarsError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"not a table: {reason}", where=str(path), next_step=_ADVICE) from error


def _frame(suffix: str, data: bytes) -> pl.DataFrame:
    if suffix == ".parquet":
        return pl.read_parquet(io.BytesIO(data))
    if suffix not in (".csv", ".tsv"):
        raise ValueError(f"files of the kind {suffix or 'without a suffix'} are not read")
    return pl.read_csv(io.BytesIO(data), separator="\t" if suffix == ".tsv" else ",", infer_schema_length=None)


class LookupTables:
    """The tables of the settings (`paths`), with copies in `folder` so that a replay finds the versions it needs.

    A copy is durable before its version is used. It stays until the first epoch is committed in which another version
    was used: then no micro-batch that may be repeated names it. A file that cannot be used leaves the old table in
    place. `report(name, error)` hears why, once a file.
    """

    def __init__(
        self, paths: Mapping[str, Path], folder: Path, report: Callable[[str, HackwatchError | OSError], None]
    ) -> None:
        self._paths, self._folder, self._report = dict(paths), folder, report
        self._current: dict[str, LookupTable] = {}
        self._stamps: dict[str, object] = {}
        self._loaded: dict[Copy, LookupTable] = {}
        self._committed = 0
        #: Copies that are not current: the first epoch with another version, None while there is none.
        self._retired: dict[Copy, int | None] = dict.fromkeys(self._copies())

    def current(self) -> dict[str, LookupTable]:
        return dict(self._current)

    def refresh(self) -> bool:
        """Look at the files; whether a table is another one now."""
        changed = [self._refresh(name, path) for name, path in self._paths.items()]
        self._prune()
        return any(changed)

    def exactly(self, versions: Mapping[str, str]) -> dict[str, LookupTable]:
        """The tables of a logged micro-batch, by their versions; the current one where a copy is gone."""
        found = {name: self._version(name, version) for name, version in versions.items()}
        return {name: table for name, table in found.items() if table is not None}

    def used(self, versions: Mapping[str, str], epoch: int) -> None:
        """A micro-batch of that epoch is being logged with these versions, after all that were read before it."""
        self._loaded.clear()
        for (name, version), first in self._retired.items():
            if first is None and versions.get(name) != version:
                self._retired[name, version] = epoch

    def committed(self, epoch: int) -> None:
        """All up to that epoch is committed. May be called from another thread."""
        self._committed = epoch

    def _refresh(self, name: str, path: Path) -> bool:
        try:
            stamp = _stamp(path)
            if stamp == self._stamps.get(name):
                return False
            self._stamps[name] = stamp
            data = path.read_bytes()
            table = read_table(path, data)
            if _stamp(path) != stamp:  # it was being written
                del self._stamps[name]
                return False
            return self._swap(name, path, data, table)
        except (HackwatchError, OSError) as error:
            if self._stamps.get(name) != str(error):
                self._report(name, error)
            if isinstance(error, OSError):  # gone, or the copy was not written: look again
                self._stamps[name] = str(error)
            return False

    def _swap(self, name: str, path: Path, data: bytes, table: LookupTable) -> bool:
        old = self._current.get(name)
        if old is not None and old.version == table.version:
            return False
        self._keep(name, table.version, path.suffix, data)
        if old is not None:
            self._retired[name, old.version] = None
        self._retired.pop((name, table.version), None)
        self._current[name] = table
        _LOG.info("table read", extra={"table": name, "version": table.version, "rows": len(table.frame)})
        return True

    def _version(self, name: str, version: str) -> LookupTable | None:
        current = self._current.get(name)
        if current is not None and current.version == version:
            return current
        if (name, version) not in self._loaded:
            kept = next(self._folder.glob(f"{name}/{version}.*"), None)
            if kept is None:
                return current
            self._loaded[name, version] = read_table(kept)
        return self._loaded[name, version]

    def _copies(self) -> list[Copy]:
        return [(path.parent.name, path.stem) for path in self._folder.glob("*/*.*") if not path.name.startswith(".")]

    def _keep(self, name: str, version: str, suffix: str, data: bytes) -> None:
        home = self._folder / name
        kept = home / f"{version}{suffix}"
        if kept.exists():
            return
        for folder in (self._folder.parent, self._folder, home):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = home / f".{kept.name}"
        with draft.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(kept)
        descriptor = os.open(home, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _prune(self) -> None:
        """Delete the copies that no replay will ask for."""
        done = [copy for copy, first in self._retired.items() if first is not None and first <= self._committed]
        for name, version in done:
            del self._retired[name, version]
            for path in self._folder.glob(f"{name}/{version}.*"):
                with suppress(OSError):
                    path.unlink()


def _stamp(path: Path) -> object:
    status = path.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size
