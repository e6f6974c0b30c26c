"""Attack episodes: which processes an attack brings to a machine, and what they do there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hackwatch.families.host.simulate.behaviour import Behaviour

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


def _kind(usual: Behaviour, **other: float | str) -> Behaviour:
    return replace(usual, **other)  # type: ignore[arg-type]  # mypy cannot see the fields behind **


_FLOOD = Behaviour(
    run=0.95, cpu=0.85, parallel=1.5, threads=2, text=90, virtual=30_000, resident=4_000, faults=1_500, grow=0.5,
    growth=900, ends=0.01, again=0.9,
)  # fmt: skip
_BURST = Behaviour(
    run=0.6, cpu=0.3, parallel=0.2, threads=1, text=110, virtual=26_000, resident=3_000, faults=900, grow=0.3,
    growth=300, ends=0.6, at_once=0.72, again=0.97, fails=0.55,
)  # fmt: skip
_TOOL = Behaviour(
    run=0.92, cpu=0.55, parallel=1.0, threads=4, text=300, virtual=170_000, resident=18_000, faults=1_600, grow=0.6,
    growth=900, ends=0.01, again=0.9,
)  # fmt: skip
_VICTIM = Behaviour(
    run=0.88, cpu=0.6, parallel=0.8, threads=3, text=640, virtual=270_000, resident=15_000, faults=1_500, grow=0.5,
    growth=900, ends=0.03, at_once=0.1, again=0.95,
)  # fmt: skip

ATTACKS: Mapping[str, tuple[Cast, ...]] = {
    "ddos": (
        _cast(_kind(_FLOOD, parallel=4, threads=40, faults=4_000, growth=2_500), 2, 5, "mirai hoic python3 perl sh"),
        _cast(_VICTIM, 4, 8, "apache2 nginx node"),
    ),
    "dos": (
        _cast(
            _kind(_FLOOD, cpu=1.1, parallel=3, threads=14, grow=0.85, growth=9_000, virtual=200_000, resident=60_000),
            3, 7, "slowhttptest hping3 python3 apache2 java",
        ),
    ),
    "injection": (
        _cast(_kind(_BURST, at_once=0.6, faults=1_400), 3, 6, "sh bash python3 curl mysql"),
        _cast(
            _kind(_TOOL, text=2_600, virtual=240_000, resident=48_000, faults=3_500, growth=1_800),
            2, 4, "sqlmap python3 apache2 mysqld",
        ),
    ),
    "mitm": (
        _cast(_kind(_TOOL, text=480, cpu=0.4, threads=6, policy="fifo"), 1, 2, "ettercap bettercap tcpdump"),
        _cast(_kind(_TOOL, cpu=0.4, threads=2), 1, 3, "arpspoof ettercap mitmproxy python3 tcpdump"),
    ),
    "password": (
        _cast(
            _kind(_BURST, text=780, virtual=66_000, resident=6_500, at_once=0.4, ends=0.7, fails=0.75),
            5, 10, "sshd sshd login auth",
        ),
        _cast(_kind(_TOOL, parallel=1.5, threads=16), 1, 3, "hydra medusa john ncrack python3"),
    ),
    "scanning": (
        _cast(_kind(_BURST, at_once=0.85, again=1.0, fails=0.65), 7, 13, "nmap nc sh masscan curl nikto"),
        _cast(_kind(_TOOL, text=2_200, faults=2_400, growth=1_500), 1, 3, "nmap nessusd masscan python3"),
    ),
    "xss": (
        _cast(
            _kind(_TOOL, threads=30, parallel=2, text=900, virtual=1_500_000, resident=210_000, faults=5_500,
                  growth=6_000),
            2, 4, "phantomjs firefox node chrome",
        ),
        _cast(_VICTIM, 2, 5, "apache2 php-cgi python3"),
    ),
}  # fmt: skip

TYPES = tuple(ATTACKS)


@dataclass(frozen=True, slots=True)
class Episode:
    """An attack of `type` on `machine`, `start` <= t < `end` in Unix seconds.

    `parts`: for each process its program's name and the index of its Cast among those of the type; `intensity`: how
    hard it goes, 1 being usual; below that, it looks more like ordinary work.
    """

    type: str
    machine: str
    start: float
    end: float
    parts: tuple[tuple[str, int], ...]
    intensity: float

    @property
    def programs(self) -> tuple[str, ...]:
        """The distinct program names that take part."""
        return tuple(sorted({name for name, _ in self.parts}))


def plan(random: np.random.Generator, kind: str, machine: str, start: float, intensity: float | None) -> Episode:
    """Draw an episode of type `kind`: 40 s to 3 minutes long, its processes, and its intensity if none is given."""
    parts: list[tuple[str, int]] = []
    for index, cast in enumerate(ATTACKS[kind]):
        chosen = cast.names[int(random.integers(len(cast.names)))]
        parts += [(chosen, index)] * int(random.integers(cast.fewest, cast.most + 1))
    drawn = float(np.clip(random.lognormal(0.0, 0.35), 0.3, 2.0))
    length = float(random.uniform(40, 180))
    return Episode(
        kind, machine, start, start + length, tuple(parts[:SLOTS]), drawn if intensity is None else intensity
    )
