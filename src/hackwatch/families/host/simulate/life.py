"""One step in the life of many processes at once: births, ends, work and growth as NumPy columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hackwatch.families.host.simulate.behaviour import Table
from hackwatch.families.host.simulate.population import FIRST_PID, MAX_PID, Catalogue, Population

__all__ = ["Columns", "Life"]

#: Columns of different types by name.
Columns = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

#: Phases of a place: nobody; born since the last sample; seen before; ended since the last sample.
EMPTY, NEW, OLD, ENDED = 0, 1, 2, 3
_EXIT_CODES = np.array([1] * 17 + [2] * 3 + [127, 143], np.int64)
_MEMORY_KIB = 4 * 1024 * 1024
_PROCESSORS = 4
#: The share of those found running that are at the same work in the next sample.
_KEPT_BUSY = 0.5
#: Minor faults at birth: what is resident was touched page by page (4 KiB), and some of it twice.
_FAULTS_PER_KIB = 0.35


class Life:
    """The state of all places of a population, advanced for a run of neighbouring machines at a time."""

    def __init__(
        self, catalogue: Catalogue, people: Population, random: np.random.Generator, *, churn: float, settled: bool
    ) -> None:
        self._table: Table = catalogue.table
        self._names, self._bulk = catalogue.short, catalogue.bulk
        self._random, self._churn = random, churn
        self.row, self.command, self.pid, self.scale = people.row, people.command, people.pid, people.scale
        self._home, self._last_pid = people.home, people.last_pid
        size = len(self.row)
        self.kind = np.zeros(size, np.int8)  # 0 normal, else 1 + index of the attack's type
        self.open = people.usual.copy()
        self.doomed = np.zeros(size, bool)
        self.intensity = np.ones(size, np.float32)
        self._short = people.usual & catalogue.is_short[self.row]
        alive = self.open & ~self._short
        self.phase = np.where(alive, OLD, EMPTY).astype(np.int8)
        self._boot = alive & (not settled)
        self._busy = np.zeros(size, bool)
        self._threads, self._processor = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self._virtual, self._resident, self._base = (np.zeros(size, np.float32) for _ in range(3))
        self._dress(np.flatnonzero(alive))

    def _of(self, name: str, places: Places | slice) -> Floats:
        return self._table.column(name, self.row[places])

    def _dress(self, places: Places) -> None:
        """Give new processes their size, threads and processor."""
        random, count = self._random, len(places)
        scale = self.scale[places] * random.lognormal(0, 0.35, count).astype(np.float32)
        self._resident[places] = np.ceil(self._of("resident", places) * scale)
        self._virtual[places] = np.ceil(
            np.maximum(self._of("virtual", places) * scale**0.5, self._resident[places] * 1.2)
        )
        self._base[places] = self._resident[places]
        self._threads[places] = np.maximum(1, np.rint(self._of("threads", places) * random.lognormal(-0.1, 0.5, count)))
        self._processor[places] = random.integers(0, _PROCESSORS, count)
        self._busy[places] = False

    def _bear(self, places: Places) -> None:
        """New processes take these places (ascending): new PIDs, and for short-lived ones a new program."""
        homes = self._home[places]
        gaps = self._random.integers(1, 9, len(places))
        total = np.cumsum(gaps)
        first = np.flatnonzero(np.diff(homes, prepend=-1))
        before = np.repeat(total[first] - gaps[first], np.diff(first, append=len(places)))
        pids = self._last_pid[homes] + total - before
        self.pid[places] = np.where(pids >= MAX_PID, pids - MAX_PID + FIRST_PID, pids)
        last = np.append(first[1:], len(places)) - 1
        self._last_pid[homes[last]] = self.pid[places[last]]
        short = places[self._short[places]]
        self.command[short] = self._names[self._random.integers(0, len(self._names), len(short))]
        self._dress(places)

    def _pass(self, here: slice, tempo: Floats, chance: Floats) -> tuple[Mask, Mask]:
        """Births and ends since the last sample; returns who was born and who ended."""
        phase = self.phase[here]
        old = (phase == NEW) | (phase == OLD)
        again = self._of("again", here) * np.where(self._short[here], tempo, np.float32(1))
        born = ~old & self.open[here] & (chance[0] < again)
        ends = old & ((chance[1] < self._of("ends", here) + self._churn) | self.doomed[here])
        ends |= born & (chance[1] < self._of("at_once", here))
        self.phase[here] = np.where(ends, ENDED, np.where(born, NEW, np.where(old, OLD, EMPTY)))
        places = np.flatnonzero(born) + here.start
        if len(places):
            self._bear(places)
        return born, ends

    def _grow(self, here: slice, alive: Mask, chance: Floats) -> tuple[Floats, Floats]:
        """Change of virtual and resident size (KiB) since the last sample."""
        force = self.intensity[here]
        changes = alive & (chance[0] < self._of("grow", here) * force)
        amount = self._of("growth", here) * force * -np.log(1 - chance[1])
        resident, base = self._resident[here], self._base[here]
        rising = np.where(
            self.kind[here] > 0, np.float32(0.9), np.where(resident > 1.25 * base, np.float32(0.3), np.float32(0.7))
        )
        grown = np.where(changes, np.rint(np.where(chance[2] < rising, amount, -amount)), np.float32(0))
        grown = np.maximum(grown, 4 - resident) * changes
        wider = np.where(changes & (chance[3] < 0.4), grown, np.float32(0))
        self._resident[here] += grown
        self._virtual[here] = np.maximum(self._virtual[here] + wider, self._resident[here])
        return wider, grown

    def step(self, first: int, last: int, width: int, tempo: npt.NDArray[np.float64]) -> Columns:
        """One sample of machines `first`..`last`: a column for each value, one row for each place in use.

        `tempo` is the bustle of each of these machines (1 usual). Sizes in KiB, CPU and MEM as fractions.
        """
        here = slice(first * width, last * width)
        chance = self._random.random((14, here.stop - here.start), np.float32)
        bustle = np.repeat(tempo.astype(np.float32), width)
        born, ended = self._pass(here, bustle, chance[:2])
        if self._boot[here].any():
            born |= self._boot[here] & ~ended
            self._boot[here] = False
        alive = (self.phase[here] == NEW) | (self.phase[here] == OLD)
        busy = self._work(here, alive, bustle, chance[2])
        wider, grown = self._grow(here, alive, chance[3:7])
        shown = np.flatnonzero(self.phase[here] != EMPTY)
        values = self._process(here, busy, ended, chance[7:12])
        values |= self._memory(here, born, ended, busy, wider, grown, chance[12:])
        values["status"] = born.astype(np.int8) + 2 * ended.astype(np.int8)
        values["finished"] = ended
        for name, column in (("home", self._home), ("pid", self.pid), ("command", self.command), ("kind", self.kind)):
            values[name] = column[here]
        return {name: column[shown] for name, column in values.items()}

    def _work(self, here: slice, alive: Mask, bustle: Floats, chance: Floats) -> Mask:
        """Who is found running: work goes on from one sample to the next."""
        run = np.minimum(self._of("run", here) * self.intensity[here] * np.where(self.kind[here] > 0, 1, bustle), 0.97)
        busy: Mask = alive & (chance < _KEPT_BUSY * self._busy[here] + (1 - _KEPT_BUSY) * run)
        self._busy[here] = busy
        return busy

    def _process(self, here: slice, busy: Mask, ended: Mask, chance: Floats) -> Columns:
        force, use = self.intensity[here], -np.log(1 - chance[0])
        beside = np.floor(-np.log(1 - chance[1]) * self._of("parallel", here) * force).astype(np.int64)
        running = busy * (1 + beside)
        work = np.where(busy, self._of("cpu", here) * force * use + 0.02, np.where(chance[0] > 0.93, 0.01, 0))
        work = np.where(ended, np.minimum(self._of("cpu", here) * use * 0.15, 1), work)
        moved = chance[2] < 0.15
        self._processor[here] = np.where(moved, (chance[2] * 27).astype(np.int64) % _PROCESSORS, self._processor[here])
        failed = ended & (chance[3] < self._of("fails", here))
        code = _EXIT_CODES[(chance[4] * len(_EXIT_CODES)).astype(np.int64)]
        return {
            "running": running,
            "sleeping": np.where(ended, 0, np.maximum(self._threads[here] - running, 0)),
            "waiting": (~ended & (chance[3] > 0.99966)).astype(np.int64),
            "policy": self._table.policy[self.row[here]],
            "processor": np.where(ended, 0, self._processor[here]),
            "exit": np.where(failed, code, 0),
            "state": np.where(ended, 2, busy & (chance[4] < 0.64)).astype(np.int8),
            "cpu": np.round(np.minimum(work, _PROCESSORS).astype(np.float64), 2),
        }

    def _memory(
        self, here: slice, born: Mask, ended: Mask, busy: Mask, wider: Floats, grown: Floats, chance: Floats
    ) -> Columns:
        spread = np.exp(1.4 * (chance[0] + chance[1] - 1) * 2.4)
        usual = self._of("faults", here) * spread
        fresh = born & ~ended
        idle = np.where(chance[0] < 0.12, np.float32(3) * chance[1] / np.float32(0.3), np.float32(0))
        faults = np.where(busy, usual * self.intensity[here], np.where(ended, usual * 0.8, idle))
        faults = np.where(fresh, self._resident[here] * _FAULTS_PER_KIB * spread, faults)
        kernel = self._of("resident", here) == 0
        major = np.where(fresh, chance[0] * 9, np.where(chance[1] > 0.996, chance[0] * 6 + 1, 0))
        lasting = ~ended & ~kernel
        text = self._of("text", here) * self._bulk[self.command[here]] + 1
        return {
            "faults": np.where(kernel, 0, faults).astype(np.int64),
            "major": np.where(kernel, 0, major).astype(np.int64),
            "text": np.where(lasting, text, 0).astype(np.int64),
            "virtual": np.where(lasting, self._virtual[here], 0).astype(np.int64),
            "resident": np.where(lasting, self._resident[here], 0).astype(np.int64),
            "wider": np.where(lasting, np.where(born, self._virtual[here], wider), 0).astype(np.int64),
            "grown": np.where(lasting, np.where(born, self._resident[here], grown), 0).astype(np.int64),
            "share": np.where(lasting, np.round(self._resident[here].astype(np.float64) / _MEMORY_KIB, 2), 0.0),
        }
