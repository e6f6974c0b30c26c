"""The Spark engine in a process of its own, warm: one run over other data in the same session, then the timed one.

    python -m bench.spark_child WARM_DATA DATA SETTINGS_OF_WARM SETTINGS

Prints JSON: seconds of the queries that normalise, score and write (`ingest`), of all queries (`all`, windows,
correlation, alerts and store included), CPU seconds of the JVM and of Python together. Starting the session, reading
settings and rules, and opening the store are not counted, as for the Spark job that it is compared with.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from threading import Event
from typing import Any

# Only the extras `bench` and `spark` install pyspark, so the type checker may find it or not.
from pyspark.sql.streaming.listener import StreamingQueryListener  # type: ignore[import-not-found,unused-ignore]  # so

from bench.broker import cpu_of_tree
from bench.support import STREAMS
from hackwatch.config import Settings
from hackwatch.spark.service import run_spark
from hackwatch.spark.session import open_session


class Times(StreamingQueryListener):  # type: ignore[misc,unused-ignore]  # its base has no type if it is not installed
    """When each query began and ended."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self._names: dict[str, str] = {}

    def onQueryStarted(self, event: Any) -> None:
        self._names[str(event.runId)] = event.name
        self.began[event.name] = time.monotonic()

    def onQueryProgress(self, event: Any) -> None:
        """Nothing."""

    def onQueryIdle(self, event: Any) -> None:
        """Nothing."""

    def onQueryTerminated(self, event: Any) -> None:
        self.ended[self._names[str(event.runId)]] = time.monotonic()

    def seconds(self, names: set[str]) -> float:
        """From the first of these queries' start to the last one's end."""
        return max(self.ended[name] for name in names) - min(self.began[name] for name in names)


def main() -> None:
    """Both runs."""
    warm, timed = (
        Settings(data=Path(data), **json.loads(given)) for data, given in zip(sys.argv[1:3], sys.argv[3:5], strict=True)
    )
    session = open_session(timed, kafka=timed.spool_url(STREAMS[0]).startswith("kafka://"))
    run_spark(warm, Event(), available_now=True, session=session)
    times = Times()
    session.streams.addListener(times)
    spent = cpu_of_tree(os.getpid())
    run_spark(timed, Event(), available_now=True, session=session)
    cpu = cpu_of_tree(os.getpid()) - spent
    # Events come after the queries have ended, by a thread of the session.
    until = time.monotonic() + 30
    while set(times.ended) != set(times.began) and time.monotonic() < until:
        time.sleep(0.05)
    ingest = {f"{timed.pipeline}-{name}" for name in STREAMS}
    print(json.dumps({"ingest": times.seconds(ingest), "all": times.seconds(set(times.began)), "cpu": cpu}))
    session.stop()


if __name__ == "__main__":
    main()
