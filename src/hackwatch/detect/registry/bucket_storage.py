"""A registry's bundles in an S3 bucket, shared by trainers and engines at any number of sites.

The layout is that of a folder, so `aws s3 sync` takes one to the other. Numbers of versions are claimed by an object
that only one can create, so two trainers never make the same version; a bundle's document is written last, so half a
bundle is none; the pointer is replaced only if it is still the one that was read, so no promotion is lost.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hackwatch.detect.bundle import Bundle, read_document, save_bundle
from hackwatch.detect.registry.storage import (
    Change,
    Promotions,
    is_version,
    next_version,
    no_model,
    pointer,
    promotions,
    role_of,
    unknown_version,
    written,
)
from hackwatch.errors import ResourceError
from hackwatch.objects import Bucket

__all__ = ["BucketStorage"]

DOCUMENT = "bundle.json"
_CLAIMS = "claimed"
_ATTEMPTS = 100


class BucketStorage:
    """`s3://BUCKET/PREFIX`; bundles that are used are copied to `cache` (a private folder of this machine).

    Of the promotions of each stream a copy is kept too, for an engine that starts while the server is away.
    """

    def __init__(self, url: str, options: Mapping[str, str], cache: Path) -> None:
        self.where = url.rstrip("/")
        # Another bucket may have a version of the same name.
        self.folder = cache / hashlib.sha256(self.where.encode()).hexdigest()[:12]
        self._bucket = Bucket(self.where, options)

    def streams(self) -> list[str]:
        return self._bucket.folders()

    def names(self, stream: str) -> list[str]:
        return sorted(name for name in self._complete(stream) if is_version(name, stream))

    def _complete(self, stream: str) -> list[str]:
        keys = self._bucket.keys(stream)
        return [key.split("/")[-2] for key in keys if key.endswith(f"/{DOCUMENT}") and key.count("/") == 2]

    def place(self, stream: str, version: str) -> Path:
        if not is_version(version, stream):
            raise unknown_version(self.where, stream, version)
        copy = self.folder / stream / version
        if not copy.is_dir():
            self._fetch(stream, version, copy)
        return copy

    def renew(self, stream: str, version: str) -> bool:
        shutil.rmtree(self.folder / stream / version, ignore_errors=True)
        return True

    def _fetch(self, stream: str, version: str, copy: Path) -> None:
        """Copy a bundle; it appears whole. Whoever loads it verifies it by its hashes."""
        draft = self._draft(stream)
        try:
            for key in self._bucket.keys(f"{stream}/{version}"):
                if (data := self._bucket.read(key)) is not None:
                    _write(draft / key.rsplit("/", 1)[-1], data)
            if not (draft / DOCUMENT).exists():
                raise unknown_version(self.where, stream, version)
            with suppress(FileExistsError):
                draft.rename(copy)
        except OSError as error:
            if not copy.is_dir():  # another process was faster
                raise _no_space(copy, error) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def document(self, stream: str, version: str) -> dict[str, Any]:
        copy = self.folder / stream / version
        if copy.is_dir() or not is_version(version, stream):
            return read_document(self.place(stream, version))
        data = self._bucket.read(f"{stream}/{version}/{DOCUMENT}")
        if data is None:
            raise unknown_version(self.where, stream, version)
        with tempfile.TemporaryDirectory(prefix="hackwatch-model-") as folder:
            (Path(folder) / DOCUMENT).write_bytes(data)
            return read_document(Path(folder))

    def keep(self, bundle: Bundle) -> str:
        draft = self._draft(bundle.stream)
        try:
            shutil.rmtree(draft)
            save_bundle(bundle, draft)
            version = self._claim(bundle.stream, str(read_document(draft)["digest"]))
            files = sorted(draft.iterdir(), key=lambda file: file.name == DOCUMENT)
            for file in files:
                self._bucket.write(f"{bundle.stream}/{version}/{file.name}", file.read_bytes())
        except OSError as error:
            raise _no_space(self.folder, error) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return version

    def _claim(self, stream: str, digested: str) -> str:
        """The name of a version whose number nobody else has or will have."""
        taken = [name for name in (key.split("/")[1] for key in self._bucket.keys(stream)) if is_version(name, stream)]
        taken += [key.rsplit("/", 1)[-1] for key in self._bucket.keys(f"{stream}/{_CLAIMS}")]
        for _ in range(_ATTEMPTS):
            version = next_version(stream, taken, digested)
            number = version.rsplit("-", 1)[0]
            if self._bucket.create(f"{stream}/{_CLAIMS}/{number}-0", uuid.uuid4().bytes):
                return version
            taken.append(version)
        raise _busy(self.where)

    def roles(self, stream: str) -> list[str]:
        names = [key.split("/")[1] for key in self._bucket.keys(stream) if key.count("/") == 1]
        return sorted(role for name in names if (role := role_of(name)) is not None)

    def stamp(self, stream: str, role: str) -> object:
        return self._bucket.tag(f"{stream}/{pointer(role)}")

    def promotions(self, stream: str, role: str) -> Promotions:
        key = f"{stream}/{pointer(role)}"
        data = self._bucket.read(key)
        if data is None:
            return []
        found = promotions(data, f"{self.where}/{key}")
        self._remember(key, data)
        return found

    def remembered(self, stream: str, role: str) -> Promotions:
        """The promotions as they were when last seen from this machine."""
        copy = self.folder / stream / pointer(role)
        try:
            return promotions(copy.read_bytes(), str(copy))
        except FileNotFoundError:
            return []

    def change(self, stream: str, role: str, change: Change) -> Promotions:
        key = f"{stream}/{pointer(role)}"
        for _ in range(_ATTEMPTS):
            found = self._bucket.read_tagged(key)
            if found is None and not self.names(stream):
                raise no_model(self.where, stream)
            changed = change([] if found is None else promotions(found[0], f"{self.where}/{key}"))
            if self._bucket.replace(key, written(changed), None if found is None else found[1]):
                return changed
        raise _busy(self.where)

    def _remember(self, key: str, data: bytes) -> None:
        with suppress(OSError):  # it is only for the next start
            stream, name = key.split("/")
            draft = self._draft(stream)
            _write(draft / name, data)
            (draft / name).replace(self.folder / key)
            draft.rmdir()

    def _draft(self, stream: str) -> Path:
        home = self.folder / stream
        draft = home / f".draft-{uuid.uuid4().hex}"
        try:
            for folder in (self.folder.parent, self.folder, home, draft):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _no_space(home, error) from error
        return draft


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)


def _no_space(where: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"cannot keep a copy of the model: {error.strerror}",
        where=str(where),
        next_step="free space or correct permissions",
    )


def _busy(where: str) -> ResourceError:
    return ResourceError(
        f"others were faster {_ATTEMPTS} times", where=where, next_step="try again; do not promote in a loop"
    )
