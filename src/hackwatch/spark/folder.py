"""Small files beside Spark's checkpoints: on this machine, or wherever Hadoop writes (hdfs://, s3a://)."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hackwatch.errors import ResourceError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["Folder", "LocalFolder", "open_folder"]

_Found = TypeVar("_Found")
#: What a write has that is not finished: it is its own, since two copies of a task may write the same file.
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


class Folder(Protocol):
    """Files by name. A file is whole or not there. All raise ResourceError (disk, server)."""

    @property
    def where(self) -> str:
        """The folder's address."""
        ...

    def prepare(self) -> None:
        """Make the folder, unless it is there."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file, in the place of one that is there."""
        ...

    def read(self, name: str) -> bytes | None:
        """A file's content, None if it is not there."""
        ...

    def names(self) -> list[str]:
        """The names of all files."""
        ...

    def unfinished(self) -> list[str]:
        """The names of what writes have left that were cut off."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; those that are not there do not matter."""
        ...


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def where(self) -> str:
        return str(self._path)

    def prepare(self) -> None:
        self._explained(lambda: self._path.mkdir(parents=True, exist_ok=True))

    def write(self, name: str, content: bytes) -> None:
        self._explained(lambda: self._write(name, content))

    def _write(self, name: str, content: bytes) -> None:
        unfinished = self._path / _unfinished(name)
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path / name)
        folder = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return self._explained((self._path / name).read_bytes)
        return None

    def names(self) -> list[str]:
        return [name for name in self._all() if not name.startswith(".")]

    def unfinished(self) -> list[str]:
        return [name for name in self._all() if _UNFINISHED.fullmatch(name)]

    def _all(self) -> list[str]:
        return self._explained(lambda: [path.name for path in self._path.iterdir()])

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._explained(lambda name=name: (self._path / name).unlink(missing_ok=True))  # type: ignore[misc]

    def _explained(self, action: Callable[[], _Found]) -> _Found:
        try:
            return action()
        except FileNotFoundError:
            raise  # `read` asks for it
        except OSError as error:
            raise _error(error.strerror or str(error), str(self._path)) from error


class HadoopFolder:
    """A folder of a file system of Hadoop, through the driver's JVM."""

    def __init__(self, jvm: Any, files: Any, path: Any) -> None:
        self._jvm, self._files, self._path = jvm, files, path

    @property
    def where(self) -> str:
        return str(self._path)

    def _of(self, name: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(self._path, name)

    def prepare(self) -> None:
        self._explained(lambda: self._files.mkdirs(self._path))

    def write(self, name: str, content: bytes) -> None:
        self._explained(lambda: self._write(name, content))

    def _write(self, name: str, content: bytes) -> None:
        unfinished, place = self._of(_unfinished(name)), self._of(name)
        stream = self._files.create(unfinished, True)
        try:
            stream.write(bytearray(content))
        finally:
            stream.close()
        self._files.delete(place, False)
        if not self._files.rename(unfinished, place):
            raise _error(f"{name} cannot be renamed", str(self._path))

    def read(self, name: str) -> bytes | None:
        return self._explained(lambda: self._read(name))

    def _read(self, name: str) -> bytes | None:
        place = self._of(name)
        if not self._files.exists(place):
            return None
        stream = self._files.open(place)
        try:
            return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
        finally:
            stream.close()

    def names(self) -> list[str]:
        return [name for name in self._all() if not name.startswith(".")]

    def unfinished(self) -> list[str]:
        return [name for name in self._all() if _UNFINISHED.fullmatch(name)]

    def _all(self) -> list[str]:
        return self._explained(
            lambda: [str(status.getPath().getName()) for status in self._files.listStatus(self._path)]
        )

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._explained(lambda name=name: self._files.delete(self._of(name), False))  # type: ignore[misc]

    def _explained(self, action: Callable[[], _Found]) -> _Found:
        return _explained(action, str(self._path))


def _unfinished(name: str) -> str:
    return f".{name}.{uuid.uuid4().hex}.tmp"


def _error(what: str, where: str) -> ResourceError:
    return ResourceError(
        f"the checkpoint folder cannot be used: {what}",
        where=where,
        next_step=f"see that Spark can write to the checkpoint folder {where}, and that there is space",
    )


def open_folder(spark: SparkSession, address: str) -> Folder:
    """The folder at an address as Spark is told it; made if it does not exist."""
    folder = _explained(lambda: _folder(spark, address), address)
    folder.prepare()
    return folder


def _folder(spark: SparkSession, address: str) -> Folder:
    jvm: Any = spark._jvm
    path = jvm.org.apache.hadoop.fs.Path(address)
    # As Spark itself finds its checkpoints: see `checkpoint`.
    files = path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())
    if files.getUri().getScheme() == "file":
        return LocalFolder(Path(files.makeQualified(path).toUri().getPath()))
    return HadoopFolder(jvm, files, path)


def _explained(action: Callable[[], _Found], where: str) -> _Found:
    try:
        return action()
    except ResourceError:
        raise
    except Exception as error:  # of py4j, which has no other name for it
        raise _error(str(error).strip().splitlines()[0], where) from error
