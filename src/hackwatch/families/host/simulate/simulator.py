"""The simulated world of machines as the simulator of the family `host`."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hackwatch.families.host.correlations import ATTACKS
from hackwatch.families.host.simulate.attacks import Episode
from hackwatch.families.host.simulate.bulk import Faults, generate
from hackwatch.families.host.simulate.feed import HostFeed
from hackwatch.families.host.simulate.messages import Payload
from hackwatch.families.host.simulate.population import CMD_WIDTH
from hackwatch.families.host.simulate.training import labelled
from hackwatch.feeds.pace import OnProgress, Progress
from hackwatch.feeds.simulator import Attack
from hackwatch.topics.topic import TopicWriter

__all__ = ["SIMULATOR", "HostPlaying", "HostSimulator", "truth"]

#: Until the first attack, seconds.
_FIRST = 3.0


def truth(episode: Episode) -> Attack:
    """An episode as those know it who compare it with alerts: these name programs as the kernel and atop cut them."""
    return Attack(
        episode.type, episode.machine, episode.start, episode.end,
        subjects=tuple(name[:CMD_WIDTH] for name in episode.programs),
        after=ATTACKS.seconds,
        means=", ".join(episode.programs),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class HostPlaying:
    """A `HostFeed` as a simulation of the family."""

    feed: HostFeed

    @property
    def entities(self) -> tuple[str, ...]:
        return self.feed.machine_names

    def run(
        self, writers: Mapping[str, TopicWriter], stop: threading.Event, on_progress: OnProgress | None = None
    ) -> Progress:
        return self.feed.run(writers["process"], writers["memory"], stop, on_progress)


class HostSimulator:
    """Machines at work and, now and then, under attack. See `hackwatch.feeds.simulator.Simulator`."""

    def play(
        self, *, rate: float, entities: int, seed: int, attack_spacing: float, quiet: bool, labels: bool,
        on_attack: Callable[[Attack], None],
    ) -> HostPlaying:  # fmt: skip
        return HostPlaying(
            HostFeed(
                rate=rate,
                machines=entities,
                seed=seed,
                attack_spacing=attack_spacing,
                first_attack_after=math.inf if quiet else _FIRST,
                labels=labels,
                on_attack=lambda episode: on_attack(truth(episode)),
            )
        )

    def batches(
        self, records: int, seed: int, *, machines: int = 3, processes: int = 20, records_per_second: float = 8.0,
        attack_share: float = 0.1, faults: Faults | None = None,
    ) -> Iterator[Mapping[str, Payload]]:  # fmt: skip
        """Half of the records in each stream; with so few a second they span minutes: windows close, attacks correlate.

        `faults`: records out of order, late, repeated or malformed.
        """
        for batch in generate(
            records, seed, machines=machines, processes=processes, records_per_second=records_per_second,
            attack_share=attack_share, faults=faults,
        ):  # fmt: skip
            yield {"process": batch.process, "memory": batch.memory}

    def labelled(self, seed: int, records: int) -> Mapping[str, bytes]:
        process, memory = labelled(seed, records=records)
        return {"process": process.write_ndjson().encode(), "memory": memory.write_ndjson().encode()}


SIMULATOR = HostSimulator()
