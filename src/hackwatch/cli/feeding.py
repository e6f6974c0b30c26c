"""What the feed commands share: where they write, how they stop, what they show."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import click

from hackwatch.cli.context import CliContext
from hackwatch.numbers import POSITIVE

if TYPE_CHECKING:
    from hackwatch.feeds.pace import Progress
    from hackwatch.topics import TopicWriter

__all__ = [
    "Reporter",
    "counted",
    "message_option",
    "report_options",
    "shown_place",
    "size",
    "stopped_by_signals",
    "topic_of",
    "writers",
]

_REDRAW_SECONDS = 0.2


def report_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`, and `--duration` for all feeds that would go on for ever."""
    function = click.option("--json", "as_json", is_flag=True, help="Print what was sent as one JSON object.")(function)
    return click.option("--duration", type=POSITIVE, help="Stop after so many seconds.")(function)


def message_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--message`: how records travel."""
    return click.option(
        "--message",
        "shape",
        type=click.Choice(["array", "record"]),
        default=default,
        show_default=True,
        help="One message for all records of a machine that are sent at once, or one a record.",
    )


@contextmanager
def writers(
    context: CliContext, streams: tuple[str, ...], to: str | None, shape: str = "record"
) -> Iterator[list[TopicWriter]]:
    """Writers for the topics of these streams.

    Without `to`: where the engine reads them by the settings. With it: see `topic_of`. With `shape` "array" they put
    the records that are appended at once into one message.
    """
    from hackwatch import topics
    from hackwatch.config import prepare_data_folder
    from hackwatch.feeds.arrays import Arrays

    settings = context.settings()
    opened: list[TopicWriter] = []
    try:
        for stream in streams:
            url = settings.spool_url(stream) if to is None else topic_of(stream, to, only=len(streams) == 1)
            if to is None and not topics.is_kafka(url):
                prepare_data_folder(settings.data)
            partitions = settings.streams[stream].partitions if stream in settings.streams else 2
            opened.append(
                topics.open_writer(
                    url,
                    partitions,
                    settings.spool.durability,
                    segment_bytes=settings.spool.segment_mib << 20,
                    kafka=settings.kafka,
                )
            )
        yield [Arrays(writer) for writer in opened] if shape == "array" else opened
    finally:
        for writer in opened:
            writer.close()


def counted(progress: Progress, opened: list[TopicWriter]) -> Progress:
    """What a feed has sent, in the messages that its writers made of the records."""
    from dataclasses import replace

    from hackwatch.feeds.arrays import Arrays

    arrays = [writer for writer in opened if isinstance(writer, Arrays)]
    if not arrays:
        return progress
    return replace(progress, messages=sum(one.messages for one in arrays), bytes=sum(one.bytes for one in arrays))


def topic_of(stream: str, to: str, *, only: bool) -> str:
    """The topic of a stream at the place that `--to` names.

    `{stream}` in it stands for the stream's name. Otherwise it is the topic itself if the stream is the `only` one,
    and for several a folder or a Kafka, in which each topic has the name of its stream.
    """
    from hackwatch import topics
    from hackwatch.errors import ConfigurationError

    if "{stream}" in to:
        return to.replace("{stream}", stream)
    if not topics.is_kafka(to):
        return to if only else str(topics.spool_folder(to) / stream)
    named = "/" in to.removeprefix("kafka://").rstrip("/")
    if named and not only:
        raise ConfigurationError(
            "one topic cannot take several streams",
            where=f"--to {to}",
            next_step="name the brokers alone, or each topic by its stream: kafka://HOST:PORT/{stream}_stream",
        )
    return to if named else f"{to.rstrip('/')}/{stream}"


def shown_place(context: CliContext, streams: tuple[str, ...], to: str | None) -> str:
    """Where a feed of these streams writes, for people."""
    if to is not None:
        return to
    settings = context.settings()
    spool = settings.data / "spool"
    urls = [settings.spool_url(stream) for stream in streams]
    return str(spool) if all(url.startswith(f"spool:{spool}") for url in urls) else ", ".join(urls)


@contextmanager
def stopped_by_signals(duration: float | None = None) -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and the end of `duration` (seconds) set; a second Ctrl-C stops at once.

    So does the terminal when it goes away (SIGHUP), unless the process was told not to mind it, as by nohup.
    """
    stop = threading.Event()
    # A handler may interrupt its thread while that holds the event's lock, to wait: setting it there would never end.
    caught: SimpleQueue[bool] = SimpleQueue()

    def gracefully(number: int, _frame: object) -> None:
        caught.put(True)
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def pass_on() -> None:
        if caught.get():
            stop.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        numbers.append(signal.SIGHUP)
    listener = threading.Thread(target=pass_on, name="signals", daemon=True)
    listener.start()
    before = {number: signal.signal(number, gracefully) for number in numbers}
    timer = threading.Timer(min(duration, threading.TIMEOUT_MAX), stop.set) if duration else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield stop
    finally:
        if timer:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
        caught.put(False)
        listener.join()


class Reporter:
    """Shows progress as one line on a terminal's standard error, notes as lines, and the sum at the end."""

    def __init__(self, what: str, where: str | Path, *, as_json: bool) -> None:
        self._what, self._where, self._as_json = what, str(where), as_json
        self._started = self._drawn = time.monotonic()
        self._before = 0
        self._live = sys.stderr.isatty() and not as_json
        self._width = 0
        self._noted: str | None = None

    def progress(self, progress: Progress) -> None:
        """To be called after each sending; redraws a few times a second."""
        if progress.note and progress.note != self._noted:
            self.note(progress.note)
        self._noted = progress.note
        now = time.monotonic()
        if self._live and now - self._drawn >= _REDRAW_SECONDS:
            rate = (progress.records - self._before) / (now - self._drawn)
            self._drawn, self._before = now, progress.records
            self._draw(f"{self._what}: {progress.records:,} records, {rate:,.0f}/s, {size(progress.bytes)}")

    def note(self, text: str) -> None:
        """Something that a person should know."""
        from hackwatch.text import printable

        self._clear()
        click.echo(f"{self._what}: {printable(text)}", err=True)

    def _draw(self, line: str) -> None:
        sys.stderr.write("\r" + line.ljust(self._width))
        sys.stderr.flush()
        self._width = len(line)

    def _clear(self) -> None:
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            self._width = 0

    def done(self, progress: Progress, **more: object) -> None:
        """The sum: one line, or one JSON object on standard output."""
        self._clear()
        seconds = time.monotonic() - self._started
        if self._as_json:
            summary = {"feed": self._what, "to": self._where, "messages": progress.messages}
            summary |= {"records": progress.records, "bytes": progress.bytes, "seconds": round(seconds, 3)}
            click.echo(json.dumps(summary | more))
            return
        rate = progress.records / seconds if seconds else 0.0
        click.echo(
            f"{self._what}: {progress.records:,} records in {progress.messages:,} messages, "
            f"{size(progress.bytes)}, in {seconds:.1f} s ({rate:,.0f}/s) -> {self._where}",
            err=True,
        )


def size(count: int) -> str:
    """So many bytes, for people."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} GB"
