"""One partition of a spool: the writer's and the reader's side."""

from __future__ import annotations

import contextlib
import errno
import os
from bisect import bisect_right
from pathlib import Path

import numpy as np

from hackwatch.clock import Clock
from hackwatch.errors import DataError
from hackwatch.streams.payload import newlines
from hackwatch.streams.stream import Messages
from hackwatch.topics.retention import committed_offsets
from hackwatch.topics.segments import (
    Tail,
    environment_error,
    locked,
    open_private,
    partition_folder,
    recover,
    segment_bases,
    segment_path,
    sync_folder,
)

__all__ = ["PartitionReader", "PartitionWriter"]

_SYNC_SECONDS = 1.0
_SCAN_BYTES = 1 << 20


class PartitionWriter:
    """Appends to one partition under its lock; opens files at the first append."""

    def __init__(self, topic: Path, number: int, durability: str, segment_bytes: int, clock: Clock) -> None:
        self._topic, self._number = topic, number
        self._folder = partition_folder(topic, number)
        self._durability, self._segment_bytes, self._clock = durability, segment_bytes, clock
        self._process = 0
        self._tail: Tail | None = None
        self._segment = -1
        self._base = -1
        self._synced_at = 0.0
        self._dirty = False

    def append(self, payload: bytes) -> None:
        """Append whole lines: all of them, or none and ResourceError."""
        try:
            tail = self._open_tail()
            with locked(tail.handle):
                base, end = self._position(tail)
                base = self._roll(tail, base, end, len(payload))
                self._write(tail, payload, base, end)
            if self._durability == "interval" and self._clock.monotonic() - self._synced_at >= _SYNC_SECONDS:
                self.flush()
        except OSError as error:
            environment_error(error, segment_path(self._folder, max(0, self._base)))

    def _open_tail(self) -> Tail:
        if self._tail is None or self._process != os.getpid():  # a lock inherited by fork excludes nobody
            self._forget()
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._tail = Tail(self._folder, create=True)
            self._process = os.getpid()
            self._synced_at = self._clock.monotonic()
        return self._tail

    def _position(self, tail: Tail) -> tuple[int, int]:
        """(active base, end) under the lock, with the active segment open; repairs what a dead writer left."""
        known = tail.read()
        if known is not None and self._trusted(known[0]) and self._size() == known[1] - known[0]:
            return known
        found = recover(self._folder, tail, self._committed())
        self._open_segment(found[0], create=True)
        self._sync_names()
        return found

    def _trusted(self, base: int) -> bool:
        """Open the active segment; the first time see that none lies after it (a power cut may age the tail)."""
        first = self._segment < 0
        return not (first and segment_bases(self._folder)[-1:] != [base]) and self._open_segment(base)

    def _committed(self) -> int:
        return max(committed_offsets(self._topic).get(self._number, [0]))

    def _size(self) -> int:
        return os.fstat(self._segment).st_size

    def _open_segment(self, base: int, *, create: bool = False) -> bool:
        if base == self._base:
            return True
        if self._segment >= 0:
            self._sync()
            os.close(self._segment)
            self._segment = self._base = -1
        try:
            path = segment_path(self._folder, base)
            self._segment = open_private(path, os.O_RDWR | (os.O_CREAT if create else 0))
        except FileNotFoundError:
            return False
        self._base = base
        return True

    def _roll(self, tail: Tail, base: int, end: int, coming: int) -> int:
        """The segment for the next append: a new one if the active one would grow too large.

        Published before it is made: should this process die in between, the next one finds it missing, instead of
        appending to the old one while the new one lies there for the same positions.
        """
        if end == base or end - base + coming <= self._segment_bytes:
            return base
        if self._durability != "none":
            os.fdatasync(self._segment)  # what other writers put there too: the next one must not outlive it
        tail.publish(end, end)
        self._open_segment(end, create=True)
        self._sync_names()
        return end

    def _sync_names(self) -> None:
        if self._durability != "none":
            sync_folder(self._folder)

    def _write(self, tail: Tail, payload: bytes, base: int, end: int) -> None:
        """Write at the end of the active segment, then publish; on failure cut off what was written and raise."""
        view, written, after = memoryview(payload), 0, (base, end + len(payload))
        try:
            while written < len(payload):
                written += os.pwrite(self._segment, view[written:], end - base + written)
            self._dirty = True
            if self._durability == "always":
                self._sync()
            tail.publish(*after)
        except BaseException:
            with contextlib.suppress(OSError):  # if even this fails, the next writer repairs it
                if tail.read() != after:
                    os.ftruncate(self._segment, end - base)
            raise

    def _sync(self) -> None:
        if self._dirty and self._durability != "none":
            os.fdatasync(self._segment)
        self._dirty = False
        self._synced_at = self._clock.monotonic()

    def flush(self) -> None:
        """Put what this writer appended on disk (unless durability is "none")."""
        if self._segment >= 0 and self._process == os.getpid():
            try:
                self._sync()
            except OSError as error:
                environment_error(error, segment_path(self._folder, self._base))

    def close(self) -> None:
        self.flush()
        self._forget()

    def _forget(self) -> None:
        if self._segment >= 0:
            os.close(self._segment)
        if self._tail is not None:
            self._tail.close()
        self._tail, self._segment, self._base, self._dirty = None, -1, -1, False


