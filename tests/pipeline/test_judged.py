"""What follows from a judgement: every record is counted once, and is in the rows where it belongs."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hackwatch.pipeline.judged import judged, lake_rows, processed_at, records_schema, rejected_schema
from hackwatch.streams.stream import REJECTED_SCHEMA
from tests.families.host.scored import PROCESS, START, Record, run

#: Of each record: late, a repeat, a suspect, with a rule.
RECORDS = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()), max_size=12)
WALL = START + 3.5


def rejected(number: int) -> pl.DataFrame:
    columns = {name: [None] * number for name in REJECTED_SCHEMA} | {"partition": [0] * number}
    return pl.DataFrame(columns, schema=REJECTED_SCHEMA)


@given(RECORDS, st.integers(0, 3), st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_record_has_one_outcome(marks: list[tuple[bool, bool, bool, bool]], refused: int, keyed: bool) -> None:
    late, repeated, suspect, matched = (np.array([mark[i] for mark in marks], np.bool_) for i in range(4))
    repeated &= ~late  # what is late is not looked up among the keys
    records = [Record(at, suspect=mark[2], rules=("r",) if mark[3] else ()) for at, mark in enumerate(marks)]
    scored = run("process", records, keyed=keyed)
    scored = type(scored)("process", "topic", scored.records, rejected(refused), {0: len(records)}, {}, {0: 7})
    found = judged(scored, late, repeated, WALL)
    counts, offsets = found.counts[0], np.arange(len(marks))
    assert (counts.late, counts.duplicate) == (int(late.sum()), int(repeated.sum()))
    assert counts.records == counts.on_time + counts.late + counts.duplicate + counts.rejected
    assert (counts.rejected, counts.unknown_fields) == (refused, 7)
    assert found.kept["offset"].to_list() == offsets[~repeated].tolist()
    assert found.on_time["offset"].to_list() == offsets[~repeated & ~late].tolist()
    assert found.suspects["offset"].to_list() == offsets[~repeated & ~late & suspect].tolist()
    assert counts.suspects == len(found.suspects)
    assert found.alerting(on_suspect=False)["offset"].to_list() == offsets[~repeated & matched].tolist()
    assert found.alerting(on_suspect=True)["offset"].to_list() == offsets[~repeated & (matched | suspect)].tolist()


def test_rows_have_the_columns_of_their_tables() -> None:
    scored = run("process", [Record(0.0), Record(86_400.0)], keyed=True)
    none = np.zeros(2, np.bool_)
    found = judged(scored, none, none, WALL)
    rows = lake_rows(found.kept, "berlin", topic="topic", epoch=3)
    expected = {name: kind for name, kind in records_schema(PROCESS).items() if name in rows.columns}
    assert list(rows.schema.items()) == list(expected.items())
    assert set(records_schema(PROCESS)) - set(rows.columns) == {"model"}, "which comes with the scores of a panel"
    assert rows["date"].n_unique() == 2, "records lie by the date of the event"
    assert rows.select("topic", "epoch", "site").unique().rows() == [("topic", 3, "berlin")]


def test_rejected_rows_lie_by_the_date_of_their_processing() -> None:
    rows = lake_rows(processed_at(rejected(2), WALL), "berlin")
    assert rows.schema == rejected_schema()
    assert rows["date"].to_list() == rows["processing_time"].dt.date().to_list()


@pytest.mark.parametrize("number", [0, 1])
def test_a_date_that_rows_have_stays(number: int) -> None:
    pairs = pl.DataFrame({"date": ["2001-01-01"] * number}).select(pl.col("date").cast(pl.String).str.to_date())
    assert lake_rows(pairs, "berlin")["date"].equals(pairs["date"])
