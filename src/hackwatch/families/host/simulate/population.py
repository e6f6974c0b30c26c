"""Who lives on the machines: names, roles and the places (slots) of processes, as columns over all machines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hackwatch.families.host.simulate.attacks import ATTACKS, SLOTS
from hackwatch.families.host.simulate.behaviour import Table
from hackwatch.families.host.simulate.programs import ROLES, programs

__all__ = ["CMD_WIDTH", "FIRST_PID", "MAX_PID", "Catalogue", "Population", "machine_names", "role_of"]

#: atop cuts CMD to this many characters.
CMD_WIDTH = 14
#: PIDs start again at FIRST_PID after MAX_PID - 1 (the Linux limit on 64 bits).
FIRST_PID, MAX_PID = 20_000, 4_194_304
_KERNEL_SHARE, _SHORT_SHARE, _HOT_SHARE, _SERVER_SHARE = 0.257, 0.05, 0.085, 0.1
_RARE_CHANCE = 0.12

Integers = npt.NDArray[np.int64]
Indexes = npt.NDArray[np.int16]


def role_of(machine: int) -> str:
    """The role of a machine by its number."""
    return ROLES[machine % len(ROLES)]


def machine_names(machines: int) -> tuple[str, ...]:
    """`web-1`, `desk-1`, `db-1`, `desk-2`, `mail-1`, `web-2`, ...: the same whatever their number."""
    seen: dict[str, int] = {}
    names = []
    for machine in range(machines):
        role = role_of(machine)
        seen[role] = seen.get(role, 0) + 1
        names.append(f"{role}-{seen[role]}")
    return tuple(names)


class Catalogue:
    """All behaviours as a table, all CMDs as a pool, and which of them each role draws from."""

    def __init__(self) -> None:
        entries = programs()
        self.entries = entries
        behaviours = [program.behaviour for program in entries]
        self.cast_row: dict[tuple[str, int], int] = {}
        names = [program.name[:CMD_WIDTH] for program in entries]
        for kind, casts in ATTACKS.items():
            for index, cast in enumerate(casts):
                self.cast_row[kind, index] = len(behaviours)
                behaviours.append(cast.behaviour)
                names += [name[:CMD_WIDTH] for name in cast.names]
        self.table = Table(behaviours)
        self.commands = tuple(sorted(set(names)))
        self.bulk = _bulk(len(self.commands))
        self._command = {command: index for index, command in enumerate(self.commands)}
        self.is_short = np.array([p.kind == "short" for p in entries] + [False] * len(self.cast_row))
        self.short = np.array([self.command(p.name) for p in entries if p.kind == "short"], np.int16)

    def command(self, name: str) -> int:
        """The index of a program's name (cut to 14 characters) among `commands`."""
        return self._command[name[:CMD_WIDTH]]

    def _rows(self, role: str, chosen: Sequence[bool]) -> Indexes:
        here = [p.roles in ("*", role) and wanted for p, wanted in zip(self.entries, chosen, strict=True)]
        return np.flatnonzero(here).astype(np.int16)

    def inhabitants(self, random: np.random.Generator, role: str, processes: int) -> Indexes:
        """Catalogue rows for each of the places of one machine: every program once before one comes twice."""
        entries = self.entries
        rare = {p for p in entries if p.behaviour.policy in ("nice", "nicest", "audio")}
        skipped = {p for p in rare if random.random() > _RARE_CHANCE}
        usual = [p.kind == "daemon" and p not in skipped for p in entries]
        run = [p.behaviour.run for p in entries]
        groups = (
            (_KERNEL_SHARE, [p.kind == "kernel" for p in entries]),
            (_SHORT_SHARE, [p.kind == "short" for p in entries]),
            (_HOT_SHARE, [u and r > 0.4 for u, r in zip(usual, run, strict=True)]),
            (_SERVER_SHARE, [u and 0.1 < r <= 0.4 for u, r in zip(usual, run, strict=True)]),
            (1.0, [u and r <= 0.1 for u, r in zip(usual, run, strict=True)]),
        )
        drawn: list[Indexes] = []
        left = processes
        for share, chosen in groups:
            count = left if share == 1.0 else min(left, _round(random, share * processes))
            drawn.append(_spread(random, self._rows(role, chosen), count))
            left -= count
        return random.permutation(np.concatenate(drawn))


def _bulk(commands: int) -> npt.NDArray[np.float32]:
    """How large each program's code is against the usual of its kind: the same in every world."""
    return np.random.default_rng(14).lognormal(0, 0.5, commands).astype(np.float32)


def _round(random: np.random.Generator, value: float) -> int:
    """Up or down by chance, right on average: so that shares hold for small machines too."""
    return int(value + random.random())


def _spread(random: np.random.Generator, rows: Indexes, count: int) -> Indexes:
    rounds = -(-count // max(1, len(rows)))
    return np.concatenate([random.permutation(rows) for _ in range(max(1, rounds))])[:count]


class Population:
    """The places of processes of all machines at the start, machine after machine, `width` places each.

    The last SLOTS places of a machine are kept for attacks, all others are `usual`. `row`: behaviour; `command`:
    name; `pid`; `home`: number of the machine; `scale`: how a process differs from the usual one of its program;
    `last_pid` (one per machine): the last PID given.
    """

    def __init__(self, catalogue: Catalogue, seed: int, machines: int, processes: int) -> None:
        self.width = processes + SLOTS
        size = machines * self.width
        self.usual = np.arange(size) % self.width < processes
        self.row = np.zeros(size, np.int16)
        self.command = np.zeros(size, np.int16)
        self.pid: Integers = np.zeros(size, np.int64)
        self.scale = np.ones(size, np.float32)
        self.home = np.repeat(np.arange(machines, dtype=np.int32), self.width)
        self.last_pid: Integers = np.zeros(machines, np.int64)
        command = np.array([catalogue.command(program.name) for program in catalogue.entries], np.int16)
        for machine in range(machines):
            random = np.random.default_rng([seed, machine])
            rows = catalogue.inhabitants(random, role_of(machine), processes)
            places = slice(machine * self.width, machine * self.width + processes)
            self.row[places], self.command[places] = rows, command[rows]
            self.scale[places] = random.lognormal(-0.08, 0.4, processes)
            self.pid[places] = _first_pids(random, processes)
            self.last_pid[machine] = int(self.pid[places].max()) + 40


def _first_pids(random: np.random.Generator, count: int) -> Integers:
    """Distinct PIDs of a machine that has been up for a while (mean 3,081, standard deviation 951)."""
    drawn = np.sort(np.clip(random.normal(3_081, 940, count), 300, None).astype(np.int64))
    ranks = np.arange(count)
    return random.permutation(np.maximum.accumulate(drawn - ranks) + ranks)
