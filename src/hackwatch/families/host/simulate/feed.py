"""The simulated world as a feed: both host streams at a steady rate, in real time."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from hackwatch.clock import Clock, SystemClock
from hackwatch.errors import ConfigurationError
from hackwatch.families.host.simulate.attacks import Episode
from hackwatch.families.host.simulate.messages import encode
from hackwatch.families.host.simulate.schedule import BySpacing
from hackwatch.families.host.simulate.world import World
from hackwatch.feeds.pace import OnProgress, Progress, Rate
from hackwatch.topics.topic import TopicWriter

__all__ = ["FASTEST", "SLOWEST", "HostFeed", "shape"]

SLOWEST, FASTEST = 10.0, 500_000.0
_PROCESSES = 200
_FEWEST_PROCESSES = 12
#: No machine is sampled more often than once in the first, and, if the rate allows, as often as once in the second.
_SHORTEST_INTERVAL, _USUAL_INTERVAL = 1.0, 5.0
_BATCH_SECONDS = 0.05


def shape(rate: float, machines: int) -> tuple[int, int]:
    """How many (machines, processes on each) a rate of records per second needs.

    200 processes, sampled once in 1..5 s, give 80..400 records/s a machine in the two streams together. A higher
    rate brings more machines (500,000 records/s: 1,250), never the same rows again; a lower one has fewer processes
    (at least 12), then longer intervals.
    """
    machines = max(machines, math.ceil(rate * _SHORTEST_INTERVAL / (2 * _PROCESSES)))
    processes = rate * _USUAL_INTERVAL / (2 * machines)
    return machines, int(min(_PROCESSES, max(_FEWEST_PROCESSES, processes)))


class HostFeed:
    """Writes simulated `process` and `memory` records, `rate` a second in both together, event time now.

    Messages are keyed by machine. Attacks begin `attack_spacing` seconds apart on average, the first one
    `first_attack_after` seconds in; `on_attack` is told of each as it begins, `episodes` keeps all of them: the
    ground truth. `labels` writes the truth columns `label` and `type` into the messages too.
    Raises ConfigurationError when the rate is not within 10..500,000 or another number makes no sense.
    """

    def __init__(
        self,
        *,
        rate: float = 2_000.0,
        machines: int = 5,
        seed: int = 0,
        attack_spacing: float = 60.0,
        first_attack_after: float = 3.0,
        labels: bool = False,
        on_attack: Callable[[Episode], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        _check(rate, machines, attack_spacing, first_attack_after)
        self.machines, self.processes = shape(rate, machines)
        self.episodes: list[Episode] = []
        self._world = World(seed, self.machines, processes=self.processes)
        self._rate, self._seed, self._labels = rate, seed, labels
        self._spacing, self._first_after = attack_spacing, first_attack_after
        self._on_attack = on_attack
        self._clock = clock or SystemClock()

    @property
    def interval(self) -> float:
        """Seconds between two samples of the same machine."""
        return 2 * self.machines * self.processes / self._rate

    @property
    def machine_names(self) -> tuple[str, ...]:
        """The machines of this world."""
        return self._world.names

    def run(
        self,
        process: TopicWriter,
        memory: TopicWriter,
        stop: threading.Event,
        on_progress: OnProgress | None = None,
    ) -> Progress:
        """Feed until `stop` is set; returns what was sent."""
        clock, world = self._clock, self._world
        schedule = BySpacing(self._spacing, self._first_after, clock.wall(), self._seed)
        pace = Rate(clock, self._rate)
        together = max(1, int(self._rate * _BATCH_SECONDS / (2 * self.processes)))
        records = sent = first = pending = 0
        while pace.take(pending, stop):
            now = clock.wall()
            for episode in schedule.step(world, now):
                self._announce(episode)
            last = min(first + together, self.machines)
            sample = world.observe(now, first, last, spread=min(_BATCH_SECONDS, self.interval))
            for frame, writer in zip(world.frames(sample, labels=self._labels), (process, memory), strict=True):
                payload = encode(frame, world.names[first:last], sample.counts)
                payload.write_to(writer)
                sent += len(payload.data)
            pending = 2 * len(sample)
            records += pending
            first = last % self.machines
            if on_progress is not None:
                on_progress(Progress(records, records, sent))
        process.flush()
        memory.flush()
        return Progress(records, records, sent)

    def _announce(self, episode: Episode) -> None:
        self.episodes.append(episode)
        if self._on_attack is not None:
            self._on_attack(episode)


def _check(rate: float, machines: int, spacing: float, first_after: float) -> None:
    problems = []
    if not SLOWEST <= rate <= FASTEST:
        problems.append(f"rate is {rate:g}, not between {SLOWEST:g} and {FASTEST:g} records per second")
    if not 1 <= machines <= 100_000:
        problems.append(f"machines is {machines}, not between 1 and 100000")
    if not spacing > 0:
        problems.append(f"attack spacing is {spacing:g}, not more than 0 seconds")
    if not first_after >= 0:
        problems.append(f"the first attack is {first_after:g} seconds after the start, not 0 or more")
    if problems:
        raise ConfigurationError(
            "the simulation cannot run like this", problems=tuple(problems), next_step="change these numbers"
        )
