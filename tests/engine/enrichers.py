"""A process stream with two columns that its messages do not hold: one from a table, one that counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import orjson
import polars as pl
import pytest

from hackwatch import streams
from hackwatch.streams.declarations import Enricher, Family, StatefulEnricher

PROCESS = streams.get("process")
ENRICHED = replace(PROCESS, schema=pl.Schema({"owner": pl.String(), **PROCESS.schema, "nth": pl.Int64()}))


def owners(records: pl.DataFrame, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    return records.join(tables["owners"], on="CMD", how="left", maintain_order="left")


class Nth:
    """Counts the records of each machine in a partition."""

    def __init__(self, snapshot: bytes | None) -> None:
        self._seen = Counter[str](orjson.loads(snapshot) if snapshot else {})

    def step(self, records: pl.DataFrame) -> pl.DataFrame:
        numbers = []
        for machine in records["machine"]:
            self._seen[machine] += 1
            numbers.append(self._seen[machine])
        return pl.DataFrame({"nth": numbers})

    def snapshot(self) -> bytes:
        return orjson.dumps(self._seen)


OWNER = Enricher("owner", "process", pl.Schema({"owner": pl.String()}), owners, ("owners",))
NTH = StatefulEnricher("nth", "process", pl.Schema({"nth": pl.Int64()}), Nth)


def register(monkeypatch: pytest.MonkeyPatch, *enrichers: Enricher | StatefulEnricher) -> None:
    """Let the process stream be the enriched one, with these enrichers."""
    get, families = streams.get, streams.families()
    family = Family("more", ("process",), enrichers=enrichers)
    monkeypatch.setattr(streams, "get", lambda name: ENRICHED if name == "process" else get(name))
    monkeypatch.setattr(streams, "families", lambda: (*families, family))
