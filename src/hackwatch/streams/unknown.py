"""Fields that no schema knows: counted by name, and for each message."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

__all__ = ["Unknown"]

_NAMES = 256
_NAME_LENGTH = 64


class Unknown:
    """How often each unknown field occurred, and in which messages.

    Beyond 256 different names (cut to 64 characters) all others share one entry.
    """

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self._one_by_one: list[int] = []
        self._together: list[npt.NDArray[np.int64]] = []

    def add(self, name: str, number: int) -> None:
        """A field of message `number`."""
        self._count(name, 1)
        self._one_by_one.append(number)

    def add_all(self, name: str, numbers: npt.NDArray[np.int64]) -> None:
        """A field of many records: the numbers of their messages."""
        if len(numbers):
            self._count(name, len(numbers))
            self._together.append(numbers)

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """The number of its message, for each occurrence, in no order."""
        return np.concatenate([np.array(self._one_by_one, np.int64), *self._together])

    def by_message(self, messages: int) -> npt.NDArray[np.int64] | None:
        """How many each of so many messages has; None if there are none at all."""
        return np.bincount(self.numbers, minlength=messages) if self.names else None

    def _count(self, name: str, times: int) -> None:
        name = name[:_NAME_LENGTH]
        self.names[name if name in self.names or len(self.names) < _NAMES else "(other)"] += times
