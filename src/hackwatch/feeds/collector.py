"""What sees a family live: how its collectors are found, and what one can do."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import click

from hackwatch import streams
from hackwatch.errors import ConfigurationError
from hackwatch.feeds.pace import OnProgress, Progress
from hackwatch.topics.topic import TopicWriter

__all__ = ["Collecting", "Collector", "Finding", "Level", "LocalCollector", "Watching", "local_collectors"]

Level = Literal["ok", "hint", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `hackwatch doctor` looked at. `help`: the command or step that mends it, or empty."""

    name: str
    level: Level
    what: str
    help: str = ""


class Collecting(Protocol):
    """A collector at work."""

    def run(
        self, writers: Mapping[str, TopicWriter], stop: threading.Event, on_progress: OnProgress | None = None
    ) -> Progress:
        """Write to the topic of each stream until `stop` is set or there is no more; what was sent.

        `on_progress` hears after each sample, or whatever else comes at once.
        """


class Watching(Collecting, Protocol):
    """A collector that watches this machine. `hackwatch watch` tells people what it says of itself."""

    @property
    def entity(self) -> str | None:
        """The entity of all its records; None if they are of several."""

    @property
    def doing(self) -> str:
        """Whom it watches, and how."""

    @property
    def blind_spots(self) -> Sequence[str]:
        """What it does not see from here, one sentence each."""

    @property
    def query(self) -> str | None:
        """A question to the lake, in SQL, that is worth asking afterwards."""


class Collector(Protocol):
    """Sees live what a family is about. `Family.collectors` names objects that do this."""

    @property
    def help(self) -> str:
        """The help of its command of `hackwatch feed`, with examples."""

    @property
    def options(self) -> Sequence[click.Option]:
        """Options of its command, beside those that all feeds have; `hackwatch.numbers` has types of numbers."""

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams that it feeds."""

    def open(self, **options: Any) -> Collecting:
        """What the command runs, by its options. Raises ConfigurationError if these make no sense."""

    def examine(self) -> Iterable[Finding]:
        """What it needs of the system, and whether that is there: for `hackwatch doctor`. It changes nothing."""


class LocalCollector(Collector, Protocol):
    """Sees what happens on this machine. `Family.watch` names the collector that does this too."""

    def watch(self, interval: float, samples: int | None = None) -> Watching:
        """What `hackwatch watch` and `learn` run: a sample each `interval` seconds; `samples`: stop after so many."""


def local_collectors() -> tuple[LocalCollector, ...]:
    """The collectors of all families that watch this machine. Raises ConfigurationError if there is none."""
    named = [one.collectors[one.watch] for one in streams.families() if one.watch is not None]
    if not named:
        raise ConfigurationError("no installed family can watch this machine", next_step="reinstall hackwatch")
    return tuple(streams.load(reference) for reference in named)