class PartitionReader:
    """Reads one partition up to its published end; keeps one segment open."""

    def __init__(self, folder: Path, topic: str, number: int, committed: int, longest: int) -> None:
        self._folder, self._topic, self._number = folder, topic, number
        self._committed, self._longest = committed, longest
        self._tail: Tail | None = None
        self._active, self._end = -1, 0
        self._bases: list[int] = []
        self._base = -1
        self._segment = -1

    def start(self) -> int:
        """The oldest position still kept."""
        bases = segment_bases(self._folder)
        return bases[0] if bases else self.end()

    def end(self) -> int:
        """The position after the last whole append."""
        try:
            tail = self._tail or self._open_tail()
            known = tail.read() if tail else None
        except OSError as error:
            environment_error(error, self._folder / "tail")
        if known is not None:
            self._active, self._end = known
        return self._end

    def _open_tail(self) -> Tail | None:
        """Open the tail and adopt what a dead writer left, unless a living one holds the lock (it does it then)."""
        try:
            self._tail = Tail(self._folder, create=False)
        except FileNotFoundError:
            return None
        except PermissionError:
            self._tail = Tail(self._folder, create=False, writable=False)
            return self._tail
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            self._tail = Tail(self._folder, create=False, writable=False)
            return self._tail
        with locked(self._tail.handle, wait=False) as mine:
            if mine:
                self._repair(self._tail)
        return self._tail

    def _repair(self, tail: Tail) -> None:
        known = tail.read()
        if known is not None:
            with contextlib.suppress(FileNotFoundError):
                if segment_path(self._folder, known[0]).stat().st_size == known[1] - known[0]:
                    return
        if known is not None or segment_bases(self._folder):
            recover(self._folder, tail, self._committed)

    def read(self, start: int, max_bytes: int, end: int | None) -> Messages | None:
        """Whole messages from `start`, of one segment, about `max_bytes`, not past `end`."""
        published = self.end()
        limit = published if end is None else min(end, published)
        if start >= limit:
            if start > published:
                raise self._gone(start, f"the topic ends at {published}, before this position: it lost its end")
            return None
        base, following = self._open_at(start)
        limit = min(limit, following)
        try:
            payload, next_offset = self._lines(start, base, limit, max_bytes)
        except OSError as error:
            environment_error(error, segment_path(self._folder, base))
        if not payload:
            return None
        ends = newlines(payload)
        offsets = np.empty(len(ends), dtype=np.int64)
        offsets[0] = start
        np.add(ends[:-1], start + 1, out=offsets[1:])
        return Messages(self._topic, self._number, payload, offsets, next_offset, ends)

    def _open_at(self, start: int) -> tuple[int, int]:
        """Open the segment that holds `start`: (its base, where the next one starts)."""
        place = bisect_right(self._bases, start)
        if place == 0 or (place == len(self._bases) and self._bases[-1] != self._active):
            # rolled or pruned since the last look
            self._bases = segment_bases(self._folder)
            place = bisect_right(self._bases, start)
        if place == 0:
            raise self._gone(start, "this range was removed by retention")
        base = self._bases[place - 1]
        following = self._bases[place] if place < len(self._bases) else 1 << 63
        if base != self._base:
            self._switch(base, start)
        return base, following

    def _switch(self, base: int, start: int) -> None:
        if self._segment >= 0:
            os.close(self._segment)
            self._segment = self._base = -1
        path = segment_path(self._folder, base)
        try:
            self._segment = open_private(path, os.O_RDONLY)
        except FileNotFoundError:
            self._bases = []
            raise self._gone(start, "this range was removed by retention") from None
        except OSError as error:
            environment_error(error, path)
        self._base = base

    def _lines(self, start: int, base: int, limit: int, max_bytes: int) -> tuple[bytes, int]:
        """(bytes up to a newline, position after it); empty when no whole line lies before `limit`."""
        wanted = max(1, min(max_bytes, limit - start))
        data = os.pread(self._segment, wanted, start - base)
        if not data:
            raise self._gone(start, "the segment is shorter than it was: its end is missing")
        cut = data.rfind(b"\n") + 1
        if cut:
            return (data if cut == len(data) else data[:cut]), start + cut
        return self._long_line(start, base, limit, len(data))

    def _long_line(self, start: int, base: int, limit: int, seen: int) -> tuple[bytes, int]:
        """One line longer than was asked for: whole, or cut to the longest length when it is longer than that."""
        position = start + seen
        while position < limit:
            chunk = os.pread(self._segment, min(_SCAN_BYTES, limit - position), position - base)
            if not chunk:
                raise self._gone(position, "the segment is shorter than it was: its end is missing")
            found = chunk.find(b"\n")
            if found >= 0:
                after = position + found + 1
                line = os.pread(self._segment, min(after - 1 - start, self._longest), start - base)
                return line + b"\n", after
            position += len(chunk)
        return b"", start

    def _gone(self, start: int, what: str) -> DataError:
        return DataError(
            what,
            where=f"{self._topic}/{self._number}/{start}",
            next_step=f"the oldest position kept is {self.start()}; keep more with [spool] retention_gib and "
            "retention_hours, or let another pipeline name begin there",
        )

    def close(self) -> None:
        if self._segment >= 0:
            os.close(self._segment)
        if self._tail is not None:
            self._tail.close()
        self._segment, self._base, self._tail = -1, -1, None
