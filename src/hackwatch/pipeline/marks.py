"""What clocks tell: which records are late, and how far sources have come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hackwatch.pipeline.arrivals import Arrival

__all__ = ["NEVER", "Judged", "Marks", "Mask", "Sweep", "Times"]

#: The watermark before the first record (microseconds).
NEVER = -(2**62)

Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Which records are late, and if asked for, the watermark of each one's source before it. `seen`: what came."""

    late: Mask
    watermarks: Times | None = None
    seen: Sequence[Arrival] = ()


@dataclass(frozen=True, slots=True)
class Marks:
    """The watermarks that a step has moved: by source, microseconds. `others`: the shared clock's, if it moved."""

    moved: Mapping[str, int]
    others: int | None = None


@dataclass(frozen=True, slots=True)
class Sweep:
    """When the clocks of all sources were looked at: the partitions with unread messages, and how many seconds each
    partition had been without. `forgot`: whether clocks were given up then."""

    waiting: frozenset[int]
    quiet: Mapping[int, float]
    forgot: bool = False
