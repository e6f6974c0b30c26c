"""How a simulated process lives: how often it runs, what it costs, how it grows and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["KERNEL", "POLICIES", "Behaviour", "Policy", "Table"]


class Policy(NamedTuple):
    """How atop prints a scheduling policy; the UNSW tables lost the sign of a negative nice value."""

    name: str
    nice: int
    priority: int
    realtime: int


POLICIES = {
    "norm": Policy("norm", 0, 120, 0),
    "kernel": Policy("norm", 20, 100, 0),  # nice -20
    "audio": Policy("norm", 11, 109, 0),  # nice -11
    "nice": Policy("norm", 10, 130, 0),
    "nicest": Policy("norm", 19, 139, 0),
    "fifo": Policy("fifo", 0, 49, 50),
    "round": Policy("rr", 0, 9, 90),
}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Chances are per sampling interval, sizes in KiB, CPU a fraction of one processor.

    `run`: found running; `cpu`: mean use while running; `parallel`: threads that run beside the first one;
    `threads`: typical number of sleeping threads;
    `text`, `virtual`, `resident`: medians; `faults`: median of minor faults while running;
    `grow`: memory changes, by `growth` on average; `ends`: it ends; `at_once`: it ends within the interval
    of its birth; `again`: its ended place is taken by a new process; `fails`: ends with a non-zero code.
    """

    run: float = 0.03
    cpu: float = 0.25
    parallel: float = 0.03
    threads: float = 1.5
    text: float = 180
    virtual: float = 60_000
    resident: float = 5_000
    faults: float = 12
    grow: float = 0.02
    growth: float = 200
    ends: float = 0.0005
    at_once: float = 0.0
    again: float = 0.5
    fails: float = 0.06
    policy: str = "norm"


KERNEL = Behaviour(run=0.02, cpu=0.05, threads=1, text=0, virtual=0, resident=0, faults=0, grow=0, growth=0,
                   ends=0.0002, fails=0, policy="kernel")  # fmt: skip


class Table:
    """Behaviours as columns: one float32 array for each field, `policy` as index into POLICIES."""

    def __init__(self, behaviours: Sequence[Behaviour]) -> None:
        order = list(POLICIES)
        self.policy: npt.NDArray[np.int16] = np.array([order.index(b.policy) for b in behaviours], np.int16)
        self._columns = {
            field.name: np.array([getattr(b, field.name) for b in behaviours], np.float32)
            for field in fields(Behaviour)
            if field.name != "policy"
        }

    def column(self, name: str, rows: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
        """The field `name` of each row's behaviour."""
        return self._columns[name][rows]
