"""Watching this machine: collectors, engine and, until there are detectors, learning, in one process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from hackwatch import streams, topics
from hackwatch.clock import Clock, SystemClock
from hackwatch.config import Settings, prepare_data_folder
from hackwatch.detect.registry import Registry, open_registry
from hackwatch.detect.training.learn import learn
from hackwatch.engine.service import run_service
from hackwatch.errors import DataError, HackwatchError
from hackwatch.feeds.collector import Watching, local_collectors
from hackwatch.lake import open_lake
from hackwatch.runtime.lock import EngineLock
from hackwatch.store import open_store
from hackwatch.threads import Cancelled, ThreadGroup
from hackwatch.top import Story, bar, present
from hackwatch.topics import TopicWriter
from hackwatch.views import Reader

__all__ = ["Learner", "Watched", "watch", "watched"]

_TICK = 1.0
#: Seconds of learning that may be forgotten when the process is killed.
_KEPT_EVERY = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """A collector that watches this machine, and the streams that it feeds."""

    collector: Watching
    streams: tuple[str, ...]


def watched(interval: float) -> list[Watched]:
    """What watches this machine, of all families, with a sample each `interval` seconds."""
    return [Watched(collector.watch(interval), collector.streams) for collector in local_collectors()]


def watch(
    settings: Settings, threads: ThreadGroup, all_watched: Sequence[Watched], *, minutes: float | None, learning: bool,
    live: bool, write: Callable[[str], None],
) -> None:  # fmt: skip
    """Watch this machine until the stop event of `threads` is set or a person quits.

    The shipped rules watch from the first sample on. Detectors that the registry has do too; without them, or if
    `minutes` are given, normal is learned for so long (10 minutes unless given), across restarts.
    Raises ResourceError when another engine works in the data folder, or elsewhere than on Linux.
    """
    prepare_data_folder(settings.data)
    with EngineLock(settings.lock_file):
        pass  # Nobody else works here. The engine takes the lock for good; here its message comes before a screen.
    clock = SystemClock()
    story = Story(clock.wall)
    models = open_registry(settings)
    entities = {name: one.collector.entity for one in all_watched for name in one.streams}
    unknown = {name: entity for name, entity in entities.items() if minutes is not None or not models.current(name)}
    began = clock.wall()
    with (
        open_store(settings.store_url, site=settings.site) as store,
        story.instead_of_the_log() if live else nullcontext(),
    ):
        newest = store.triage.alerts(limit=1)
        try:
            threads.start("engine", lambda: run_service(settings, threads.stop))
            for one in all_watched:
                threads.start("collector", partial(_collect, settings, one, threads.stop))
                story.tell(f"watching {one.collector.doing}, rules at once")
                for sentence in one.collector.blind_spots:
                    story.tell(sentence, "warning")
            if learning and unknown:
                learner = Learner(settings, models, unknown, story, threads.stop, clock)
                threads.start("learner", lambda: learner.run(60 * (10.0 if minutes is None else minutes)))
            elif not unknown:
                story.tell("detectors learned earlier watch too; to learn again: --learn 10")
            reader = Reader(
                store, settings.pipeline, clock.wall, story.notes, story.progress, "this machine", since=began
            )
            present(reader, threads.stop, plain=not live, write=write, after=newest[0].sequence if newest else 0)
        finally:
            threads.stop.set()
            threads.join()


def _collect(settings: Settings, one: Watched, stop: threading.Event) -> None:
    with _writers(settings, one.streams) as writers:
        one.collector.run(writers, stop)


@contextmanager
def _writers(settings: Settings, names: Sequence[str]) -> Iterator[Mapping[str, TopicWriter]]:
    with ExitStack() as stack:
        writers: dict[str, TopicWriter] = {}
        for name in names:
            writers[name] = topics.open_writer(
                settings.spool_url(name), settings.streams[name].partitions, settings.spool.durability,
                segment_bytes=settings.spool.segment_mib << 20, kafka=settings.kafka,
            )  # fmt: skip
            stack.callback(writers[name].close)
        yield writers


@dataclass(frozen=True, slots=True)
class _Learned:
    """How far learning has come: `since` is when it began (Unix seconds), `seconds` how long it has gone on."""

    since: float
    seconds: float = 0.0


class Learner:
    """Learns what is normal on this machine from what the engine keeps in the lake, and promotes the detectors.

    `entities`: each stream to learn, and what this machine is called in it; None if it is about several entities.
    """

    def __init__(
        self, settings: Settings, models: Registry, entities: Mapping[str, str | None], story: Story,
        stop: threading.Event, clock: Clock,
    ) -> None:  # fmt: skip
        self._settings, self._models, self._entities = settings, models, entities
        self._story, self._stop, self._clock = story, stop, clock
        self._file = settings.data / "learning.json"

    def run(self, seconds: float) -> None:
        """Learn for so long in all (a restart goes on), then train; what has too few records, as long again."""
        while not self._stop.is_set():
            self._wait(seconds)
            if self._stop.is_set():
                return
            try:
                self._train()
            except DataError as error:
                self._story.tell(f"{error.what}: learning goes on", "warning")
                self._keep(_Learned(self._so_far().since))
                continue
            except HackwatchError as error:
                self._story.tell(f"no detectors could be learned: {error.what}", "warning")
                return
            finally:
                self._story.going_on(None)
            self._file.unlink(missing_ok=True)
            return

    def _wait(self, seconds: float) -> None:
        """Let time pass, and keep how much has passed."""
        progress = self._so_far()
        if not progress.seconds:
            self._story.tell(f"learning what is normal here for {seconds / 60:g} min; until then rules watch alone")
        began = kept = self._clock.monotonic()
        while not self._stop.is_set():
            now = self._clock.monotonic()
            done = progress.seconds + now - began
            if done >= seconds:
                return
            if now - kept >= _KEPT_EVERY:
                kept = now
                self._keep(_Learned(progress.since, done))
            left = seconds - done
            text = f"{left / 60:.0f} min" if left > 100 else f"{left:.0f} s"
            self._story.going_on(f"learning what is normal: {bar(done / seconds)}, {text} left")
            self._stop.wait(min(_TICK, seconds - done))
        self._keep(_Learned(progress.since, progress.seconds + self._clock.monotonic() - began))

    def _train(self) -> None:
        """Learn what can be learned. Raises DataError if something is left, which the next call learns."""
        bundles, lacking = {}, {}
        for number, name in enumerate(self._entities):

            def report(what: str, done: int, steps: int, place: int = number) -> None:
                if self._stop.is_set():
                    raise Cancelled
                share = (place + done / max(1, steps)) / len(self._entities)
                self._story.going_on(f"training detectors: {bar(share)}")

            try:
                bundles[name] = learn(self._records(name), streams.get(name), progress=report)
            except DataError as error:
                lacking[name] = error
        for name, bundle in bundles.items():
            self._models.add(bundle, streams.get(name))
        if bundles:
            rows = sum(bundle.description.rows for bundle in bundles.values())
            self._story.tell(f"learned from {rows:,} records: detectors watch from now on, with the rules", "found")
        self._entities = {name: self._entities[name] for name in lacking}
        if lacking:
            raise next(iter(lacking.values()))

    def _records(self, stream: str) -> pl.DataFrame:
        """What this machine showed since learning began, but for what a rule found suspect."""
        lake = open_lake(self._settings)
        if stream not in lake.tables():
            raise DataError(f"no records of {stream} yet", where=lake.location, next_step="wait")
        since, declared, entity = round(self._so_far().since * 1e6), streams.get(stream), self._entities[stream]
        return (
            lake.scan(stream)
            .filter(
                pl.lit(True) if entity is None else pl.col(declared.entity) == entity,
                pl.col("event_time").dt.epoch("us") >= since,
                pl.col("prediction") == 0,
            )
            .select(declared.schema.names())
            .collect()
        )

    def _so_far(self) -> _Learned:
        """From the file of an earlier start, or from now on."""
        try:
            kept = json.loads(self._file.read_bytes())
            return _Learned(float(kept["since"]), float(kept["seconds"]))
        except (OSError, ValueError, TypeError, KeyError):
            learned = _Learned(self._clock.wall())
            self._keep(learned)
            return learned

    def _keep(self, learned: _Learned) -> None:
        draft = Path(f"{self._file}.draft")
        draft.write_text(json.dumps({"since": learned.since, "seconds": learned.seconds}), encoding="utf-8")
        draft.replace(self._file)
