"""What is told beside the engine's own view, by who started the engine together with the screen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hackwatch.views.live import Note, Tone

__all__ = ["Story", "bar"]


class Story:
    """Notes, and one line on what is going on. Safe for several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: Unix seconds."""
        self._clock = clock
        self._notes: list[Note] = []
        self._progress: str | None = None

    def tell(self, text: str, tone: Tone = "info") -> None:
        """Add a note of now."""
        self._notes.append(Note(self._clock(), text, tone))

    def going_on(self, text: str | None) -> None:
        """Replace the line on what is going on."""
        self._progress = text

    def notes(self) -> Sequence[Note]:
        return tuple(self._notes)

    def progress(self) -> str | None:
        return self._progress

    @contextmanager
    def instead_of_the_log(self) -> Iterator[None]:
        """Warnings of the log become notes, and nothing is written over the screen."""
        root = logging.getLogger("hackwatch")
        handlers, level, propagate = root.handlers[:], root.level, root.propagate
        root.handlers[:] = [_Teller(self)]
        root.setLevel(logging.WARNING)
        root.propagate = False
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            root.propagate = propagate


class _Teller(logging.Handler):
    def __init__(self, story: Story) -> None:
        super().__init__(logging.WARNING)
        self._story = story

    def emit(self, record: logging.LogRecord) -> None:
        detail = getattr(record, "error", None)
        self._story.tell(record.getMessage() + (f": {detail}" if detail else ""), "warning")


def bar(share: float, width: int = 16) -> str:
    """A bar of progress with its number."""
    share = max(0.0, min(1.0, share))
    done = round(share * width)
    return f"{'█' * done}{'░' * (width - done)} {share * 100:.0f} %"
