"""Where a table lives: a folder or a place in a bucket. What the log and its files need of either, and no more."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from hackwatch.errors import DataError, HackwatchError
from hackwatch.lake import files
from hackwatch.objects import Bucket, explained

__all__ = ["BucketHome", "FolderHome", "Storage", "storage_at", "unreadable"]

LOG = "_delta_log"
#: Of delta-rs: whoever waits for a server that is away shall say so.
_RETRIES = {"max_retries": "2"}
#: What delta-rs says when it was the server that failed, and not the table.
_OF_SERVER = re.compile("Generic S3 error|HTTP error|error sending request|status code")
#: The same for Polars, which takes over delta-rs' options but wants a number.
_POLARS: Any = {"max_retries": 2}


class Storage(Protocol):
    """One table's files, by keys: paths below the table with slashes. Can be sent to other processes.

    A file is written whole and durable, or not at all, and is visible to everybody once it is written.
    """

    @property
    def name(self) -> str:
        """The table."""
        ...

    @property
    def where(self) -> str:
        """The place, for messages and for libraries."""
        ...

    @property
    def settled(self) -> bool:
        """Whether a write that failed cannot happen any more: a request may be on its way when its sender gives up."""
        ...

    def explained(self) -> AbstractContextManager[None]:
        """Errors of the place as ResourceError with advice."""
        ...

    def has_log(self) -> bool: ...
    def exists(self, key: str) -> bool: ...
    def read(self, key: str) -> bytes | None: ...
    def write(self, key: str, data: bytes | memoryview) -> None: ...

    def create(self, key: str, data: bytes) -> bool:
        """Write a file that only one writer may write; False if another was faster."""
        ...

    def writing(self, key: str) -> AbstractContextManager[IO[bytes]]:
        """A new file to write piece by piece; it is there when the block has ended well, else nothing is."""
        ...

    def reading(self, key: str) -> Any:
        """A file for pyarrow to read parts of."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files; those that are gone are no error."""
        ...

    def table(self) -> DeltaTable:
        """The table as delta-rs sees it now. DataError if there is none or it cannot be read."""
        ...

    def scan(self) -> pl.LazyFrame:
        """The table as a lazy frame."""
        ...

    def filesystem(self) -> Any:
        """The files as an Arrow file system whose paths are `path(key)`."""
        ...

    def path(self, key: str) -> str: ...

    def settle_checkpoint(self, version: int) -> None:
        """Make durable what delta-rs wrote beside the log."""
        ...

    def alone(self) -> AbstractContextManager[bool]:
        """Whether no other process maintains this table; held while the block runs."""
        ...


