"""A spool under any sequence of appends, crashes, reads, commits and prunes equals a list of bytes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hackwatch.errors import DataError
from hackwatch.topics import Retention
from hackwatch.topics.spool import SpoolReader, SpoolWriter

MESSAGE = st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"."))


class SpoolModel(RuleBasedStateMachine):
    """The oracle: every byte that was ever appended, and below which position retention may delete."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.written = b""
        self.committed = 0
        self.segment_bytes = 64
        self.writers = [self._writer(), self._writer()]
        self.reader = SpoolReader(self.folder)

    def _writer(self) -> SpoolWriter:
        return SpoolWriter(self.folder, partitions=1, segment_bytes=self.segment_bytes, durability="none")

    @rule(messages=st.lists(MESSAGE, max_size=5), who=st.integers(0, 1))
    def append(self, messages: list[bytes], who: int) -> None:
        self.writers[who].append(messages)
        self.written += b"".join(message + b"\n" for message in messages)

    @rule(left=MESSAGE, who=st.integers(0, 1))
    def writer_dies_while_writing(self, left: bytes, who: int) -> None:
        """The bytes are in the file, never published; the next writer or reader to come adopts them."""
        active = max(self.folder.rglob("*.ndjson"), default=None)
        if active is None or not left:
            return
        with active.open("ab") as file:
            file.write(left)
        self.writers[who] = self._writer()
        self.writers[who].append([b"next"])
        self.written += left + b"\nnext\n"

    @rule(size=st.integers(1, 200))
    def segments_change_size(self, size: int) -> None:
        self.segment_bytes = size
        self.writers = [self._writer(), self._writer()]

    @rule()
    def reader_starts_anew(self) -> None:
        self.reader.close()
        self.reader = SpoolReader(self.folder)

    @precondition(lambda self: self.written)
    @rule(data=st.data(), max_bytes=st.integers(1, 100))
    def read(self, data: st.DataObject, max_bytes: int) -> None:
        edges = [0, *(place + 1 for place, byte in enumerate(self.written) if byte == 10)]
        start = data.draw(st.sampled_from(edges))
        end = data.draw(st.one_of(st.none(), st.sampled_from(edges)))
        oldest = self.reader.start_offset(0)
        limit = len(self.written) if end is None else end
        if start >= limit:
            assert self.reader.read(0, start, max_bytes=max_bytes, end=end) is None
        elif start < oldest:
            with pytest.raises(DataError):
                self.reader.read(0, start, max_bytes=max_bytes, end=end)
        else:
            messages = self.reader.read(0, start, max_bytes=max_bytes, end=end)
            assert messages is not None
            assert messages.payload == self.written[start : messages.next_offset]
            assert messages.offsets.tolist() == [edge for edge in edges if start <= edge < messages.next_offset]
            assert start < messages.next_offset <= limit
            assert len(messages) == 1 or len(messages.payload) <= max_bytes

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        self.committed = data.draw(st.integers(self.committed, len(self.written)))
        self.reader.commit({0: self.committed})

    @rule(max_bytes=st.integers(0, 300))
    def prune(self, max_bytes: int) -> None:
        self.reader.prune(Retention(max_bytes=max_bytes))

    @invariant()
    def ends_agree_and_nothing_uncommitted_is_gone(self) -> None:
        assert self.reader.end_offset(0) == len(self.written)
        assert self.reader.start_offset(0) <= self.committed

    def teardown(self) -> None:
        self.reader.close()
        for writer in self.writers:
            writer.close()
        shutil.rmtree(self.folder)


TestSpoolModel = SpoolModel.TestCase
TestSpoolModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
