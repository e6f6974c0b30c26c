"""Statistics of files: right for the protocol, and no reader that trusts them loses a row."""

from __future__ import annotations

import math
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hackwatch.lake import Lake
from hackwatch.lake.statistics import combine, summarise, to_json

START = datetime(2031, 5, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")


def stats(frame: pl.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(to_json(summarise(frame)))
    return found


@pytest.mark.parametrize(
    ("values", "kind", "least", "greatest"),
    [
        ([3, None, 1], pl.Int64(), 1, 3),
        ([-(2**63), 2**63 - 1], pl.Int64(), -(2**63), 2**63 - 1),
        ([0.1], pl.Float32(), 0.10000000149011612, 0.10000000149011612),
        ([0.0, -0.0], pl.Float64(), -0.0, 0.0),
        ([1.0, math.nan], pl.Float64(), None, None),
        ([1.0, math.inf], pl.Float64(), None, None),
        ([-math.inf, 1.0], pl.Float64(), None, None),
        ([None], pl.Int64(), None, None),
        ([], pl.Int64(), None, None),
        ([START + timedelta(microseconds=1)], TIME, "2031-05-01T00:00:00.000Z", "2031-05-01T00:00:00.001Z"),
        ([START], TIME, "2031-05-01T00:00:00.000Z", "2031-05-01T00:00:00.000Z"),
        (
            [datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)],
            TIME,
            "1969-12-31T23:59:59.999Z",
            "1970-01-01T00:00:00.000Z",
        ),
        ([START.date()], pl.Date(), "2031-05-01", "2031-05-01"),
        ([True], pl.Boolean(), None, None),
    ],
    ids=str,
)
def test_bounds(values: list[Any], kind: pl.DataType, least: Any, greatest: Any) -> None:
    found = stats(pl.DataFrame({"x": values}, schema={"x": kind}))
    assert found["numRecords"] == len(values)
    assert found["nullCount"] == {"x": values.count(None)}
    assert (found["minValues"].get("x"), found["maxValues"].get("x")) == (least, greatest)
    if isinstance(least, float):
        assert math.copysign(1, found["minValues"]["x"]) == math.copysign(1, least)


@pytest.mark.parametrize(
    ("column", "values", "bounded"),
    [
        ("CMD", ["b", "a", "ü\U0010ffff"], True),
        ("CMD", ["a" * 64], True),
        ("CMD", ["a" * 65, "b"], False),
        ("CMD", ["ü" * 33], False),
        ("raw", ["a"], False),
    ],
)
def test_only_short_texts_of_some_columns_are_bounded(column: str, values: list[str], bounded: bool) -> None:
    found = stats(pl.DataFrame({column: values}))
    expected = (min(values), max(values)) if bounded else (None, None)
    assert (found["minValues"].get(column), found["maxValues"].get(column)) == expected


def test_lists_have_no_statistics() -> None:
    assert stats(pl.DataFrame({"rules": [["a"], None]}))["nullCount"] == {}


def test_summaries_of_parts_make_the_summary_of_the_whole() -> None:
    parts = [
        pl.DataFrame({"a": [1, None], "b": [1.0, math.nan], "CMD": ["x", "y"]}),
        pl.DataFrame({"a": [5, -3], "b": [2.0, 3.0], "CMD": ["a" * 99, "y"], "new": [7, 8]}),
    ]
    whole = pl.concat(parts, how="diagonal")
    assert orjson.loads(to_json(combine([summarise(part) for part in parts]))) == stats(whole)


_COLUMNS: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "id": (pl.Int64(), st.integers(-3, 3) | st.sampled_from([-(2**63), 2**63 - 1])),
    "score": (pl.Float32(), st.floats(width=32)),
    "load": (pl.Float64(), st.floats()),
    "CMD": (pl.String(), st.text(max_size=3) | st.sampled_from(["a" * 64, "a" * 65, "\U0010ffff", ""])),
    "event_time": (TIME, st.integers(-5000, 5000).map(lambda us: START + timedelta(microseconds=us))),
}
_ROWS = st.lists(st.tuples(*(st.none() | values for _, values in _COLUMNS.values())), min_size=1, max_size=4)
_OPERATIONS = ("lt", "le", "eq", "ge", "gt", "ne", "is_null", "is_not_null")


@settings(max_examples=40)
@given(parts=st.lists(_ROWS, min_size=1, max_size=3), pick=st.randoms(use_true_random=False))
def test_skipping_files_never_loses_a_row(parts: list[list[tuple[Any, ...]]], pick: Any) -> None:
    schema = {name: kind for name, (kind, _) in _COLUMNS.items()}
    frames = [pl.DataFrame(rows, schema=schema, orient="row") for rows in parts]
    fixed = [pl.lit(START.date()).alias("date"), pl.lit("here").alias("site")]
    whole = pl.concat(frames)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        for epoch, frame in enumerate(frames, 1):
            lake.append("t", frame.with_columns(fixed), epoch, "main")
        if pick.random() < 0.3:
            lake.compact("t")
        name = pick.choice(sorted(_COLUMNS))
        value = pick.choice([v for v in whole[name].to_list() if v is not None] or [None])
        for operation in _OPERATIONS:
            right = [] if operation.startswith("is") else [pl.lit(value, schema[name])]
            condition: pl.Expr = getattr(pl.col(name), operation)(*right)
            expected = whole.filter(condition).sort(pl.all())
            found = lake.scan("t").filter(condition).collect().select(whole.columns).sort(pl.all())
            assert_frame_equal(found, expected)


def test_readers_do_skip(tmp_path: Path) -> None:
    """The statistics are used at all: a file that cannot hold the answer is not even opened."""
    lake = Lake(tmp_path)
    fixed = [pl.lit(START.date()).alias("date"), pl.lit("here").alias("site")]
    for epoch in (1, 2):
        lake.append("t", pl.DataFrame({"id": [epoch]}).with_columns(fixed), epoch, "main")
    next(tmp_path.rglob("part-0000000001-*")).write_bytes(b"unreadable")
    assert lake.scan("t").filter(pl.col("id") == 2).collect()["id"].to_list() == [2]
