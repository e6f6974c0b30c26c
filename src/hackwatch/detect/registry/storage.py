"""Where a registry keeps its bundles: a folder. What the registry needs of such a place, and no more."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from hackwatch.detect.bundle import Bundle, digest, read_document, save_bundle
from hackwatch.detect.panel import CHAMPION
from hackwatch.errors import ConfigurationError, DataError, ResourceError

__all__ = [
    "BundleStorage",
    "FolderStorage",
    "Promotions",
    "is_version",
    "next_version",
    "pointer",
    "promotions",
    "role_of",
]

_POINTER = re.compile(r"current(?:-([a-z_]+))?\.json")

#: What was promoted, oldest first: `version`, `at` (ISO 8601 UTC), `why`. The last one is current.
Promotions = list[dict[str, Any]]
Change = Callable[[Promotions], Promotions]


class BundleStorage(Protocol):
    """`<stream>/<version>/` bundles that never change, and in `<stream>/` a pointer a role: `current.json` of the
    champion, `current-<role>.json` of the others; writers do not lose each other's."""

    @property
    def folder(self) -> Path:
        """A folder of this machine for what belongs to the registry."""
        ...

    @property
    def where(self) -> str: ...

    def streams(self) -> list[str]: ...
    def names(self, stream: str) -> list[str]:
        """The versions of a stream, oldest first."""
        ...

    def place(self, stream: str, version: str) -> Path:
        """The folder that holds the files of a version. ConfigurationError if there is no such version."""
        ...

    def renew(self, stream: str, version: str) -> bool:
        """Whether `place` may give better files than it did: those it gave were a copy."""
        ...

    def document(self, stream: str, version: str) -> dict[str, Any]:
        """The document of a version, verified."""
        ...

    def keep(self, bundle: Bundle) -> str:
        """Keep a bundle as the next version; its name."""
        ...

    def roles(self, stream: str) -> list[str]:
        """The roles in which a version of the stream was ever promoted, sorted."""
        ...

    def stamp(self, stream: str, role: str) -> object:
        """What differs once the promotions have changed, None if there are none; cheap."""
        ...

    def promotions(self, stream: str, role: str) -> Promotions: ...
    def remembered(self, stream: str, role: str) -> Promotions:
        """The promotions as this machine last saw them."""
        ...

    def change(self, stream: str, role: str, change: Change) -> Promotions:
        """Replace the promotions by what `change` makes of them; it may be asked again. What they are now."""
        ...


class FolderStorage:
    """A folder of this machine, or one that several machines share.

    Bundles appear by rename and never change; the pointer is replaced by rename; both are synced. So a crash leaves the
    old state or the new one. Writers of several processes take turns on a lock file; readers need none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.where = folder, str(folder)

    def streams(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(entry.name for entry in self.folder.iterdir() if entry.is_dir())

    def names(self, stream: str) -> list[str]:
        home = self.folder / stream
        if not home.is_dir():
            return []
        return sorted(entry.name for entry in home.iterdir() if entry.is_dir() and is_version(entry.name, stream))

    def place(self, stream: str, version: str) -> Path:
        found = self.folder / stream / version
        if not is_version(version, stream) or not found.is_dir():
            raise unknown_version(self.where, stream, version)
        return found

    def renew(self, stream: str, version: str) -> bool:
        return False

    def document(self, stream: str, version: str) -> dict[str, Any]:
        return read_document(self.place(stream, version))

    def keep(self, bundle: Bundle) -> str:
        home = self.folder / bundle.stream
        for folder in (self.folder, home):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = home / f".draft-{uuid.uuid4().hex}"
        try:
            save_bundle(bundle, draft)
            with self._lock(bundle.stream):
                version = next_version(bundle.stream, self.names(bundle.stream), digest(read_document(draft)))
                draft.rename(home / version)
                _sync(home)
        except OSError as error:
            raise ResourceError(
                f"cannot keep the model: {error.strerror}",
                where=str(home),
                next_step="free space or correct permissions",
            ) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return version

    def roles(self, stream: str) -> list[str]:
        home = self.folder / stream
        found = [role_of(entry.name) for entry in home.iterdir()] if home.is_dir() else []
        return sorted(role for role in found if role is not None)

    def stamp(self, stream: str, role: str) -> object:
        try:
            status = (self.folder / stream / pointer(role)).stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    def promotions(self, stream: str, role: str) -> Promotions:
        path = self.folder / stream / pointer(role)
        try:
            return promotions(path.read_bytes(), str(path))
        except FileNotFoundError:
            return []

    def remembered(self, stream: str, role: str) -> Promotions:
        return self.promotions(stream, role)

    def change(self, stream: str, role: str, change: Change) -> Promotions:
        with self._lock(stream):
            changed = change(self.promotions(stream, role))
            self._write(self.folder / stream / pointer(role), written(changed))
            return changed

    def _write(self, path: Path, data: bytes) -> None:
        draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        try:
            with draft.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        _sync(path.parent)

    @contextlib.contextmanager
    def _lock(self, stream: str) -> Iterator[None]:
        home = self.folder / stream
        if not home.is_dir():
            raise no_model(self.where, stream)
        descriptor = os.open(home / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def pointer(role: str) -> str:
    """The file that holds the promotions in a role.

    >>> pointer("champion"), pointer("content")
    ('current.json', 'current-content.json')
    """
    return "current.json" if role == CHAMPION else f"current-{role}.json"


def role_of(name: str) -> str | None:
    """The role whose promotions a file of this name holds; None if it holds none.

    >>> role_of("current-content.json"), role_of("bundle.json")
    ('content', None)
    """
    found = _POINTER.fullmatch(name)
    return (found[1] or CHAMPION) if found else None


def written(changed: Promotions) -> bytes:
    """The file that holds promotions."""
    return json.dumps({"promotions": changed}, indent=1).encode()


def promotions(data: bytes, where: str) -> Promotions:
    """What `written` wrote; DataError if it is damaged."""
    try:
        return [{"version": str(entry["version"]), **entry} for entry in json.loads(data)["promotions"]]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            "the pointer to the current model is damaged",
            where=where,
            next_step="remove the file, then hackwatch models promote VERSION",
        ) from error


def is_version(name: str, stream: str) -> bool:
    """Whether it is the name of a version: stream, number and the beginning of the digest."""
    head, _, tail = name.rpartition("-")
    prefix, _, number = head.rpartition("-")
    return prefix == stream and number.isdigit() and len(number) >= 6 and tail.isalnum()


def next_version(stream: str, names: list[str], digested: str) -> str:
    """The name of the version after all of these."""
    numbers = [int(name.split("-")[-2]) for name in names]
    return f"{stream}-{max(numbers, default=0) + 1:06d}-{digested[:4]}"


def unknown_version(where: str, stream: str, version: str) -> ConfigurationError:
    return ConfigurationError(
        f"stream {stream!r} has no model version {version!r}", where=where, next_step="hackwatch models list"
    )


def no_model(where: str, stream: str) -> ConfigurationError:
    return ConfigurationError(
        f"no model for stream {stream!r}", where=where, next_step=f"hackwatch train --as {stream} FILE"
    )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
