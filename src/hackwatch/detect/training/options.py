"""How to train, and what every method of training returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hackwatch.detect.bundle import Model
from hackwatch.detect.calibration import Floats
from hackwatch.detect.features import Encoder
from hackwatch.errors import ConfigurationError

__all__ = ["Options", "Progress", "Trained"]

#: Called with (what is being done, steps done, steps in all).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to train.

    `alert_budget`: share of normal records that may become suspects; 1 in 1,000 by default, since a host shows about
    70 records a second and two streams must agree before it is an attack. `trees`, `depth`, `learning_rate`,
    `row_share`, `column_share` are for boosted trees. `folds` for out-of-fold scores. `drop`: share of the worst
    distinct rows left out when no labels say what is normal, `refits` times; None: 3 % without labels, 0 with them.
    `threads`: of XGBoost; 0: one for each 50,000 rows, as many as there are cores at most, since small data only make
    more of them wait for each other.
    """

    alert_budget: float = 0.001
    seed: int = 1
    trees: int = 60
    depth: int = 6
    learning_rate: float = 0.3
    row_share: float = 1.0
    column_share: float = 1.0
    folds: int = 5
    drop: float | None = None
    refits: int = 2
    threads: int = 0

    def cores(self, rows: int) -> int:
        """Threads to use for so many rows."""
        return self.threads or max(1, min(os.cpu_count() or 1, rows // 50_000))

    def __post_init__(self) -> None:
        problems = [
            text
            for wrong, text in (
                (not 0 < self.alert_budget < 1, f"alert budget {self.alert_budget} is not between 0 and 1"),
                (self.trees < 1, f"trees {self.trees} is not at least 1"),
                (not 1 <= self.depth <= 16, f"depth {self.depth} is not 1 to 16"),
                (self.folds < 2, f"folds {self.folds} is not at least 2"),
                (self.drop is not None and not 0 <= self.drop < 0.5, f"drop {self.drop} is not 0 to 0.5"),
            )
            if wrong
        ]
        if problems:
            raise ConfigurationError("training options", problems=tuple(problems), next_step="correct the options")


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What a method returns: its parts of a bundle, and `held`: scores of normal rows held out, and their records."""

    encoder: Encoder
    model: Model
    threshold: float
    metrics: dict[str, Any]
    held: tuple[npt.NDArray[np.float32], Floats]
