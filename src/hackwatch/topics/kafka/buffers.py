"""What has been fetched of one partition and not been read yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from hackwatch.topics.kafka.client import Message

__all__ = ["Buffer", "Piece", "piece_of", "runs_of"]

_NEWLINE = 10
#: One call for a whole list of messages costs less than a tenth of one for each.
_VALUE, _OFFSET, _PARTITION = Message.value, Message.offset, Message.partition


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some messages in offset order, each ended by a newline in `payload`."""

    payload: bytes
    offsets: npt.NDArray[np.int64]

    @property
    def next_offset(self) -> int:
        return int(self.offsets[-1]) + 1

    def part(self, start: int, end: int | None, most: int) -> Piece | None:
        """The messages in [start, end), whole ones of at most `most` bytes (but one at least)."""
        offsets = self.offsets
        if start <= offsets[0] and (end is None or end > offsets[-1]) and len(self.payload) <= most:
            return self
        first = int(np.searchsorted(offsets, start))
        last = len(offsets) if end is None else int(np.searchsorted(offsets, end))
        if first >= last:
            return None
        edges = np.concatenate([[0], np.flatnonzero(np.frombuffer(self.payload, np.uint8) == _NEWLINE) + 1])
        fitting = int(np.searchsorted(edges, edges[first] + most, side="right")) - 1
        last = min(last, max(first + 1, fitting))
        return Piece(self.payload[edges[first] : edges[last]], offsets[first:last])


class Buffer:
    """The messages of [base, next) of a partition: all that exist there, in pieces.

    Offsets that no message has (markers of transactions, compacted ones) lie within like others.
    """

    __slots__ = ("_pieces", "base", "next", "paused", "resumed", "size")

    def __init__(self, start: int) -> None:
        self._pieces: deque[Piece] = deque()
        self.base = self.next = start
        self.size = 0
        self.paused = False
        #: Fetched again after a pause, and nothing has come yet.
        self.resumed = False

    def add(self, piece: Piece) -> None:
        """What came next; messages that are here already are left out."""
        if piece.offsets[0] < self.next:
            rest = piece.part(self.next, None, len(piece.payload))
            if rest is None:
                return
            piece = rest
        self._pieces.append(piece)
        self.size += len(piece.payload)
        self.next = piece.next_offset

    def reached(self, offset: int) -> None:
        """There is nothing more before `offset`."""
        self.next = max(self.next, offset)

    def forget_before(self, start: int) -> None:
        """What lies before `start` was read; until then it stays, to be read again."""
        while self._pieces and self._pieces[0].next_offset <= start:
            self.size -= len(self._pieces.popleft().payload)
        self.base = max(self.base, start)

    def take(self, start: int, end: int | None, most: int) -> tuple[bytes, npt.NDArray[np.int64]] | None:
        """Messages from `start` on, not past `end`, about `most` bytes of them; they stay here."""
        found: list[Piece] = []
        left = most
        for piece in self._pieces:
            part = piece.part(start, end, left)
            if part is None or (found and len(part.payload) > left):
                break
            found.append(part)
            left -= len(part.payload)
            if left <= 0 or part.next_offset != piece.next_offset:
                break
        if not found:
            return None
        if len(found) == 1:
            return found[0].payload, found[0].offsets
        return b"".join([part.payload for part in found]), np.concatenate([part.offsets for part in found])


def runs_of(messages: Sequence[Message]) -> list[tuple[int, Sequence[Message]]]:
    """Messages as they came, cut where the partition changes."""
    numbers: list[int] = list(map(_PARTITION, messages))  # type: ignore[arg-type] # only errors lack a partition
    if numbers.count(numbers[0]) == len(numbers):
        return [(numbers[0], messages)]
    runs, at = [], 0
    for number, group in groupby(numbers):
        length = len(list(group))
        runs.append((number, messages[at : at + length]))
        at += length
    return runs


def piece_of(messages: Sequence[Message], longest: int) -> Piece:
    """Messages of one partition, in order and at least one.

    One without a value becomes an empty one. A newline within becomes a blank (in JSON they mean the same). What is
    longer than `longest` is cut.
    """
    values = list(map(_VALUE, messages))
    values.append(b"")
    try:
        payload = b"\n".join(values)  # type: ignore[arg-type] # a value may be None: that is the exception
    except TypeError:
        payload = b""
    if payload.count(b"\n") != len(messages) or len(payload) > longest:
        payload = b"\n".join([(value or b"")[:longest].replace(b"\n", b" ") for value in values])
    return Piece(payload, _offsets(messages))


def _offsets(messages: Sequence[Message]) -> npt.NDArray[np.int64]:
    first, last = messages[0].offset(), messages[-1].offset()
    assert first is not None
    assert last is not None
    if last - first == len(messages) - 1:
        return np.arange(first, last + 1, dtype=np.int64)
    return np.fromiter(map(_OFFSET, messages), np.int64, len(messages))
