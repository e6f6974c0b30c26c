"""Where messages and their records lie in a payload, without making a Python object of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Lines", "Pieces", "newlines"]

Positions = npt.NDArray[np.int64]
_NEWLINE, _BLANK = 10, 32
#: Payloads are searched in blocks of this size: what is found in one stays in the processor's cache.
_BLOCK = 1 << 17


def newlines(payload: bytes | bytearray) -> Positions:
    """Where the newlines of a payload are."""
    characters = np.frombuffer(payload, np.uint8)
    blocks = range(0, len(characters), _BLOCK)
    found = [np.flatnonzero(characters[start : start + _BLOCK] == _NEWLINE) + start for start in blocks]
    return np.concatenate(found) if found else np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Some messages in one payload: message `number[i]` is `payload[start[i]:end[i]]`, followed by a newline."""

    payload: bytes
    number: Positions
    start: Positions
    end: Positions

    @classmethod
    def of(cls, payload: bytes, end: Positions | None = None) -> Lines:
        """All lines of a payload; a last one without its newline counts too. `end`: their newlines, if known."""
        if payload and not payload.endswith(b"\n"):
            payload, end = payload + b"\n", None
        end = newlines(payload) if end is None else end
        start = np.empty_like(end)
        start[:1] = 0
        start[1:] = end[:-1] + 1
        return cls(payload, np.arange(len(end), dtype=np.int64), start, end)

    def __len__(self) -> int:
        return len(self.number)

    def text(self, position: int) -> bytes:
        return self.payload[self.start[position] : self.end[position]]

    def take(self, positions: Positions | Sequence[int]) -> Lines:
        """Some of the messages, in a payload of their own."""
        positions = np.asarray(positions, np.int64)
        if len(positions) == len(self):
            return self
        start, end = self.start[positions], self.end[positions]
        lengths = end - start + 1
        payload = b"".join([self.payload[a : b + 1] for a, b in zip(start.tolist(), end.tolist(), strict=True)])
        stop = np.cumsum(lengths, dtype=np.int64)
        return Lines(payload, self.number[positions], stop - lengths, stop - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """One line a record: piece i is `payload[start[i]:end[i]]`, record `index[i]` of message `number[i]`.

    `element`: whether each was cut out of an array; None: none was.
    """

    payload: bytes
    number: Positions
    index: Positions
    start: Positions
    end: Positions
    element: npt.NDArray[np.bool_] | None = None

    @classmethod
    def objects(cls, lines: Lines) -> Pieces:
        """Each message taken as one record."""
        return cls(lines.payload, lines.number, np.zeros(len(lines), np.int64), lines.start, lines.end)

    @classmethod
    def arrays(cls, lines: Lines) -> Pieces | None:
        """Arrays of objects cut between their elements.

        A cut is made wherever `},{` or `}, {` stands. One that is not between elements (within a text or a nested
        array) leaves two halves of which neither is JSON, so it cannot go unseen. The outer brackets become blanks.
        None if a message without them was cut.
        """
        cut = bytearray(lines.payload.replace(b"},{", b"}\n{").replace(b"}, {", b"} \n{"))
        characters = np.frombuffer(cut, np.uint8)
        last = lines.end - 1
        bracketed = (
            (lines.end - lines.start > 1) & (characters[lines.start] == ord("[")) & (characters[last] == ord("]"))
        )
        characters[lines.start[bracketed]] = _BLANK
        characters[last[bracketed]] = _BLANK
        end = newlines(cut)
        start = np.empty_like(end)
        start[:1] = 0
        start[1:] = end[:-1] + 1
        message = np.searchsorted(lines.start, start, side="right") - 1
        element = bracketed[message]
        if not element[1:][message[1:] == message[:-1]].all():
            return None
        first = np.searchsorted(message, np.arange(len(lines)))
        return cls(bytes(cut), lines.number[message], np.arange(len(start)) - first[message], start, end, element)

    def __len__(self) -> int:
        return len(self.number)

    def text(self, position: int) -> bytes:
        """The JSON text of a record, without blanks around it."""
        return self.payload[self.start[position] : self.end[position]].strip(b" \t\r")

    def count(self, character: str) -> int:
        """How often an ASCII character occurs in all pieces."""
        characters = np.frombuffer(self.payload, np.uint8)
        blocks = range(0, len(characters), _BLOCK)
        return sum(int(np.count_nonzero(characters[start : start + _BLOCK] == ord(character))) for start in blocks)

    def counts(self, character: str) -> Positions:
        """How often an ASCII character occurs in each piece."""
        found = np.flatnonzero(np.frombuffer(self.payload, np.uint8) == ord(character))
        return np.searchsorted(found, self.end) - np.searchsorted(found, self.start)

    def take(self, positions: Positions) -> Pieces:
        """Some of the pieces, in the same payload."""
        element = None if self.element is None else self.element[positions]
        number, index, start, end = (column[positions] for column in (self.number, self.index, self.start, self.end))
        return Pieces(self.payload, number, index, start, end, element)
