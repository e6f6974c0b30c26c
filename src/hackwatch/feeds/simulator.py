"""What plays a family: how its simulator is found, and what one can do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from hackwatch import streams
from hackwatch.errors import ConfigurationError
from hackwatch.feeds.pace import OnProgress, Progress
from hackwatch.streams.declarations import Family
from hackwatch.streams.payload import Lines
from hackwatch.streams.stream import DecodeOptions, Messages, Stream
from hackwatch.topics.topic import TopicWriter

__all__ = ["Attack", "Played", "Playing", "Simulator", "labelled_records", "simulator_of"]


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack that is played: the truth, which no detector is told.

    `kind`: which one; `entity`: on whom; `start`, `end`: Unix seconds. `subjects`: what it is seen by, as alerts name
    it. `after`: an alert may still be about it so many seconds after its end. `means`: what does it, for people.
    """

    kind: str
    entity: str
    start: float
    end: float
    subjects: tuple[str, ...]
    after: float = 30.0
    means: str = ""


class Played(Protocol):
    """Messages of one stream."""

    def write_to(self, writer: TopicWriter) -> None:
        """Append them, each under the key of its entity."""


class Playing(Protocol):
    """A simulation in real time."""

    @property
    def entities(self) -> Sequence[str]:
        """Whom it plays."""

    def run(
        self, writers: Mapping[str, TopicWriter], stop: threading.Event, on_progress: OnProgress | None = None
    ) -> Progress:
        """Write to the topic of each stream of the family until `stop` is set; what was sent."""


class Simulator(Protocol):
    """Plays the world of a family. `Family.simulator` names an object that does this; equal seeds play the same."""

    def play(
        self, *, rate: float, entities: int, seed: int, attack_spacing: float, quiet: bool, labels: bool,
        on_attack: Callable[[Attack], None],
    ) -> Playing:  # fmt: skip
        """A simulation of `rate` records a second, all streams together, and attacks `attack_spacing` seconds apart.

        `quiet`: no attacks; `labels`: the truth is in the messages; `on_attack` is told of each attack as it begins.
        """

    def batches(self, records: int, seed: int, **options: Any) -> Iterator[Mapping[str, Played]]:
        """About `records` messages as fast as they can be made, in simulated time: stream -> messages."""

    def labelled(self, seed: int, records: int) -> Mapping[str, bytes]:
        """`records` messages of each stream, each ended by a newline, with the truth in them."""


def simulator_of(family: Family) -> Simulator:
    """The simulator of a family. Raises ConfigurationError if it has none, or one that cannot be loaded."""
    if family.simulator is None:
        raise ConfigurationError(
            f"the family {family.name!r} has no simulator", next_step="give records of your own, or replay some"
        )
    simulator: Simulator = streams.load(family.simulator)
    return simulator


def labelled_records(stream: Stream, payload: bytes) -> pl.DataFrame:
    """Messages with the truth in them, as `Simulator.labelled` gives them, normalised: with the truth columns."""
    messages = Messages("simulated", 0, payload, Lines.of(payload).start, len(payload))
    return stream.decode(messages, DecodeOptions(labels=True)).records
