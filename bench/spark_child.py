"""The Spark engine in a process of its own, warm: one run over other data in the same session, then the timed one.

    python -m bench.spark_child WARM_DATA DATA SETTINGS_OF_WARM SETTINGS

Prints JSON: seconds of the queries that normalise, score and write (`ingest`), of all queries (`all`, with
the correlations), CPU seconds of the JVM and of Python together. Starting the session, reading
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

from bench.broker import cpu_of_tree
from bench.support import STREAMS
from hackwatch.config import Settings
from hackwatch.spark.context import Query
from hackwatch.spark.correlate import Correlate
from hackwatch.spark.ingest import Ingest
from hackwatch.spark.service import run_spark
from hackwatch.spark.session import open_session


class Times:
    """When ingest began, when it was done and the correlations began, and when these ended."""

    def __init__(self) -> None:
        self.ingest: list[float] = []
        self.after: list[float] = []
        self.ended: list[float] = []
        _note(Ingest, "start", self.ingest)
        _note(Correlate, "start", self.after)
        _note(Correlate, "stop", self.ended)


def _note(kind: type[Query], method: str, moments: list[float]) -> None:
    """Have a kind of query note when it is started or stopped."""
    before = getattr(kind, method)

    def noting(query: Query, *given: Any, **named: Any) -> None:
        moments.append(time.monotonic())
        before(query, *given, **named)

    setattr(kind, method, noting)


def main() -> None:
    """Both runs."""
    warm, timed = (
        Settings(data=Path(data), **json.loads(given)) for data, given in zip(sys.argv[1:3], sys.argv[3:5], strict=True)
    )
    kafka = timed.spool_url(STREAMS[0]).startswith("kafka://")
    session = open_session(timed, kafka=kafka)
    run_spark(warm, Event(), available_now=True, session=session)
    times = Times()
    spent = cpu_of_tree(os.getpid())
    run_spark(timed, Event(), available_now=True, session=session)
    cpu = cpu_of_tree(os.getpid()) - spent
    began = min(times.ingest)
    print(json.dumps({"ingest": min(times.after) - began, "all": max(times.ended) - began, "cpu": cpu}))
    session.stop()


if __name__ == "__main__":
    main()
