"""enrich: columns that messages do not hold, filled before anything judges a record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hackwatch import streams
from hackwatch.cli import main
from hackwatch.detect.panel import Panel
from hackwatch.detect.rules import Rule, RuleSet
from hackwatch.errors import DataError
from hackwatch.pipeline.detection import Scored, detect_messages
from hackwatch.pipeline.enrichment import Enrichment, StatefulEnrichment, completed
from hackwatch.runtime.enrichments import offline
from hackwatch.streams.checks import family_problems, stream_problems
from hackwatch.streams.declarations import Enricher, Family, StatefulEnricher
from hackwatch.streams.stream import DecodeOptions, Messages
from tests.streams.support import messages, record
from tests.third.enrichers import ENRICHED, NTH, OWNER, register
from tests.third.shop import VISIT, shop

__all__ = ["shop"]

TABLES = {"owners": pl.DataFrame({"path": ["/", "/cart"], "owner": ["ann", "bob"]})}
RULE = Rule(id="of-bob", title="", stream="visit", where="owner = 'bob'", severity="low")
RULES = RuleSet([RULE], {"visit": ENRICHED})


def run(*paths: str, partition: int = 0) -> Messages:
    made = [record("visit", path=path, ts=number + 1) for number, path in enumerate(paths)]
    return messages([json.dumps(one).encode() for one in made], partition=partition)


def decoded(*paths: str) -> pl.DataFrame:
    return VISIT.decode(run(*paths), DecodeOptions()).records


def test_columns_come_in_the_order_of_the_schema() -> None:
    found = Enrichment(ENRICHED, (OWNER,), TABLES)(decoded("/", "/help", "/cart"))
    assert found.columns[: len(ENRICHED.schema)] == ENRICHED.schema.names()
    assert found["owner"].to_list() == ["ann", None, "bob"]
    assert found.schema["nth"] == pl.Int64()
    assert found["nth"].null_count() == 3


@pytest.mark.parametrize("rows", [0, 2])
def test_a_whole_record_stays_as_it_is(rows: int) -> None:
    records = decoded("/", "/help").head(rows)
    assert completed(VISIT, records) is records
    once = Enrichment(ENRICHED, (OWNER,), TABLES)(records)
    assert_frame_equal(Enrichment(ENRICHED, (OWNER,), {"owners": TABLES["owners"].clear()})(once), once)


WRONG: dict[str, Any] = {
    "raises": lambda records, tables: 1 / 0,
    "another number of rows": lambda records, tables: records.head(1).with_columns(owner=pl.lit("x")),
    "without the column": lambda records, tables: records,
    "of another type": lambda records, tables: records.with_columns(owner=pl.lit([1])),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_enricher_that_does_not_keep_its_word(case: str) -> None:
    enrichment = Enrichment(ENRICHED, (replace(OWNER, apply=WRONG[case]),), TABLES)
    found = enrichment(decoded("/", "/help"))
    assert found["owner"].null_count() == len(found) == 2
    assert list(enrichment.problems) == ["owner"]


def test_an_enricher_changes_nothing_but_its_own_columns() -> None:
    def meddles(records: pl.DataFrame, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        return records.with_columns(owner=pl.lit("x"), path=pl.lit("y"), more=pl.lit(1))

    records = decoded("/", "/help")
    found = Enrichment(ENRICHED, (replace(OWNER, apply=meddles),), TABLES)(records)
    assert_frame_equal(found.select(records.columns), records)
    assert "more" not in found.columns


def detect(*paths: str, stateful: tuple[StatefulEnricher, ...] = ()) -> Scored:
    runs = [run(*paths, partition=partition) for partition in (1, 0)]
    enrichment = Enrichment(ENRICHED, (OWNER,), TABLES, stateful)
    return detect_messages(ENRICHED, runs, DecodeOptions(), Panel(), RULES, latest=1e9, enrichment=enrichment)


def test_rules_see_what_enrichers_fill() -> None:
    assert detect("/", "/cart").records["rules"].to_list() == [[], ["of-bob"]] * 2


def test_of_a_stream_with_stateful_enrichers_nothing_is_judged_before_they_ran() -> None:
    scored = detect("/", "/cart", stateful=(NTH,))
    assert "score" not in scored.records.columns
    finished = scored.finished(StatefulEnrichment({"visit": (NTH,)}))
    assert finished.records["rules"].to_list() == [[], ["of-bob"]] * 2
    assert finished.records["nth"].to_list() == [1, 2, 1, 2], "each partition counts for itself"
    assert finished.pending is None


@given(st.lists(st.sampled_from("abc"), max_size=30), st.lists(st.integers(0, 30), max_size=4), st.integers(0, 3))
def test_states_do_not_depend_on_the_cut_nor_on_a_restart(clients: list[str], cuts: list[int], restart: int) -> None:
    rows = pl.DataFrame(
        {"client": clients, "partition": [i % 2 for i in range(len(clients))], "nth": [None] * len(clients)},
        schema={"client": pl.String(), "partition": pl.Int32(), "nth": pl.Int64()},
    )
    whole = StatefulEnrichment({"visit": (NTH,)}).enrich("visit", rows)
    stateful, parts = StatefulEnrichment({"visit": (NTH,)}), []
    places = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for number, (start, end) in enumerate(pairwise(places)):
        if number == restart:
            again = StatefulEnrichment({"visit": (NTH,)})
            again.restore({"state": b"{}", **stateful.snapshot()})
            assert again.snapshot() == stateful.snapshot(), "also of what has not been asked for yet"
            stateful = again
        parts.append(stateful.enrich("visit", rows[start:end]))
    assert_frame_equal(pl.concat([rows.clear(), *parts]), whole)
    oracle = [1 + sum(one == client for one in clients[:i][i % 2 :: 2]) for i, client in enumerate(clients)]
    assert whole["nth"].to_list() == oracle


DECLARED: dict[str, tuple[Enricher | StatefulEnricher, str]] = {
    "of no stream": (replace(OWNER, stream="disk"), "there is no stream 'disk'"),
    "a column that the stream lacks": (replace(OWNER, adds=pl.Schema({"who": pl.String()})), "does not declare"),
    "of another type": (
        replace(NTH, adds=pl.Schema({"nth": pl.Float64()})),
        "as Float64, in the stream's schema it is Int64",
    ),
    "the time": (replace(OWNER, adds=pl.Schema({"event_time": pl.Datetime("us", "UTC")})), "the decoder itself"),
    "nothing": (replace(OWNER, adds=pl.Schema()), "name the columns"),
    "without a name": (replace(NTH, name="n/th"), "letters, digits"),
}


@pytest.mark.parametrize("case", DECLARED)
def test_declarations_that_are_refused(case: str) -> None:
    enricher, says = DECLARED[case]
    known = {"visit": ENRICHED}
    [problem] = family_problems(Family("more", ("visit",), enrichers=(enricher,)), known.get)
    assert says in problem
    assert family_problems(Family("more", ("visit",), enrichers=(OWNER, NTH)), known.get) == []


def test_two_enrichers_of_one_column() -> None:
    twice = Family("more", ("visit",), enrichers=(OWNER, replace(OWNER, name="other"), replace(NTH, name="owner")))
    found = family_problems(twice, {"visit": ENRICHED}.get)
    assert found == [
        "visit.owner: two enrichers add it; leave it to one",
        "enricher visit.owner: declared twice; give each a name of its own",
    ]


def test_no_stream_is_called_table() -> None:
    assert any("'table' is no name" in problem for problem in stream_problems(replace(VISIT, name="table")))


@pytest.mark.usefixtures("shop")
def test_files_are_enriched_as_the_engine_does(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, OWNER, NTH)
    (tmp_path / "owners.csv").write_text("path,owner\n/,ann\n")
    (tmp_path / "hackwatch.toml").write_text('[enrichment.tables]\nowners = "owners.csv"\n')
    (tmp_path / "in.ndjson").write_bytes(run("/", "/help", "/").payload)
    out = tmp_path / "out.parquet"
    arguments = ["normalise", str(tmp_path / "in.ndjson"), "--as", "visit", "-o", str(out)]
    found = CliRunner().invoke(main, ["--config", str(tmp_path / "hackwatch.toml"), *arguments])
    assert found.exit_code == 0, found.output
    rows = pl.read_parquet(out)
    assert rows["owner"].to_list() == ["ann", None, "ann"]
    assert rows["nth"].to_list() == [1, 2, 3]


def test_a_file_is_not_enriched_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, replace(OWNER, apply=WRONG["raises"], tables=()))
    with pytest.raises(DataError, match="the enricher owner fails: ZeroDivisionError"):
        offline(streams.get("visit"), {})(decoded("/"))
