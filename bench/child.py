"""The engine in a process of its own, as `hackwatch run` has it, with default settings but those given.

    python -m bench.child DATA [--settings JSON] [--until-read | --until-messages N]

With --until-read it stops by itself once everything in the topics is read and committed, and prints what it took; with
--until-messages once it has read so many, for topics that may give nothing for a moment although there is more.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from threading import Event

from hackwatch.cli.feeding import stopped_by_signals
from hackwatch.clock import SystemClock

#: Seconds between two looks at the metrics, which cost a little.
LOOK_SECONDS = 0.02


class UntilRead(SystemClock):
    """Stops the engine when it has slept a few times running: it does that only when there is nothing to read."""

    def __init__(self, stop: Event) -> None:
        self._stop = stop
        self._slept = float("-inf")
        self._times = 0

    def sleep(self, seconds: float) -> None:
        now = time.monotonic()
        self._times = self._times + 1 if now - self._slept < seconds + 0.01 else 0
        if self._times >= 4:
            self._stop.set()
        super().sleep(seconds)
        self._slept = time.monotonic()


class UntilMessages(SystemClock):
    """Stops the engine once it has taken so many messages, as its metrics say."""

    def __init__(self, stop: Event, messages: int) -> None:
        self._stop, self._messages = stop, messages
        self._looked = float("-inf")

    def sleep(self, seconds: float) -> None:
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            if messages_taken() >= self._messages:
                self._stop.set()
        super().sleep(seconds)


def messages_taken() -> float:
    """By this process's engine, all topics together."""
    from hackwatch import metrics

    return sum(
        sample.value
        for family in metrics.REGISTRY.collect()
        for sample in family.samples
        if sample.name == "hackwatch_messages_total"
    )


def main() -> None:
    """Run the engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--until-read", action="store_true")
    parser.add_argument("--until-messages", type=int)
    options = parser.parse_args()
    from hackwatch.config import Settings
    from hackwatch.engine.service import run_service

    settings = Settings(data=options.data, **options.settings)
    with stopped_by_signals() as stop:
        clock: SystemClock | None = UntilRead(stop) if options.until_read else None
        if options.until_messages:
            clock = UntilMessages(stop, options.until_messages)
        began, spent = time.monotonic(), time.process_time()
        run_service(settings, stop, clock=clock)
        seconds, cpu = time.monotonic() - began, time.process_time() - spent
    if clock is not None:
        from bench.support import memory_mib

        print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mib": memory_mib(os.getpid(), "VmHWM")}))


if __name__ == "__main__":
    main()