class FolderHome:
    """A folder of this machine, or one that several machines share."""

    settled = True

    def __init__(self, folder: Path) -> None:
        self.folder, self.name, self.where = folder, folder.name, str(folder)

    def explained(self) -> AbstractContextManager[None]:
        return files.explained(self.folder)

    def has_log(self) -> bool:
        # The folder is there a moment before the first commit.
        return next((self.folder / LOG).glob("*.json"), None) is not None

    def exists(self, key: str) -> bool:
        return (self.folder / key).exists()

    def read(self, key: str) -> bytes | None:
        try:
            return (self.folder / key).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, key: str, data: bytes | memoryview) -> None:
        target = self._target(key)
        files.write_file(target, data)
        files.sync_folder(target.parent)

    def create(self, key: str, data: bytes) -> bool:
        return files.put_if_absent(self._target(key), data)

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        target = self._target(key)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                yield file
                os.fsync(descriptor)
            files.sync_folder(target.parent)
        except BaseException:
            with suppress(OSError):
                target.unlink()
            raise

    def reading(self, key: str) -> Any:
        return self.folder / key

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with suppress(FileNotFoundError):
                (self.folder / key).unlink()

    def table(self) -> DeltaTable:
        with _table_errors(self.where):
            return DeltaTable(self.folder)

    def scan(self) -> pl.LazyFrame:
        return pl.scan_delta(self.table())

    def filesystem(self) -> Any:
        import pyarrow.fs  # type: ignore[import-untyped]  # it ships no types

        return pyarrow.fs.LocalFileSystem()

    def path(self, key: str) -> str:
        return str(self.folder / key)

    def settle_checkpoint(self, version: int) -> None:
        # delta-rs does not: without it a power failure could tear the checkpoint that replaces the entries.
        log = self.folder / LOG
        for path in [*log.glob(f"{version:020d}.checkpoint*"), log / "_last_checkpoint"]:
            files.sync_file(path)
        files.sync_folder(log)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        descriptor = os.open(self.folder / "_maintenance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(descriptor)

    def _target(self, key: str) -> Path:
        target = self.folder / key
        files.make_folder(target.parent)
        return target


class BucketHome:
    """A place in a bucket; several machines may write at once, for the server refuses a second entry of one version."""

    settled = False

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self.where, self.name = url, url.rsplit("/", 1)[-1]
        self._options = dict(options)

    def __getstate__(self) -> tuple[str, dict[str, str]]:
        return self.where, self._options

    def __setstate__(self, state: tuple[str, dict[str, str]]) -> None:
        self.__init__(*state)  # type: ignore[misc]  # made again: a connection cannot be sent

    @cached_property
    def bucket(self) -> Bucket:
        return Bucket(self.where, self._options)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """The bucket's own errors are; these are of delta-rs, of Arrow, and of files on their way to the bucket."""
        try:
            yield
        except (OSError, DeltaError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                with files.explained(Path(tempfile.gettempdir())):
                    raise
            self.bucket.check()
            raise explained(error, self.where) from error

    def has_log(self) -> bool:
        return self.bucket.holds(LOG, ".json")

    def exists(self, key: str) -> bool:
        return self.bucket.tag(key) is not None

    def read(self, key: str) -> bytes | None:
        return self.bucket.read(key)

    def write(self, key: str, data: bytes | memoryview) -> None:
        self.bucket.write(key, data)

    def create(self, key: str, data: bytes) -> bool:
        return self.bucket.create(key, data)

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        with tempfile.NamedTemporaryFile(prefix="hackwatch-lake-") as file:
            yield file
            file.flush()
            self.bucket.write(key, Path(file.name))

    def reading(self, key: str) -> Any:
        return self.filesystem().open_input_file(self.path(key))

    def delete(self, keys: Iterable[str]) -> None:
        self.bucket.delete(keys)

    def table(self) -> DeltaTable:
        try:
            with _table_errors(self.where):
                return DeltaTable(self.where, storage_options={**self._options, **_RETRIES})
        except (HackwatchError, OSError) as error:
            # delta-rs says the same of a broken table and of a server that is away: the server itself knows.
            self.bucket.check()
            if isinstance(error, OSError) or _OF_SERVER.search(str(error)):  # and it is back already
                raise explained(error, self.where) from error
            raise

    def scan(self) -> pl.LazyFrame:
        return pl.scan_delta(self.table(), storage_options=_POLARS)

    def filesystem(self) -> Any:
        import pyarrow.fs
        from deltalake.fs import DeltaStorageHandler

        return pyarrow.fs.PyFileSystem(DeltaStorageHandler(self.where, self._options))

    def path(self, key: str) -> str:
        return key

    def settle_checkpoint(self, version: int) -> None:
        """A bucket keeps what it has taken."""

    def alone(self) -> AbstractContextManager[bool]:
        # No lock outlives a machine that is switched off. Two at once lose time and no rows: of two compactions of
        # the same files one is given up when it commits.
        return nullcontext(True)


def storage_at(place: Storage | Path | str, options: Mapping[str, str] | None = None) -> Storage:
    """The storage of a table in a folder or under `s3://`; a storage stays as it is."""
    if isinstance(place, Path):
        return FolderHome(place)
    if not isinstance(place, str):
        return place
    return BucketHome(place, options or {}) if place.startswith("s3://") else FolderHome(Path(place))


def unreadable(where: str, error: Exception) -> DataError:
    """A table whose log is damaged."""
    return DataError(
        f"the log of the table cannot be read: {error}",
        where=where,
        next_step="restore the table from a backup, or move it away to begin a new one",
    )


@contextmanager
def _table_errors(where: str) -> Iterator[None]:
    try:
        yield
    except TableNotFoundError as error:
        raise DataError(
            "there is no such table in the lake", where=where, next_step="hackwatch lake statistics"
        ) from error
    except DeltaError as error:
        raise unreadable(where, error) from error
