"""Visits with two columns that their messages do not hold: one from a table, one that counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import orjson
import polars as pl
import pytest

from hackwatch import streams
from hackwatch.streams.declarations import Enricher, Family, StatefulEnricher
from tests.third.shop import VISIT

__all__ = ["ENRICHED", "NTH", "OWNER", "register"]

ENRICHED = replace(VISIT, schema=pl.Schema({"owner": pl.String(), **VISIT.schema, "nth": pl.Int64()}))


def owners(records: pl.DataFrame, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    return records.join(tables["owners"], on="path", how="left", maintain_order="left")


class Nth:
    """Counts the records of each client in a partition."""

    def __init__(self, snapshot: bytes | None) -> None:
        self._seen = Counter[str](orjson.loads(snapshot) if snapshot else {})

    def step(self, records: pl.DataFrame) -> pl.DataFrame:
        numbers = []
        for client in records["client"]:
            self._seen[client] += 1
            numbers.append(self._seen[client])
        return pl.DataFrame({"nth": numbers})

    def snapshot(self) -> bytes:
        return orjson.dumps(self._seen)


OWNER = Enricher("owner", "visit", pl.Schema({"owner": pl.String()}), owners, ("owners",))
NTH = StatefulEnricher("nth", "visit", pl.Schema({"nth": pl.Int64()}), Nth)


def register(monkeypatch: pytest.MonkeyPatch, *enrichers: Enricher | StatefulEnricher) -> None:
    """Let the stream of visits be the enriched one, with these enrichers."""
    get, families = streams.get, streams.families()
    family = Family("more", ("visit",), enrichers=enrichers)
    monkeypatch.setattr(streams, "get", lambda name: ENRICHED if name == "visit" else get(name))
    monkeypatch.setattr(streams, "families", lambda: (*families, family))
