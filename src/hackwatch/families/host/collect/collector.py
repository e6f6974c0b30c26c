"""`hackwatch feed collect`, `watch` and `learn`: the collectors of this machine, as general code knows them."""

from __future__ import annotations

import platform
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hackwatch.families.host.collect.atop_feed import AtopFeed
from hackwatch.families.host.collect.feed import CollectFeed, blind_spots
from hackwatch.feeds.collector import Finding
from hackwatch.feeds.pace import OnProgress, Progress
from hackwatch.numbers import POSITIVE
from hackwatch.topics.topic import TopicWriter

__all__ = ["COLLECTOR"]


@dataclass(frozen=True, slots=True, eq=False)
class _Collecting:
    """One of the feeds, which write to both topics."""

    feed: CollectFeed | AtopFeed

    def run(
        self, writers: Mapping[str, TopicWriter], stop: threading.Event, on_progress: OnProgress | None = None
    ) -> Progress:
        return self.feed.run(writers["process"], writers["memory"], stop, on_progress)


@dataclass(frozen=True, slots=True, eq=False)
class _Watching(_Collecting):
    """This machine, watched. See `hackwatch.feeds.collector.Watching`."""

    entity: str
    doing: str
    query: str = "SELECT CMD, max(CPU) AS cpu FROM process GROUP BY CMD ORDER BY cpu DESC LIMIT 10"

    @property
    def blind_spots(self) -> tuple[str, ...]:
        return blind_spots()


class _Collector:
    """See `hackwatch.feeds.collector.LocalCollector`."""

    streams = ("process", "memory")
    help = """Collect what each process of this machine does, as atop would print it.

    \b
    Examples:
      hackwatch feed collect
      hackwatch feed collect --interval 1 --machine web-1 --to /tmp/topics
      atop -P PRG,PRC,PRM 5 | hackwatch feed collect --atop -
    """
    options = (
        click.Option(
            ["--interval"], type=POSITIVE, default=5.0, show_default=True, help="Seconds between two samples."
        ),
        click.Option(["--machine"], help="Name of this machine in the records. Default: its host name."),
        click.Option(
            ["--atop"], type=click.Path(allow_dash=True), help="Read `atop -P PRG,PRC,PRM` output instead; - is a pipe."
        ),
        click.Option(["--once"], is_flag=True, help="One sample (it counts since boot), then stop."),
    )

    def open(self, *, interval: float, machine: str | None, atop: str | None, once: bool, **_: Any) -> _Collecting:
        if atop is not None:
            return _Collecting(AtopFeed(atop, machine=machine))
        return _Collecting(CollectFeed(machine=machine, interval=interval, samples=1 if once else None))

    def watch(self, interval: float, samples: int | None = None) -> _Watching:
        feed = CollectFeed(interval=interval, samples=samples)
        return _Watching(feed, feed.machine, f"{feed.machine}: a sample of all processes every {interval:g} s")

    def examine(self) -> Iterator[Finding]:
        if platform.system() != "Linux":
            yield Finding("collect", "hint", "needs Linux", "hackwatch demo, feed replay or feed simulate work here")
            return
        if not Path("/proc/self/stat").is_file():
            yield Finding("collect", "fault", "/proc is not mounted", "mount -t proc proc /proc")
        elif missed := blind_spots():
            for sentence in missed:
                yield Finding("collect", "hint", sentence, "run the collector as root")
        else:
            yield Finding("collect", "ok", "all processes, short-lived ones included")
        path = shutil.which("atop")
        yield (
            Finding("atop", "ok", path)
            if path
            else Finding("atop", "hint", "not installed: needed only to feed its output", "apt-get install atop")
        )


COLLECTOR = _Collector()
