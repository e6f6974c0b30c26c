"""Follow a growing file into a topic, as `tail -F` does, and go on after a restart where the last run ended.

What is guaranteed: only whole lines are sent, each at least once. A line is sent twice only if hackwatch is killed
between the append and the saving of its position. A renamed file is read to its end before the new one. Lines can be
missed only where the system takes them away unread: `copytruncate` of lines written since the last look (0.2 s), and
a file that was deleted or compressed while nobody followed it; the latter is told as a note.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from hackwatch.clock import Clock, SystemClock
from hackwatch.errors import ConfigurationError, DataError, ResourceError
from hackwatch.feeds.followed import OpenFile, find_position, load_position, save_position
from hackwatch.feeds.lines import CsvLines, check_names, form_of
from hackwatch.feeds.pace import OnProgress, Progress, wait_until
from hackwatch.streams.formats import CSV
from hackwatch.streams.stream import Stream
from hackwatch.topics.topic import TopicWriter

__all__ = ["Follow", "state_file"]

_CHUNK_BYTES = 1 << 20
#: A longer line is sent in pieces of this size, each of which will be rejected.
_LONGEST_LINE = 16 << 20


def state_file(data: Path, path: Path, topic: str) -> Path:
    """Where the position in `path` is kept under a data folder: one for each topic that it is followed into."""
    name = hashlib.blake2b(f"{path.absolute()}\0{topic}".encode(), digest_size=8).hexdigest()
    return data / "follow" / f"{name}.json"


class Follow:
    """Follows one file (see the module for what is guaranteed).

    `state`: file that keeps the position between runs. `from_start`: without a saved position begin at the start of
    the file instead of its end. `stream`: whose lines they are. `form`: the name of their format among the stream's;
    None looks at the file, of which a beginning that is of none of them is a DataError. `linger`: a renamed file
    is kept until nothing was added to it for so many seconds, since its writer may not have noticed yet.
    """

    def __init__(
        self,
        path: Path,
        state: Path,
        stream: Stream,
        *,
        from_start: bool = False,
        form: str | None = None,
        poll_seconds: float = 0.2,
        linger: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        self._path, self._state = path.absolute(), state
        self._stream, self._from_start, self._given_form = stream, from_start, form
        self._poll_seconds, self._linger = poll_seconds, linger
        self._clock = clock or SystemClock()
        self._file: OpenFile | None = None
        self._form: str | None = None
        self._last_form: str | None = None
        self._csv: CsvLines | None = None
        self._started = False
        self._silent_since: float | None = None  # since the file was found replaced
        self._sent = Progress(0, 0, 0)
        self._note: str | None = None

    def run(self, writer: TopicWriter, stop: threading.Event, on_progress: OnProgress | None = None) -> Progress:
        """Follow until `stop` is set; what was sent. Raises ResourceError for a file that cannot be read."""
        flushed = True
        try:
            while not stop.is_set():
                moved = self.step(writer)
                if on_progress and (moved or self._note):
                    on_progress(Progress(self._sent.messages, self._sent.records, self._sent.bytes, self._note))
                self._note = None
                if moved:
                    flushed = False
                    continue
                if not flushed:
                    writer.flush()
                    flushed = True
                wait_until(self._clock, stop, self._clock.monotonic() + self._poll_seconds)
        finally:
            self.close()
        return self._sent

    def step(self, writer: TopicWriter) -> bool:
        """Look once: send what is there or move to the next file; False when there was nothing to do."""
        try:
            file = self._file or self._open()
            if file is None:
                return False
            if file.rewritten():
                self._begin(file, "the file was truncated: reading it from its start")
            if self._understood(file) and self._send(file, writer):
                self._silent_since = None
                return True
            return self._replaced(file) and self._leave(file, writer)
        except OSError as error:
            raise ResourceError(
                f"cannot read the followed file: {error.strerror}",
                where=str(self._path),
                next_step="let the user that runs hackwatch read it",
            ) from error

    # --- which file

    def _open(self) -> OpenFile | None:
        first, self._started = not self._started, True
        position = load_position(self._state) if first else None
        if position is not None:
            self._file = find_position(self._path, position)
            if self._file is None:
                self._note = "the file that was followed is gone: what was left of it unread is missed"
        if self._file is None:
            if self._path.is_fifo():
                raise ConfigurationError(
                    "a pipe cannot be followed: after a restart its lines could not be found again",
                    where=str(self._path),
                    next_step="follow the file that it comes from, or write it into a file first",
                )
            try:
                self._file = OpenFile(self._path)
            except FileNotFoundError:
                if first:
                    self._note = self._note or f"waiting for {self._path}: it is not there yet"
                return None
            if first and position is None and not self._from_start:
                self._file.move_to_last_line_end()
            save_position(self._state, self._file.position())
        self._form = self._csv = None
        self._silent_since = None
        return self._file

    def _begin(self, file: OpenFile, note: str) -> None:
        file.move(0)
        self._form = self._csv = None
        self._note = note

    def _replaced(self, file: OpenFile) -> bool:
        """Whether another file has had the name for a while, in which nothing was added to the old one."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        if (status.st_dev, status.st_ino) == file.identity:
            return False
        if self._silent_since is None:
            self._silent_since = self._clock.monotonic()
        return self._clock.monotonic() - self._silent_since >= self._linger

    def _leave(self, file: OpenFile, writer: TopicWriter) -> bool:
        """Send what is left of a replaced file (its last line may have no newline) and go to the new one."""
        rest = file.peek(_LONGEST_LINE)
        if rest:
            self._append(file, writer, rest, rest.removesuffix(b"\n") + b"\n")
        if len(rest) < _LONGEST_LINE:
            file.close()
            self._file = None
            self._note = "the file was replaced: going on with the new one"
        return True

    # --- what is in it

    def _understood(self, file: OpenFile) -> bool:
        """Know the form of the file; False while its first line is incomplete. A CSV's header is not sent."""
        if self._form is None:
            line = file.first_line(_CHUNK_BYTES)
            if line is None:
                return False
            self._form = self._given_form or self._recognised(file)
            if self._form == CSV.name:
                self._csv = CsvLines.of(line)
                check_names(self._stream, self._csv.names, f"{self._path}:1")
                if file.offset < len(line):
                    file.move(len(line))
        return True

    def _recognised(self, file: OpenFile) -> str:
        """The format of the file's lines; a log that strangers begin again keeps that of the one before."""
        try:
            form = form_of(self._stream, file.head(_CHUNK_BYTES), str(self._path)).name
        except DataError:
            if self._last_form is None:
                raise
            form = self._last_form
            self._note = f"the file's beginning is of no known format: reading it as {form}, as the one before"
        self._last_form = form
        return form

    def _send(self, file: OpenFile, writer: TopicWriter) -> bool:
        size = _CHUNK_BYTES
        while True:
            data = file.peek(size)
            cut = data.rfind(b"\n") + 1
            if cut:
                self._append(file, writer, data[:cut], data[:cut])
                return True
            if len(data) < size:
                return False
            if size >= _LONGEST_LINE:
                self._append(file, writer, data, data + b"\n")
                return True
            size *= 4

    def _append(self, file: OpenFile, writer: TopicWriter, read: bytes, lines: bytes) -> None:
        payload, bad = self._csv.to_ndjson(lines) if self._csv else (lines, 0)
        if bad:
            self._note = f"{bad} lines do not fit the header; they are sent as they are, to be rejected"
        writer.append_payload(payload, key=str(self._path))
        writer.flush()  # before the position says that it was sent
        file.move(file.offset + len(read))
        save_position(self._state, file.position())
        count, sent = payload.count(b"\n"), self._sent
        self._sent = Progress(sent.messages + count, sent.records + count, sent.bytes + len(payload))

    def close(self) -> None:
        """Remember where the next run goes on, and let go of the file."""
        if self._file is not None:
            save_position(self._state, self._file.position())
            self._file.close()
            self._file = None
