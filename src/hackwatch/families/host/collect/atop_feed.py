"""Feeds the output of `atop -P PRG,PRC,PRM 5`, from a file or as it comes through a pipe."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from hackwatch.errors import DataError, ResourceError
from hackwatch.families.host.collect.atop import AtopParser
from hackwatch.feeds.pace import OnProgress, Progress
from hackwatch.topics.topic import TopicWriter

__all__ = ["AtopFeed"]

_READ_BYTES = 1 << 20
#: Text gathered before it is parsed, at least while there is more to read at once: a file is parsed in such portions.
_PORTION_BYTES = 8 << 20
#: An interval of 100,000 processes with long command lines stays below.
_INTERVAL_BYTES = 256 << 20
_END = b"\nSEP\n"
_STOP_SECONDS = 0.2


class AtopFeed:
    """Output of atop as process and memory records; ends with the file, or when the pipe is closed.

    `source`: a path (a named pipe too), or `-` for standard input. `machine` replaces the host name in the output.
    `memory_bytes`: memory of the machine for MEM, unless the output has MEM lines; by default this machine's where
    the output is piped in, else unknown and MEM 0. Raises DataError where there is nothing of atop -P in it.
    """

    def __init__(self, source: str = "-", *, machine: str | None = None, memory_bytes: int | None = None) -> None:
        self._source = source
        if memory_bytes is None and source == "-" and (machine or socket.gethostname()) == socket.gethostname():
            memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._parser = AtopParser(machine=machine, memory_bytes=memory_bytes)

    def run(
        self,
        process_writer: TopicWriter,
        memory_writer: TopicWriter,
        stop: threading.Event,
        on_progress: OnProgress | None = None,
    ) -> Progress:
        """Write records until the input ends or `stop` is set; each interval as soon as it is whole."""
        progress = Progress(0, 0, 0)
        with self._opened() as file:
            for portion in self._portions(file, stop):
                found = self._parser.parse(portion)
                size = progress.bytes
                for machine, (process, memory) in found.payloads.items():
                    process_writer.append_payload(process, key=machine)
                    memory_writer.append_payload(memory, key=machine)
                    size += len(process) + len(memory)
                records = progress.records + 2 * found.records
                progress = Progress(records, records, size, _note(found.unreadable, found.incomplete))
                if on_progress is not None:
                    on_progress(progress)
        if not progress.records and not stop.is_set():
            raise self._error("no process of atop -P in it")
        return progress

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        if self._source == "-":
            yield sys.stdin.fileno()
            return
        try:
            # Without waiting: a named pipe must not hold us before its writer comes.
            file = os.open(self._source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ResourceError(
                f"cannot read it: {error.strerror}", where=self._source, next_step="check the path and its permissions"
            ) from error
        try:
            yield file
        finally:
            os.close(file)

    def _portions(self, file: int, stop: threading.Event) -> Iterator[bytes]:
        """Runs of whole intervals; what follows the last SEP comes last, as far as it goes."""
        gathered, searched = bytearray(), 0
        for piece in _pieces(file, stop):
            gathered += piece
            if len(piece) == _READ_BYTES and len(gathered) < _PORTION_BYTES:
                continue
            end = gathered.rfind(_END, searched)
            searched = max(0, len(gathered) - len(_END))
            if end >= 0:
                yield bytes(gathered[: end + len(_END)])
                del gathered[: end + len(_END)]
                searched = 0
            elif len(gathered) > _INTERVAL_BYTES:
                raise self._error(f"no end of an interval (SEP) within {_INTERVAL_BYTES >> 20} MiB")
        if gathered and not stop.is_set():
            yield bytes(gathered)

    def _error(self, what: str) -> DataError:
        where = "standard input" if self._source == "-" else str(Path(self._source))
        return DataError(what, where=where, next_step="write it with: atop -P PRG,PRC,PRM 5")


def _note(unreadable: int, incomplete: int) -> str | None:
    """What a person should know about lines left out."""
    notes = []
    if unreadable:
        notes.append(f"{unreadable} lines of an unknown form left out")
    if incomplete:
        notes.append(f"{incomplete} processes without one of their PRG, PRC and PRM lines left out")
    return "; ".join(notes) or None


def _pieces(file: int, stop: threading.Event) -> Iterator[bytes]:
    """What can be read until the end of the input or `stop`."""
    piped, written = not stat.S_ISREG(os.fstat(file).st_mode), False
    while not stop.is_set():
        if piped and not select.select([file], [], [], _STOP_SECONDS)[0]:
            continue
        try:
            piece = os.read(file, _READ_BYTES)
        except BlockingIOError:
            continue
        if piece:
            written = True
            yield piece
        elif stat.S_ISFIFO(os.fstat(file).st_mode) and not written:
            stop.wait(_STOP_SECONDS)  # a named pipe whose writer has not come yet
        else:
            return
