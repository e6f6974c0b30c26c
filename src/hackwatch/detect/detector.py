"""What the engine asks of a detector, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["Detector", "Driver"]


@dataclass(frozen=True, slots=True)
class Driver:
    """One column that drove a score: the value seen, the usual one in training, and its share.

    `seen` and `usual` are printed as a person reads them (with unit: `1.2 GiB`, `93 %`), `contribution` is the
    signed attribution towards "attack" (log-odds or -log10 p units), greatest first in a list of drivers.
    """

    column: str
    seen: str
    usual: str
    contribution: float


class Detector(Protocol):
    """A model that gives each record of a stream a score in [0, 1]."""

    @property
    def stream(self) -> str: ...

    @property
    def version(self) -> str:
        """Unique and stable name of the trained bundle, e.g. `process-000003-9f2c`."""
        ...

    @property
    def threshold(self) -> float:
        """A record whose score is >= threshold is a suspect."""
        ...

    def score(self, records: pl.DataFrame) -> npt.NDArray[np.float32]:
        """One score a row, independent of the other rows of the batch. Thread-safe."""
        ...

    def explain(self, records: pl.DataFrame, top: int = 4) -> list[list[Driver]]:
        """The drivers of each row, greatest first; called for suspects only."""
        ...
