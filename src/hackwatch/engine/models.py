"""Which detector scores which stream, and the swap to a new one between two batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from hackwatch.detect.base import Detector
from hackwatch.errors import HackwatchError
from hackwatch.pipeline.alert import Alert, alert_id

__all__ = ["BundleSource", "Models", "system_alert"]


#: What is named as refused when not a version but the pointer to it cannot be read.
POINTER = "(pointer)"


class BundleSource(Protocol):
    """What the engine needs of the registry."""

    def current(self, stream: str) -> str | None:
        """The version that the pointer names; cheap."""
        ...

    def load(self, stream: str, version: str) -> Detector:
        """Load a version, checked: files, schema, canary. Raises HackwatchError."""
        ...


class Models:
    """The detectors in use, by stream. A bundle that fails to load leaves the old one in place."""

    def __init__(self, source: BundleSource, streams: tuple[str, ...], report: Callable[[Alert], None]) -> None:
        self._source, self._report = source, report
        self._current: dict[str, Detector | None] = dict.fromkeys(streams)
        self._refused: dict[str, str] = {}

    def current(self) -> dict[str, Detector | None]:
        return dict(self._current)

    def versions(self) -> dict[str, str]:
        return {stream: found.version for stream, found in self._current.items() if found is not None}

    def refresh(self, wall: float) -> None:
        """Look at the registry's pointers; swap what has changed."""
        for stream, detector in list(self._current.items()):
            version = POINTER
            try:
                pointed = self._source.current(stream)
                if pointed is None or pointed == (detector.version if detector else None):
                    self._refused.pop(stream, None)
                    continue
                version = pointed
                if self._refused.get(stream) != version:
                    self._current[stream] = self._source.load(stream, version)
                    self._refused.pop(stream, None)
            except (HackwatchError, OSError) as error:
                if self._refused.get(stream) != version:
                    self._refused[stream] = version
                    self._report(self._failure(stream, version, error, wall))

    def exactly(self, versions: Mapping[str, str]) -> dict[str, Detector | None]:
        """The detectors that a logged micro-batch used; the current one where its version is gone."""
        return {stream: self._version(stream, versions.get(stream)) for stream in self._current}

    def _version(self, stream: str, version: str | None) -> Detector | None:
        current = self._current[stream]
        if version is None or (current is not None and current.version == version):
            return current if version is not None else None
        try:
            return self._source.load(stream, version)
        except HackwatchError:
            return current

    def _failure(self, stream: str, version: str, error: Exception, wall: float) -> Alert:
        old = self._current[stream]
        going_on = f"going on with {old.version}" if old else f"{stream} is not scored by a model"
        what = "The registry of models cannot be read" if version == POINTER else f"Model {version} was refused"
        return system_alert(stream, "model-refused", version, f"{what}, {going_on}", str(error), wall)


def system_alert(stream: str, rule: str, occurrence: str, title: str, detail: str, wall: float) -> Alert:
    """An alert of hackwatch about itself; `occurrence` makes its id unique."""
    return Alert(
        id=alert_id(stream, "hackwatch", rule, occurrence),
        kind="system",
        stream=stream,
        entity="hackwatch",
        rule=rule,
        title=title,
        severity="medium",
        risk=50,
        subject=occurrence,
        first_seen=wall,
        last_seen=wall,
        created=wall,
        evidence={"detail": detail},
    )
