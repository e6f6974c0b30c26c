"""The demo: a simulated family under attack, detectors, the engine and the truth, all in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from hackwatch import streams, topics
from hackwatch.clock import Clock, SystemClock
from hackwatch.config import Settings
from hackwatch.demo.evaluator import Evaluator, Finding
from hackwatch.demo.folders import data_folder
from hackwatch.demo.training import Trainer
from hackwatch.detect.registry import open_registry
from hackwatch.engine.service import run_service
from hackwatch.feeds.simulator import simulator_of
from hackwatch.store import Store, open_store
from hackwatch.threads import ThreadGroup
from hackwatch.top import present
from hackwatch.top.story import Story
from hackwatch.views import Reader

__all__ = ["Demo", "run_demo"]

#: Seconds between two attacks on average.
SPACING = 25.0
#: Whom it plays.
ENTITIES = 5
#: Repeats of an attack are one alert for so long: short, so that each attack of a short demo is seen.
SUPPRESS_SECONDS = 120


def run_demo(
    threads: ThreadGroup, *, seed: int, rate: float, data: Path | None, plain: bool, write: Callable[[str], None],
    started: float, program: str = "hackwatch",
) -> None:  # fmt: skip
    """Run the demo until the stop event of `threads` is set or a person quits.

    `started`: Unix seconds. `program`: how a person calls hackwatch.
    """
    settings = demo_settings(data_folder(data))
    story = Story(SystemClock().wall)
    with open_store(settings.store_url, site=settings.site) as store, story.instead_of_the_log():
        demo = Demo(settings, seed, rate, story, threads, SystemClock())
        try:
            demo.start()
            reader = Reader(
                store, settings.pipeline, demo.clock.wall,
                lambda: demo.evaluator.look(store.triage), story.progress,
                "the simulation, which no detector is told of",
            )  # fmt: skip
            present(reader, threads.stop, plain=plain, write=write, after=0)
        finally:
            threads.stop.set()
            threads.join()
        for line in demo.summary(store, started, program):
            write(line)


def demo_settings(folder: Path) -> Settings:
    """Settings of the demo: no file or variable of the user plays a part, so that no route sends simulated alerts."""
    return Settings.model_validate(
        {
            "data": folder,
            "site": "demo",
            "alerts": {"suppress_seconds": SUPPRESS_SECONDS},
            # With an attack going on most of the time, records are not what they were in training.
            "detection": {"drift_alerts": False},
            "spool": {"retention_gib": 1.0, "durability": "none"},
        }
    )


class Demo:
    """One demo: `start` begins everything in threads of `threads`, which end when its `stop` is set."""

    def __init__(
        self, settings: Settings, seed: int, rate: float, story: Story, threads: ThreadGroup, clock: Clock
    ) -> None:
        self.settings, self.story, self.threads, self.clock, self._seed = settings, story, threads, clock, seed
        self.family = streams.demo_family()
        self.noun = streams.noun(self.family.streams)
        self.evaluator = Evaluator(story)
        self.playing = simulator_of(self.family).play(
            rate=rate, entities=ENTITIES, seed=seed, attack_spacing=SPACING, quiet=False, labels=False,
            on_attack=self.evaluator.begins,
        )  # fmt: skip
        self.records = 0

    def start(self) -> None:
        """Detectors from the cache if there are any, then the engine, the simulator and, if need be, the training."""
        trainer = Trainer(self.family, open_registry(self.settings), self._seed, self.story, self.threads.stop)
        cached = trainer.from_cache()
        self.threads.start("engine", lambda: run_service(self.settings, self.threads.stop))
        self.threads.start("simulator", self._simulate)
        self.story.tell(f"{len(self.playing.entities)} simulated {self.noun.plural} at work, watched by rules")
        if cached:
            number = {1: "a detector", 2: "two detectors"}.get(len(self.family.streams), "detectors")
            self.story.tell(f"and by {number} trained by an earlier demo")
        else:
            self.threads.start("trainer", trainer.train)

    def _simulate(self) -> None:
        with ExitStack() as stack:
            writers = {
                name: topics.open_writer(self.settings.spool_url(name), self.settings.streams[name].partitions, "none")
                for name in self.family.streams
            }
            for writer in writers.values():
                stack.callback(writer.close)
            self.records = self.playing.run(writers, self.threads.stop).records

    def summary(self, store: Store, started: float, program: str) -> Iterator[str]:
        """What happened and what to try next, in lines; to be asked for when everything has ended."""
        findings = self.evaluator.findings(store.triage)
        both = [finding for finding in findings if finding.alert is not None and finding.alert.kind == "attack"]
        rule = [finding for finding in findings if finding.alert is not None and finding.alert.kind == "rule"]
        totals = store.accounting.totals()
        late, rejected, on_time = (int(totals[name].sum()) for name in ("late", "rejected", "on_time"))
        yield ""
        entities = self.noun.count(len(self.playing.entities))
        yield (
            f"{self.records:,} records simulated on {entities}, {on_time + late:,} kept "
            f"({late:,} late, {rejected:,} rejected)"
        )
        yield (
            f"attacks simulated: {len(findings)}; found by the detectors of both streams together: {len(both)}"
            + (f"; by a rule alone: {len(rule)}" if rule else "")
            + (f"; not found: {missed}" if (missed := len(findings) - len(both) - len(rule)) else "")
        )
        yield from _times(both, started)
        newest = store.triage.alerts(limit=1)
        number = newest[0].sequence if newest else 0
        yield f"alerts: {number}; of attacks where none was simulated: {self.evaluator.unfounded(store.triage)}"
        yield from self._next(both, program)

    def _next(self, found: list[Finding], program: str) -> Iterator[str]:
        command = f"{program} --data {self.settings.data}"
        example = found[0].alert.id[:8] if found and found[0].alert else "ID"
        yield ""
        yield f"The data stays in {self.settings.data} until the next demo. Try"
        yield f"  {command} alerts list"
        yield f"  {command} alerts show {example}"
        for query in self._queries():
            yield f'  {command} sql "{query}"'
        yield f"and then, for this machine: {program} watch"

    def _queries(self) -> Iterator[str]:
        """Of each correlation: who has most of its pairs."""
        for one in self.family.correlations:
            left = streams.get(one.left)
            who = f"{left.entity}, {left.subject}"
            yield f"SELECT {who}, count(*) AS pairs FROM {one.name} GROUP BY ALL ORDER BY pairs DESC LIMIT 10"


def _times(found: list[Finding], started: float) -> Iterator[str]:
    if found:
        first = min(finding.alert.created for finding in found if finding.alert is not None) - started
        times = sorted(finding.seconds for finding in found if finding.seconds is not None)
        middle = f"; {times[len(times) // 2]:.1f} s from the begin of an attack to its alert (median)" if times else ""
        yield f"first attack alert {first:.1f} s after the start{middle}"
