"""The simulated world: machines with daily habit, on which attacks begin and end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.families.host.simulate.attacks import TYPES, Episode, plan
from hackwatch.families.host.simulate.life import EMPTY, Columns, Life
from hackwatch.families.host.simulate.population import Catalogue, Population, machine_names, role_of
from hackwatch.families.host.simulate.printed import Printer

__all__ = ["Sample", "World"]

_DAY = 86_400.0


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What atop sees on machines `first`..`first + len(counts)`: one row a process, machine after machine.

    `columns`: values before printing (sizes in KiB) with the event time `ts`; `counts`: rows of each machine.
    """

    first: int
    columns: Columns
    counts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.columns["ts"])

    def head(self, rows: int) -> Sample:
        """The first `rows` rows."""
        edges = np.minimum(np.cumsum(self.counts), rows)
        columns = {name: column[:rows] for name, column in self.columns.items()}
        return Sample(self.first, columns, np.diff(edges, prepend=0))


class World:
    """Machines with their programs and daily habit; the same seed and calls give the same world.

    `processes`: about how many live on a machine. `churn`: additional chance per sample that a process is
    replaced by one with a new PID. `settled`: what lives at the start was seen before (else the first sample
    shows all as new, as atop's first one does). `dashes`: as for Printer. A machine's name, role and first
    processes depend on the seed and its number only, not on how many machines there are.
    """

    def __init__(
        self,
        seed: int,
        machines: int = 5,
        *,
        processes: int = 200,
        churn: float = 0.0,
        settled: bool = True,
        dashes: bool = False,
    ) -> None:
        self.machines, self.processes = machines, processes
        self.names = machine_names(machines)
        self._random = np.random.default_rng([seed, 1 << 31])
        self._catalogue = Catalogue()
        people = Population(self._catalogue, seed, machines, processes)
        self._life = Life(self._catalogue, people, self._random, churn=churn, settled=settled)
        self._width = people.width
        self._desk = np.array([role_of(machine) == "desk" for machine in range(machines)])
        self._sequence = np.zeros(machines, np.int64)
        self._running: list[tuple[Episode, npt.NDArray[np.intp]]] = []
        self._printer = Printer(self.names, self._catalogue.commands, dashes=dashes)

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """The attacks that go on now."""
        return tuple(episode for episode, _ in self._running)

    @property
    def attackers(self) -> int:
        """How many processes take part in attacks now."""
        return sum(len(places) for _, places in self._running)

    def attack(self, kind: str, start: float, *, intensity: float | None = None) -> Episode | None:
        """Begin an attack of type `kind` on a machine at random; None if there is no room for it there.

        Raises KeyError when there is no such type.
        """
        machine = int(self._random.integers(self.machines))
        episode = plan(self._random, kind, self.names[machine], start, intensity)
        first = machine * self._width + self.processes
        kept = self._life
        free = np.flatnonzero(~kept.open[first : first + self._width - self.processes])
        free = free[kept.phase[first + free] == EMPTY][: len(episode.parts)] + first
        if len(free) < len(episode.parts):
            return None
        kept.open[free], kept.doomed[free] = True, False
        kept.kind[free] = 1 + TYPES.index(kind)
        kept.intensity[free] = episode.intensity
        kept.row[free] = [self._catalogue.cast_row[kind, cast] for _, cast in episode.parts]
        kept.command[free] = [self._catalogue.command(name) for name, _ in episode.parts]
        self._running.append((episode, free))
        return episode

    def _expire(self, now: float) -> None:
        for _, places in (over := [pair for pair in self._running if pair[0].end <= now]):
            self._life.open[places], self._life.doomed[places] = False, True
        if over:
            self._running = [pair for pair in self._running if pair[0].end > now]

    def _tempo(self, now: float, first: int, last: int) -> npt.NDArray[np.float64]:
        """How busy machines are at this hour (UTC): desks by day, servers in the evening; about 1 over a day."""
        hour = (now % _DAY) / 3600
        desk = 1 + 0.5 * np.cos((hour - 13) / 24 * 2 * np.pi)
        server = 1 + 0.3 * np.cos((hour - 20) / 24 * 2 * np.pi)
        return np.where(self._desk[first:last], float(desk), float(server))

    def observe(self, now: float, first: int = 0, last: int | None = None, *, spread: float = 0.0) -> Sample:
        """The next sample of machines `first`..`last` (exclusive; all of them by default).

        Event times rise from machine to machine over the last `spread` seconds before `now`, in milliseconds.
        """
        last = self.machines if last is None else last
        self._expire(now)
        columns = self._life.step(first, last, self._width, self._tempo(now, first, last))
        counts = np.bincount(columns["home"] - first, minlength=last - first)
        starts = np.repeat(np.cumsum(counts) - counts - self._sequence[first:last], counts)
        columns["sequence"] = np.arange(len(starts)) - starts
        self._sequence[first:last] += counts
        moments = now - spread * (1 - np.arange(1, last - first + 1) / (last - first))
        columns["ts"] = np.repeat(np.round(moments, 3), counts)
        return Sample(first, columns, counts)

    def frames(self, sample: Sample, *, labels: bool = True) -> tuple[pl.DataFrame, pl.DataFrame]:
        """A sample as atop prints it: the `process` and the `memory` frame (message columns; truth if `labels`)."""
        return (
            self._printer.process(sample.columns, labels=labels),
            self._printer.memory(sample.columns, labels=labels),
        )

    def sample(self, now: float, *, labels: bool = True) -> tuple[pl.DataFrame, pl.DataFrame]:
        """One interval of all machines: (process, memory) frames in message shape, event time `now`."""
        return self.frames(self.observe(now), labels=labels)
