"""Versioned bundles per stream, and for each role a pointer to the current one that engines watch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hackwatch.config import Settings
from hackwatch.detect.bundle import Bundle, load_bundle
from hackwatch.detect.panel import CHAMPION
from hackwatch.detect.registry.canary import canary
from hackwatch.detect.registry.storage import BundleStorage, FolderStorage, Promotions
from hackwatch.errors import ConfigurationError, DataError
from hackwatch.objects import is_remote, storage_options
from hackwatch.streams.stream import Stream

__all__ = ["Registry", "Version", "open_registry"]

#: Promotions remembered for rollback.
HISTORY = 100

# `Registry.list` hides the builtin from annotations inside the class.
Names = list[str]


def open_registry(settings: Settings) -> Registry:
    """The registry that the settings name; nothing is asked of its disk or server yet."""
    if not is_remote(settings.models_location):
        return Registry(Path(settings.models_location))
    from hackwatch.detect.registry.bucket_storage import BucketStorage

    options = storage_options(settings.lake.storage)
    return Registry(BucketStorage(settings.models_location, options, settings.models_cache))


@dataclass(frozen=True, slots=True)
class Version:
    """One bundle of the registry, as `models list` shows it.

    `current`: whether it is the champion; `roles`: all roles in which it is current. `created`: ISO 8601 UTC.
    `problem`: why it cannot be used.
    """

    stream: str
    version: str
    current: bool
    method: str = ""
    created: str = ""
    rows: int = 0
    threshold: float = 0.0
    alert_budget: float = 0.0
    problem: str | None = None
    roles: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Registry:
    """Versioned bundles and the promotions of each stream, in the folder `models/` or another storage."""

    def __init__(self, place: Path | BundleStorage) -> None:
        self.storage: BundleStorage = FolderStorage(place) if isinstance(place, Path) else place
        self._seen: dict[tuple[str, str], tuple[object, str | None]] = {}

    @property
    def folder(self) -> Path:
        """A folder of this machine for what belongs to the registry."""
        return self.storage.folder

    def current(self, stream: str, role: str = CHAMPION) -> str | None:
        """The version to use in a role, None if none was ever promoted; one small question when nothing changed."""
        stamp = self.storage.stamp(stream, role)
        if stamp is None:
            return None
        known = self._seen.get((stream, role))
        if known is None or known[0] != stamp:
            history = self._history(stream, role)
            known = (stamp, history[-1]["version"] if history else None)
            self._seen[stream, role] = known
        return known[1]

    def remembered(self, stream: str, role: str = CHAMPION) -> str | None:
        """The current version as this machine last saw it, for when the registry cannot be asked."""
        history = self.storage.remembered(stream, role)
        return history[-1]["version"] if history else None

    def load(self, stream: str, version: str | None = None, *, threads: int = 1) -> Bundle:
        """The given or the current version, verified; DataError if it is damaged or there is none."""
        version = version or self.current(stream)
        if version is None:
            raise DataError(
                f"no model for stream {stream!r}",
                where=self.storage.where,
                next_step=f"hackwatch train --as {stream} FILE, or hackwatch learn",
            )
        try:
            return load_bundle(self.storage.place(stream, version), threads=threads, version=version)
        except DataError:
            if not self.storage.renew(stream, version):
                raise
            return load_bundle(self.storage.place(stream, version), threads=threads, version=version)

    def fetch(self, stream: str, version: str) -> None:
        """Bring the files of a version to this machine, if they are elsewhere."""
        self.storage.place(stream, version)

    def add(self, bundle: Bundle, stream: Stream, *, promote: bool = True, role: str = CHAMPION) -> str:
        """Keep a bundle that passes the canary, as the next version; the version's name. `role`: to promote it in."""
        canary(bundle, stream)
        version = self.storage.keep(bundle)
        if promote:
            self._point(stream.name, role, version, "promoted when added")
        return version

    def list(self, stream: str | None = None) -> tuple[Version, ...]:
        """All versions, by stream and age; damaged ones with their problem."""
        found = []
        for name in [stream] if stream else self.streams():
            holders = self._holders(name)
            for version in self.storage.names(name):
                roles = tuple(role for role, holder in holders.items() if holder == version)
                try:
                    about = self.storage.document(name, version)
                    facts = {key: about[key] for key in ("method", "created", "rows", "threshold", "alert_budget")}
                    found.append(Version(name, version, CHAMPION in roles, **facts, roles=roles))
                except DataError as error:
                    found.append(Version(name, version, CHAMPION in roles, problem=error.what, roles=roles))
        return tuple(found)

    def streams(self) -> Names:
        """Streams that have a folder here."""
        return self.storage.streams()

    def show(self, stream: str, version: str | None = None) -> dict[str, Any]:
        """The document of a bundle, without vocabularies, with `version`, `current`, `roles` and the promotions.

        `promotions`: to champion; `role_promotions`: to each further role.
        """
        version = version or self.current(stream) or ""
        document = self.storage.document(stream, version)
        document["encoder"] = [f"{feature['kind']} {feature['column']}" for feature in document["encoder"]]
        document.pop("statistics")
        return {
            "version": version,
            "current": version == self.current(stream),
            "roles": [role for role, holder in self._holders(stream).items() if holder == version],
            **document,
            "promotions": self._history(stream, CHAMPION),
            "role_promotions": {
                role: self._history(stream, role) for role in self.storage.roles(stream) if role != CHAMPION
            },
        }

    def promote(self, version: str, stream: Stream, role: str = CHAMPION) -> None:
        """Make a kept version the current one of a role, after it was verified and passed the canary."""
        canary(self.load(stream.name, version), stream)
        self._point(stream.name, role, version, "promoted")

    def rollback(self, stream: Stream, role: str = CHAMPION) -> str:
        """Go back to the version that held the role before; its name. ConfigurationError if there is none."""

        def earlier(history: Promotions) -> Promotions:
            last = history[-1]["version"] if history else None
            kept = [entry for entry in history if entry["version"] != last]
            while kept and not self._usable(stream, kept[-1]["version"]):
                kept.pop()
            if not kept:
                raise ConfigurationError(
                    f"stream {stream.name!r} has no earlier usable version"
                    + ("" if role == CHAMPION else f" in the role {role!r}"),
                    where=f"{self.storage.where}/{stream.name}",
                    next_step="hackwatch models list, then hackwatch models promote VERSION",
                )
            return kept

        return str(self.storage.change(stream.name, role, earlier)[-1]["version"])

    def import_(self, folder: Path, stream: Stream, *, promote: bool = False, role: str = CHAMPION) -> str:
        """Take in a bundle from elsewhere: hashes verified, schema and canary checked; the version it got here."""
        return self.add(load_bundle(folder), stream, promote=promote, role=role)

    def _usable(self, stream: Stream, version: str) -> bool:
        try:
            canary(self.load(stream.name, version), stream)
        except (ConfigurationError, DataError):
            return False
        return True

    def _history(self, stream: str, role: str) -> Promotions:
        return self.storage.promotions(stream, role)

    def _holders(self, stream: str) -> dict[str, str | None]:
        """The current version of each role that ever had one, the champion's first."""
        roles = sorted(self.storage.roles(stream), key=lambda role: (role != CHAMPION, role))
        return {role: self.current(stream, role) for role in roles}

    def _point(self, stream: str, role: str, version: str, why: str) -> None:
        entry = {"version": version, "at": datetime.now(UTC).isoformat(timespec="seconds"), "why": why}
        self.storage.change(stream, role, lambda history: [*history, entry][-HISTORY:])
