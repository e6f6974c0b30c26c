"""What decides about records: which detectors score which stream, and the swap to new ones between two batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hackwatch.alerts.system import Notice, Tell
from hackwatch.detect.detector import Detector
from hackwatch.detect.panel import CHAMPION, Member, Panel, place
from hackwatch.errors import HackwatchError
from hackwatch.pipeline.enrichment import Enrichment
from hackwatch.runtime.enrichments import TABLE, Enrichments
from hackwatch.runtime.registry import BundleSource

__all__ = ["Deciders", "Models"]


#: What is named as refused when not a version but the pointer to it cannot be read.
POINTER = "(pointer)"
#: A stream and a role in it.
Seat = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Deciders:
    """All that decides about the records of a micro-batch beside the settings.

    `panels`, `enrichments`: by stream. `tables`: versions of the tables that those look things up in, by their
    names in the log.
    """

    panels: Mapping[str, Panel]
    enrichments: Mapping[str, Enrichment] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)

    @property
    def champions(self) -> dict[str, Detector | None]:
        """The detectors that decide, by stream."""
        return {stream: panel.champion for stream, panel in self.panels.items()}

    def versions(self) -> dict[str, str]:
        """The version of each, by its name in the log: `stream` (a champion), `stream:role`, `table:name`."""
        models = {
            place(stream, role): version
            for stream, panel in self.panels.items()
            for role, version in panel.versions().items()
        }
        return {**models, **self.tables}


class Models:
    """The detectors in use, by stream and role. A bundle that fails to load leaves the old one in place.

    `roles`: those beside the champion, by stream. What such a detector does wrong is reported, and stops nothing.
    `enrichments`: what fills columns before, with tables that are logged and swapped alike.
    """

    def __init__(
        self,
        source: BundleSource,
        streams: tuple[str, ...],
        tell: Tell,
        roles: Mapping[str, Sequence[str]] | None = None,
        enrichments: Enrichments | None = None,
    ) -> None:
        self.enrichments = enrichments
        self._source, self.tell = source, tell
        seats = [(stream, role) for stream in streams for role in (CHAMPION, *(roles or {}).get(stream, ()))]
        self._streams = streams
        self._current: dict[Seat, Member | None] = dict.fromkeys(seats)
        #: The panels of these detectors, once they were asked for.
        self._present: dict[str, Panel] | None = None
        self._refused: dict[Seat, str] = {}
        self._failed: set[str] = set()

    def current(self) -> Deciders:
        """What decides now."""
        if self._present is None:
            self._present = self._panels(self._current)
        panels, found = self._present, self.enrichments
        return Deciders(panels) if found is None else Deciders(panels, found.current, found.versions())

    def logged(self, deciders: Deciders, epoch: int) -> dict[str, str]:
        """The versions to log of a micro-batch of that epoch; micro-batches are logged in the order of their making."""
        versions = deciders.versions()
        if self.enrichments is not None:
            self.enrichments.used(versions, epoch)
        return versions

    def committed(self, epoch: int) -> None:
        """What was logged up to that epoch will not be repeated. May be called from another thread."""
        if self.enrichments is not None:
            self.enrichments.tables.committed(epoch)

    def refresh(self) -> None:
        """Look at the registry's pointers; swap what has changed."""
        for seat in list(self._current):
            self._check(seat)
            self._refresh(seat)
        if self.enrichments is not None:
            self.enrichments.refresh()

    def exactly(self, versions: Mapping[str, str]) -> Deciders:
        """What decided about a logged micro-batch; the current detector where its version is gone."""
        panels = self._panels({seat: self._version(seat, versions.get(place(*seat))) for seat in self._current})
        if self.enrichments is None:
            return Deciders(panels)
        tables = {name: version for name, version in versions.items() if name.startswith(TABLE)}
        return Deciders(panels, self.enrichments.exactly(versions), tables)

    def _panels(self, seated: Mapping[Seat, Member | None]) -> dict[str, Panel]:
        members: dict[str, dict[str, Member | None]] = {stream: {} for stream in self._streams}
        for (stream, role), member in seated.items():
            members[stream][role] = member
        return {stream: _panel(roles) for stream, roles in members.items()}

    def _refresh(self, seat: Seat) -> None:
        detector, version = self._current[seat], POINTER
        try:
            pointed = self._source.current(*seat)
            if pointed is None or pointed == (detector.version if detector else None):
                self._refused.pop(seat, None)
                return
            version = pointed
            if self._refused.get(seat) != version:
                self._current[seat], self._present = self._load(seat, version), None
                self._refused.pop(seat, None)
        except (HackwatchError, OSError) as error:
            if self._refused.get(seat) != version:
                self._refused[seat] = version
                self.tell(self._failure(seat, version, error))

    def _load(self, seat: Seat, version: str) -> Member:
        return Member(self._source.load(seat[0], version))

    def _version(self, seat: Seat, version: str | None) -> Member | None:
        current = self._current[seat]
        if version is None or (current is not None and current.version == version):
            return current if version is not None else None
        try:
            return self._load(seat, version)
        except HackwatchError:
            return current

    def _check(self, seat: Seat) -> None:
        """Say once of each version that it fails at scoring."""
        (stream, role), found = seat, self._current[seat]
        if found is not None and found.problem is not None and found.version not in self._failed:
            self._failed.add(found.version)
            title = f"Model {found.version} fails as {role} of {stream}: no {role}_score; the champion goes on"
            self.tell(Notice("model-failed", found.version, title, found.problem, stream=stream))

    def _failure(self, seat: Seat, version: str, error: Exception) -> Notice:
        (stream, role), old = seat, self._current[seat]
        scored = "is not scored by a model" if role == CHAMPION else f"has no {role}_score"
        going_on = f"going on with {old.version}" if old else f"{stream} {scored}"
        whose = "" if role == CHAMPION else f" as {role}"
        what = "The registry of models cannot be read" if version == POINTER else f"Model {version} was refused{whose}"
        occurrence = version if role == CHAMPION else f"{version} {role}"
        return Notice("model-refused", occurrence, f"{what}, {going_on}", str(error), stream=stream)


def _panel(roles: dict[str, Member | None]) -> Panel:
    champion = roles.pop(CHAMPION)
    return Panel(None if champion is None else champion.detector, roles)
