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
from hackwatch.spark.attacks import Attacks
from hackwatch.spark.context import Query
from hackwatch.spark.ingest import Ingest
from hackwatch.spark.service import run_spark
from hackwatch.spark.session import open_session
from hackwatch.spark.windows import Windows


class Times(StreamingQueryListener):  # type: ignore[misc,unused-ignore]  # its base has no type if it is not installed
    """When the first query began, when ingest was done and what reads its tables began, and when the last one ended.

    Spools are read without a query of Spark, so the first two are taken where the engine starts them.
    """

    def __init__(self) -> None:
        self.ingest: list[float] = []
        self.after: list[float] = []
        self.ended: list[float] = []
        for kind, moments in ((Ingest, self.ingest), (Windows, self.after), (Attacks, self.after)):
            _note(kind, moments)

    def onQueryStarted(self, event: Any) -> None:
        """Nothing."""

    def onQueryProgress(self, event: Any) -> None:
        """Nothing."""

    def onQueryIdle(self, event: Any) -> None:
        """Nothing."""

    def onQueryTerminated(self, event: Any) -> None:
        self.ended.append(time.monotonic())


def _note(kind: type[Query], moments: list[float]) -> None:
    """Have a kind of query note when it is started."""
    before = kind.start

    def start(query: Query, *, available_now: bool) -> None:
        moments.append(time.monotonic())
        before(query, available_now=available_now)

    setattr(kind, "start", start)  # noqa: B010  # a type checker refuses the assignment


def main() -> None:
    """Both runs."""
    warm, timed = (
        Settings(data=Path(data), **json.loads(given)) for data, given in zip(sys.argv[1:3], sys.argv[3:5], strict=True)
    )
    kafka = timed.spool_url(STREAMS[0]).startswith("kafka://")
    session = open_session(timed, kafka=kafka)
    run_spark(warm, Event(), available_now=True, session=session)
    times = Times()
    session.streams.addListener(times)
    spent = cpu_of_tree(os.getpid())
    run_spark(timed, Event(), available_now=True, session=session)
    cpu = cpu_of_tree(os.getpid()) - spent
    # Events come after the queries have ended, by a thread of the session.
    until = time.monotonic() + 30
    while len(times.ended) < len(times.after) + (2 if kafka else 0) and time.monotonic() < until:
        time.sleep(0.05)
    began = min(times.ingest)
    print(json.dumps({"ingest": min(times.after) - began, "all": max(times.ended) - began, "cpu": cpu}))
    session.stop()


if __name__ == "__main__":
    main()
