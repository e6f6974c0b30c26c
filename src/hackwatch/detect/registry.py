"""Versioned bundles per stream, and a pointer to the current one that engines watch."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hackwatch.detect.bundle import Bundle, digest, load_bundle, read_document, save_bundle
from hackwatch.detect.canary import canary
from hackwatch.errors import ConfigurationError, DataError, EnvironmentError_
from hackwatch.streams.base import Stream

__all__ = ["Registry", "Version"]

POINTER = "current.json"
#: Promotions remembered for rollback.
HISTORY = 100

# `Registry.list` hides the builtin from annotations inside the class.
Names = list[str]
Promotions = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Version:
    """One bundle of the registry, as `models list` shows it; `created` ISO 8601 UTC, `problem` if it cannot be used."""

    stream: str
    version: str
    current: bool
    method: str = ""
    created: str = ""
    rows: int = 0
    threshold: float = 0.0
    alert_budget: float = 0.0
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Registry:
    """The folder `models/`: `<stream>/<version>/` bundles and `<stream>/current.json`.

    Bundles appear by rename and never change; the pointer is replaced by rename; both are synced. So a crash leaves the
    old state or the new one. Writers of several processes take turns on a lock file; readers need none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[str, tuple[tuple[int, int, int], str | None]] = {}

    def current(self, stream: str) -> str | None:
        """The version that is to be used, None if none was ever promoted; one stat call when nothing changed."""
        path = self.folder / stream / POINTER
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        known = self._seen.get(stream)
        if known is None or known[0] != stamp:
            history = self._history(stream)
            known = (stamp, history[-1]["version"] if history else None)
            self._seen[stream] = known
        return known[1]

    def load(self, stream: str, version: str | None = None, *, threads: int = 1) -> Bundle:
        """The given or the current version, verified; DataError if it is damaged or there is none."""
        version = version or self.current(stream)
        if version is None:
            raise DataError(
                f"no model for stream {stream!r}",
                where=str(self.folder),
                next_step=f"hackwatch train --as {stream} FILE, or hackwatch learn",
            )
        return load_bundle(self._place(stream, version), threads=threads, version=version)

    def add(self, bundle: Bundle, stream: Stream, *, promote: bool = True) -> str:
        """Keep a bundle that passes the canary, as the next version; the version's name."""
        canary(bundle, stream)
        home = self.folder / stream.name
        _private(self.folder)
        _private(home)
        draft = home / f".draft-{uuid.uuid4().hex}"
        try:
            save_bundle(bundle, draft)
            with self._lock(stream.name):
                numbers = [int(name.split("-")[-2]) for name in self._names(stream.name)]
                version = f"{stream.name}-{max(numbers, default=0) + 1:06d}-{digest(read_document(draft))[:4]}"
                draft.rename(home / version)
                _sync(home)
                if promote:
                    self._point(stream.name, version, "promoted when added")
        except OSError as error:
            raise EnvironmentError_(
                f"cannot keep the model: {error.strerror}",
                where=str(home),
                next_step="free space or correct permissions",
            ) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return version

    def list(self, stream: str | None = None) -> tuple[Version, ...]:
        """All versions, by stream and age; damaged ones with their problem."""
        found = []
        for name in [stream] if stream else self.streams():
            current = self.current(name)
            for version in self._names(name):
                try:
                    about = read_document(self._place(name, version))
                    facts = {key: about[key] for key in ("method", "created", "rows", "threshold", "alert_budget")}
                    found.append(Version(name, version, version == current, **facts))
                except DataError as error:
                    found.append(Version(name, version, version == current, problem=error.what))
        return tuple(found)

    def streams(self) -> Names:
        """Streams that have a folder here."""
        if not self.folder.is_dir():
            return []
        return sorted(entry.name for entry in self.folder.iterdir() if entry.is_dir())

    def show(self, stream: str, version: str | None = None) -> dict[str, Any]:
        """The document of a bundle, without vocabularies, with `version`, `current` and the promotions."""
        version = version or self.current(stream) or ""
        document = read_document(self._place(stream, version))
        document["encoder"] = [f"{feature['kind']} {feature['column']}" for feature in document["encoder"]]
        document.pop("statistics")
        return {
            "version": version,
            "current": version == self.current(stream),
            **document,
            "promotions": self._history(stream),
        }

    def promote(self, version: str, stream: Stream) -> None:
        """Make a kept version the current one, after it was verified and passed the canary."""
        canary(self.load(stream.name, version), stream)
        with self._lock(stream.name):
            self._point(stream.name, version, "promoted")

    def rollback(self, stream: Stream) -> str:
        """Go back to the version that was current before; its name. ConfigurationError if there is none."""
        with self._lock(stream.name):
            history = self._history(stream.name)
            earlier = [entry for entry in history if entry["version"] != history[-1]["version"]]
            while earlier and not self._usable(stream, earlier[-1]["version"]):
                earlier.pop()
            if not earlier:
                raise ConfigurationError(
                    f"stream {stream.name!r} has no earlier usable version",
                    where=str(self.folder / stream.name),
                    next_step="hackwatch models list, then hackwatch models promote VERSION",
                )
            self._write_history(stream.name, earlier)
        return str(earlier[-1]["version"])

    def import_(self, folder: Path, stream: Stream, *, promote: bool = False) -> str:
        """Take in a bundle from elsewhere: hashes verified, schema and canary checked; the version it got here."""
        return self.add(load_bundle(folder), stream, promote=promote)

    def _usable(self, stream: Stream, version: str) -> bool:
        try:
            canary(self.load(stream.name, version), stream)
        except (ConfigurationError, DataError):
            return False
        return True

    def _names(self, stream: str) -> Names:
        home = self.folder / stream
        if not home.is_dir():
            return []
        return sorted(entry.name for entry in home.iterdir() if entry.is_dir() and _is_version(entry.name, stream))

    def _place(self, stream: str, version: str) -> Path:
        if not _is_version(version, stream) or not (self.folder / stream / version).is_dir():
            raise ConfigurationError(
                f"stream {stream!r} has no model version {version!r}",
                where=str(self.folder),
                next_step="hackwatch models list",
            )
        return self.folder / stream / version

    def _history(self, stream: str) -> Promotions:
        path = self.folder / stream / POINTER
        try:
            document = json.loads(path.read_bytes())
            return [{"version": str(entry["version"]), **entry} for entry in document["promotions"]]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                "the pointer to the current model is damaged",
                where=str(path),
                next_step="remove the file, then hackwatch models promote VERSION",
            ) from error

    def _point(self, stream: str, version: str, why: str) -> None:
        entry = {"version": version, "at": datetime.now(UTC).isoformat(timespec="seconds"), "why": why}
        self._write_history(stream, [*self._history(stream), entry][-HISTORY:])

    def _write_history(self, stream: str, history: Promotions) -> None:
        path = self.folder / stream / POINTER
        draft = path.with_name(f".{POINTER}-{uuid.uuid4().hex}")
        try:
            with draft.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(json.dumps({"promotions": history}, indent=1).encode())
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
            raise ConfigurationError(
                f"no model for stream {stream!r}",
                where=str(self.folder),
                next_step=f"hackwatch train --as {stream} FILE",
            )
        descriptor = os.open(home / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _is_version(name: str, stream: str) -> bool:
    head, _, tail = name.rpartition("-")
    prefix, _, number = head.rpartition("-")
    return prefix == stream and number.isdigit() and len(number) >= 6 and tail.isalnum()


def _private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
