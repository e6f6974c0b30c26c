"""What decoding finds in messages: raw records, what is rejected, and fields that no schema knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.streams.payload import Positions
from hackwatch.streams.stream import REJECTED_SCHEMA, Messages

__all__ = ["Found", "RawRecords", "Rejection", "Unknown", "rejected_rows"]

#: A rejected message is kept up to here.
RAW_LIMIT = 64 * 1024
_NONE_REJECTED = REJECTED_SCHEMA.to_frame()
_NAMES = 256
_NAME_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected message (`index` None) or record; not `is_json`: a bare line, which another format may know."""

    number: int
    index: int | None
    reason: str
    raw: bytes
    is_json: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class RawRecords:
    """Records of sound structure: raw columns (null if absent), where each came from, and its JSON text."""

    raw: pl.DataFrame
    number: Positions
    index: Positions
    text: Callable[[int], bytes]


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


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What was found in some messages; whoever reads one adds to it."""

    records: list[RawRecords] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    unknown: Unknown = field(default_factory=Unknown)

    def reject(self, number: int, index: int | None, reason: str, raw: bytes, *, is_json: bool = True) -> None:
        """Reject a record, or without `index` a whole message."""
        self.rejections.append(Rejection(number, index, reason, raw, is_json))


def rejected_rows(stream: str, rejections: Sequence[Rejection], messages: Messages) -> pl.DataFrame:
    """Rejections as REJECTED_SCHEMA, in offset order."""
    if not rejections:
        return _NONE_REJECTED
    ordered = sorted(rejections, key=lambda one: (one.number, -1 if one.index is None else one.index))
    return pl.DataFrame(
        {
            "stream": [stream] * len(ordered),
            "topic": [messages.topic] * len(ordered),
            "partition": [messages.partition] * len(ordered),
            "offset": messages.offsets[[one.number for one in ordered]],
            "index": [one.index for one in ordered],
            "reason": [one.reason for one in ordered],
            "raw": [one.raw[:RAW_LIMIT].decode(errors="backslashreplace") for one in ordered],
            "raw_bytes": [len(one.raw) for one in ordered],
        },
        schema=REJECTED_SCHEMA,
    )
