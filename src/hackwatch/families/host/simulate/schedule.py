"""When attacks begin: by a mean spacing in time, or so that they make up a share of all records."""

from __future__ import annotations

import numpy as np

from hackwatch.families.host.simulate.attacks import TYPES, Episode
from hackwatch.families.host.simulate.world import Sample, World

__all__ = ["FIRST_INTENSITY", "ByShare", "BySpacing"]

#: How hard the first attack of a feed goes (1 is usual).
FIRST_INTENSITY = 1.4


class _Types:
    """All types in shuffled rounds, so that none is long missing."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._left: list[str] = []

    def next(self) -> str:
        if not self._left:
            self._left = [str(kind) for kind in self._random.permutation(TYPES)]
        return self._left.pop()


class ByShare:
    """Keeps the share of attack records near `share` (0..1): call after each sample."""

    def __init__(self, share: float, seed: int) -> None:
        self._share = share
        self._types = _Types(np.random.default_rng([seed, 2 << 31]))
        self._records = self._attack_records = 0

    def step(self, world: World, now: float, sample: Sample | None) -> list[Episode]:
        """The attacks that begin now."""
        if sample is not None:
            self._records += len(sample)
            self._attack_records += int(np.count_nonzero(sample.columns["kind"]))
        begun: list[Episode] = []
        places = world.machines * world.processes
        wanted = max(1.0, 1.5 * self._share * places)
        while self._attack_records <= self._share * self._records and world.attackers < wanted and self._share > 0:
            episode = world.attack(self._types.next(), now)
            if episode is None:
                break
            begun.append(episode)
        return begun


class BySpacing:
    """Attacks begin at random moments, `spacing` seconds apart on average, the first `first_after` seconds in.

    The first one goes hard, so that whoever watches sees what there is to see; how hard the others go is chance.
    """

    def __init__(self, spacing: float, first_after: float, start: float, seed: int) -> None:
        self._random = np.random.default_rng([seed, 3 << 31])
        self._types = _Types(self._random)
        self._spacing, self._next = spacing, start + first_after
        self._intensity: float | None = FIRST_INTENSITY

    def step(self, world: World, now: float) -> list[Episode]:
        """The attacks that begin now."""
        begun: list[Episode] = []
        while self._next <= now:
            self._next += float(self._random.exponential(self._spacing))
            episode = world.attack(self._types.next(), now, intensity=self._intensity)
            if episode is not None:
                begun.append(episode)
                self._intensity = None
        return begun
