"""Attack episodes: which processes an attack brings to a machine, and what they do there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hackwatch.feeds.simulate.behaviour import Behaviour

__all__ = ["ATTACKS", "SLOTS", "TYPES", "Cast", "Episode", "plan"]

#: Places for attack processes on each machine: episodes that run at the same time share them.
SLOTS = 24


@dataclass(frozen=True, slots=True)
class Cast:
    """Processes of one part in an attack: `fewest`..`most` of them, under one of `names`.

    Half of the names are those of tools, the others are what every machine runs: a name alone decides nothing.
    """

    behaviour: Behaviour
    fewest: int
    most: int
    names: tuple[str, ...]


def _cast(behaviour: Behaviour, fewest: int, most: int, names: str) -> Cast:
    return Cast(behaviour, fewest, most, tuple(names.split()))


_FLOOD = Behaviour(run=0.93, cpu=0.85, parallel=1.2, threads=2, text=90, virtual=30_000, resident=4_000, faults=1_500, grow=0.5,
                   growth=900, ends=0.01, again=0.9)  # fmt: skip
_BURST = Behaviour(run=0.5, cpu=0.22, threads=1, text=110, virtual=26_000, resident=3_000, faults=700, grow=0.25,
                   growth=300, ends=0.6, at_once=0.72, again=0.97, fails=0.5)  # fmt: skip

ATTACKS: Mapping[str, tuple[Cast, ...]] = {
    "ddos": (
        _cast(replace(_FLOOD, parallel=4, threads=40, faults=4_000, growth=2_500), 2, 5, "mirai hoic python3 perl sh"),
        _cast(replace(_FLOOD, run=0.85, cpu=0.5, parallel=0.3, text=640, virtual=280_000, resident=14_000, at_once=0.1),
              4, 8, "apache2 nginx node"),
    ),
    "dos": (
        _cast(replace(_FLOOD, cpu=1.1, parallel=3, threads=14, grow=0.85, growth=9_000, virtual=200_000, resident=60_000),
              3, 7, "slowhttptest hping3 python3 apache2 java"),
    ),
    "injection": (
        _cast(replace(_BURST, at_once=0.6, faults=1_200), 3, 6, "sh bash python3 curl mysql"),
        _cast(Behaviour(run=0.7, cpu=0.45, threads=4, text=2_600, virtual=240_000, resident=48_000, faults=3_500,
                        grow=0.6, growth=1_800, ends=0.02, again=0.9), 2, 4, "sqlmap python3 apache2 mysqld"),
    ),
    "mitm": (
        _cast(Behaviour(run=0.6, cpu=0.3, threads=6, text=480, virtual=190_000, resident=18_000, faults=900,
                        grow=0.5, growth=700, ends=0.004, policy="fifo"), 1, 2, "ettercap bettercap tcpdump"),
        _cast(Behaviour(run=0.65, cpu=0.28, threads=2, text=300, virtual=120_000, resident=16_000, faults=800,
                        grow=0.5, growth=600, ends=0.006), 1, 3, "arpspoof ettercap mitmproxy python3 tcpdump"),
    ),
    "password": (
        _cast(replace(_BURST, text=780, virtual=66_000, resident=6_500, at_once=0.4, ends=0.7, fails=0.75),
              5, 10, "sshd sshd login auth"),
        _cast(Behaviour(run=0.75, cpu=0.5, threads=16, text=240, virtual=170_000, resident=14_000, faults=1_600,
                        grow=0.5, growth=900, ends=0.01), 1, 3, "hydra medusa john ncrack python3"),
    ),
    "scanning": (
        _cast(replace(_BURST, at_once=0.85, again=1.0), 7, 13, "nmap nc sh masscan curl nikto"),
        _cast(Behaviour(run=0.8, cpu=0.55, threads=3, text=2_200, virtual=80_000, resident=32_000, faults=2_400,
                        grow=0.6, growth=1_500, ends=0.02), 1, 3, "nmap nessusd masscan python3"),
    ),
    "xss": (
        _cast(Behaviour(run=0.75, cpu=0.6, threads=30, text=900, virtual=1_500_000, resident=210_000, faults=5_500,
                        grow=0.75, growth=6_000, ends=0.02), 2, 4, "phantomjs firefox node chrome"),
        _cast(Behaviour(run=0.6, cpu=0.35, threads=2, text=640, virtual=270_000, resident=15_000, faults=1_400,
                        grow=0.4, growth=900, ends=0.06, at_once=0.15, again=0.95), 2, 5, "apache2 php-cgi python3"),
    ),
}  # fmt: skip

TYPES = tuple(ATTACKS)


@dataclass(frozen=True, slots=True)
class Episode:
    """An attack on one machine, `start` <= t < `end` in Unix seconds.

    `parts`: for each process the name and the index of its Cast among those of the type; `intensity`: how hard it
    goes, 1 being usual: below, it looks more like ordinary work.
    """

    type: str
    machine: int
    name: str
    start: float
    end: float
    parts: tuple[tuple[str, int], ...]
    intensity: float

    @property
    def programs(self) -> tuple[str, ...]:
        """The distinct program names that take part."""
        return tuple(sorted({name for name, _ in self.parts}))


def plan(random: np.random.Generator, kind: str, machine: int, name: str, start: float) -> Episode:
    """Draw an episode of type `kind`: 40 s to 3 minutes long, with its processes."""
    parts: list[tuple[str, int]] = []
    for index, cast in enumerate(ATTACKS[kind]):
        chosen = cast.names[int(random.integers(len(cast.names)))]
        parts += [(chosen, index)] * int(random.integers(cast.fewest, cast.most + 1))
    intensity = float(np.clip(random.lognormal(-0.1, 0.4), 0.25, 1.6))
    return Episode(kind, machine, name, start, start + float(random.uniform(40, 180)), tuple(parts[:SLOTS]), intensity)
