"""The demo's detectors: trained on simulated labelled records the first time, then kept."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from importlib.metadata import version

from hackwatch import streams
from hackwatch.config import prepare_data_folder
from hackwatch.demo.folders import cache_folder
from hackwatch.detect.bundle import Bundle
from hackwatch.detect.registry import Registry
from hackwatch.detect.training import Options, train
from hackwatch.errors import HackwatchError
from hackwatch.feeds.simulator import labelled_records, simulator_of
from hackwatch.streams.declarations import Family
from hackwatch.threads import Cancelled
from hackwatch.top.story import Story, bar

__all__ = ["Trainer"]

#: Labelled records of each stream to train on: some seconds' work, and few false pairs on machines never seen.
RECORDS = 40_000
#: Share of normal records above the threshold. An entity of the demo shows some 100 records a second. With three times
#: as much, 25 attacks were found in 40 minutes where there were none; with this 5, and all 90 real ones; with half
#: of it 89, and the first one of a demo often late.
ALERT_BUDGET = 0.0001


class Trainer:
    """Gives the demo's registry a detector of each stream: from the cache, or trained and then cached."""

    def __init__(self, family: Family, models: Registry, seed: int, story: Story, stop: threading.Event) -> None:
        self._family = family
        self._models, self._seed, self._story, self._stop = models, seed, story, stop
        self._cached = cache_folder() / f"models-{version('hackwatch')}-{seed}-{RECORDS}-{ALERT_BUDGET}"

    def from_cache(self) -> bool:
        """Whether detectors trained earlier could be used."""
        earlier = Registry(self._cached)
        try:
            bundles = [earlier.load(name) for name in self._family.streams]
            for name, bundle in zip(self._family.streams, bundles, strict=True):
                self._models.add(bundle, streams.get(name))
        except HackwatchError:
            shutil.rmtree(self._cached, ignore_errors=True)
            return False
        return True

    def train(self) -> None:
        """Train all, let the engine use each as soon as it is there, and keep them for the next demo."""
        self._report("simulating labelled records", 0, 1, 0)
        # A simulated day of others than the demo's: their worlds have seeds of their own.
        simulated = simulator_of(self._family).labelled(self._seed + 1, RECORDS)
        draft = cache_folder() / f".training-{os.getpid()}"
        prepare_data_folder(draft)
        keep = Registry(draft)
        try:
            for number, name in enumerate(self._family.streams):
                bundle = self._one(name, simulated[name], number)
                self._models.add(bundle, streams.get(name))
                keep.add(bundle, streams.get(name))
                self._story.tell(f"trained: the {name} detector, which {_quality(bundle)}")
            with suppress(OSError):  # another demo was faster
                draft.rename(self._cached)
        finally:
            self._story.going_on(None)
            shutil.rmtree(draft, ignore_errors=True)

    def _one(self, name: str, payload: bytes, number: int) -> Bundle:
        stream = streams.get(name)
        records = labelled_records(stream, payload)
        options = Options(alert_budget=ALERT_BUDGET, seed=self._seed + 1)
        return train(
            records, stream, "supervised", options,
            lambda what, done, steps: self._report(f"{name} detector", done, steps, number + 1),
        )  # fmt: skip

    def _report(self, what: str, done: int, steps: int, stage: int) -> None:
        if self._stop.is_set():
            raise Cancelled
        # To simulate takes about a tenth of the time that all takes.
        ends = [0.0, 0.1, *((number + 1) / len(self._family.streams) for number in range(len(self._family.streams)))]
        share = ends[stage] + (ends[stage + 1] - ends[stage]) * done / max(1, steps)
        self._story.going_on(f"training, this first time only: {bar(share)} ({what})")


def _quality(bundle: Bundle) -> str:
    measured = bundle.description.metrics["out_of_fold"]
    found, alarms = measured["recall_at_threshold"], measured["false_alarm_rate"]
    return f"finds {found:.0%} of attack records at {alarms:.2%} false alarms"
