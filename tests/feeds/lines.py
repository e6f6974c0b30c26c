"""What the tests of feeds need to read payloads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["number", "offsets"]


def offsets(payload: bytes) -> npt.NDArray[np.int64]:
    """Where each message of a payload starts."""
    ends = np.flatnonzero(np.frombuffer(payload, np.uint8) == 10) + 1
    return np.concatenate([[0], ends[:-1]]).astype(np.int64)


def number(value: object) -> float:
    """A statistic of a Polars column, which could be of any type, as the number that it is."""
    assert isinstance(value, int | float)
    return float(value)
