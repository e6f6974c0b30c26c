"""Statistics of files: right for the protocol, and no reader that trusts them loses a row."""

from __future__ import annotations

import math
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import polars as pl
import pyarrow.dataset  # type: ignore[import-untyped]  # it ships no types
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hackwatch.lake import Lake
from hackwatch.lake.statistics import bounded, combine, summarise, to_json
from tests.third.support import shop

__all__ = ["shop"]

START = datetime(2031, 5, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
TEXTS = ("path",)
_UNBOUNDED = (pl.Float64(), pl.Boolean())
_FIXED = [pl.lit(START.date()).alias("date"), pl.lit("here").alias("site")]


def stats(frame: pl.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(to_json(summarise(frame, bounded(frame.schema, TEXTS))))
    return found


@pytest.mark.parametrize(
    ("values", "kind", "least", "greatest"),
    [
        ([3, None, 1], pl.Int64(), 1, 3),
        ([-(2**63), 2**63 - 1], pl.Int64(), -(2**63), 2**63 - 1),
        ([0.5, math.nan, math.inf], pl.Float64(), None, None),
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
    assert found["nullCount"] == ({} if least is None and kind in _UNBOUNDED else {"x": values.count(None)})
    assert (found["minValues"].get("x"), found["maxValues"].get("x")) == (least, greatest)


@pytest.mark.parametrize(
    ("column", "values", "least", "greatest"),
    [
        ("path", ["b", "a", "ü\U0010ffff"], "a", "ü\U0010ffff"),
        ("path", ["a" * 64], "a" * 64, "a" * 64),
        ("path", ["a" * 65], "a" * 64, "a" * 63 + "b"),
        ("path", ["a" * 63 + "\U0010ffff" * 9], "a" * 63 + "\U0010ffff", "a" * 62 + "b"),
        ("path", ["\ud7ff" * 99], "\ud7ff" * 64, "\ud7ff" * 63 + "\ue000"),
        ("path", ["\U0010ffff" * 99], "\U0010ffff" * 64, "\U0010ffff" * 99),
        ("raw", ["a"], None, None),
    ],
    ids=range(7),
)
def test_long_texts_are_cut_and_rounded_outwards(
    column: str, values: list[str], least: str | None, greatest: str | None
) -> None:
    found = stats(pl.DataFrame({column: values}))
    assert (found["minValues"].get(column), found["maxValues"].get(column)) == (least, greatest)
    assert greatest is None or greatest.encode() >= max(value.encode() for value in values)


@pytest.mark.parametrize(
    ("table", "texts"),
    [
        ("visit", {"client", "server"}),
        ("takeovers", {"client", "server"}),
        ("rejected", set()),
        ("of somebody else", set()),
    ],
)
def test_texts_have_bounds_where_the_stream_or_correlation_of_the_table_declares_it(
    tmp_path: Path, table: str, texts: set[str], shop: None
) -> None:
    lake = Lake(tmp_path)
    names = ("client", "server", "path", "stream", "topic", "reason", "raw")
    lake.append(table, pl.DataFrame({name: ["a"] for name in names}).with_columns(_FIXED), 1, "main")
    configured = DeltaTable(tmp_path / table).metadata().configuration["delta.dataSkippingStatsColumns"]
    assert set(configured.split(",")) == texts | {"stream", "topic", "reason"}


def test_lists_have_no_statistics() -> None:
    assert stats(pl.DataFrame({"rules": [["a"], None]}))["nullCount"] == {}


def test_summaries_of_parts_make_the_summary_of_the_whole() -> None:
    parts = [
        pl.DataFrame({"a": [1, None], "b": [1.0, math.nan], "path": ["x", "y"]}),
        pl.DataFrame({"a": [5, -3], "b": [2.0, 3.0], "path": ["a" * 99, "y"], "new": [7, 8]}),
    ]
    whole = pl.concat(parts, how="diagonal")
    columns = ["a", "path", "new"]
    assert orjson.loads(to_json(combine([summarise(part, columns) for part in parts]))) == stats(whole)
    assert stats(whole)["nullCount"] == {"a": 1, "path": 0, "new": 2}


_COLUMNS: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "id": (pl.Int64(), st.integers(-3, 3) | st.sampled_from([-(2**63), 2**63 - 1])),
    "score": (pl.Float32(), st.floats(width=32)),
    "load": (pl.Float64(), st.floats()),
    "path": (pl.String(), st.text(max_size=3) | st.sampled_from(["a" * 64, "a" * 65, "\U0010ffff" * 70, ""])),
    "event_time": (TIME, st.integers(-5000, 5000).map(lambda us: START + timedelta(microseconds=us))),
}
_ROWS = st.lists(st.tuples(*(st.none() | values for _, values in _COLUMNS.values())), min_size=1, max_size=4)
_OPERATIONS = ("lt", "le", "eq", "ge", "gt", "ne", "is_null", "is_not_null")


@settings(max_examples=40)
@given(parts=st.lists(_ROWS, min_size=1, max_size=3), pick=st.randoms(use_true_random=False))
def test_skipping_files_never_loses_a_row(parts: list[list[tuple[Any, ...]]], pick: Any) -> None:
    schema = {name: kind for name, (kind, _) in _COLUMNS.items()}
    frames = [pl.DataFrame(rows, schema=schema, orient="row") for rows in parts]
    whole = pl.concat(frames)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder), texts=lambda table: TEXTS)
        for epoch, frame in enumerate(frames, 1):
            lake.append("t", frame.with_columns(_FIXED), epoch, "main")
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
        with duckdb.connect() as connection:
            connection.register("skipping", lake.dataset("t"))
            connection.register("whole", whole.to_arrow())
            for operation in ("<", "<=", "=", ">=", ">", "!=", "IS NOT DISTINCT FROM"):
                query = f"SELECT count(*) FROM {{}} WHERE {name} {operation} ?::{_SQL_TYPES[name]}"
                counts = [
                    connection.execute(query.format(table), [value]).fetchall()
                    for table in ("skipping", "(FROM whole LIMIT 99)")
                ]
                assert counts[0] == counts[1], (query, value)


_SQL_TYPES = {"id": "BIGINT", "score": "FLOAT", "load": "DOUBLE", "path": "TEXT", "event_time": "TIMESTAMPTZ"}


def test_delta_rs_loses_nothing_either(tmp_path: Path) -> None:
    """It takes a bound that one file lacks for null, and no row compares with null."""
    lake = Lake(tmp_path, texts=lambda table: TEXTS)
    rows = [
        {"path": "a", "x": 1.0, "n": 1},
        {"path": "b" * 99, "x": math.nan, "n": 2},
        {"path": "c", "x": math.inf, "n": 3},
    ]
    for epoch, row in enumerate(rows, 1):
        lake.append("t", pl.DataFrame([row]).with_columns(_FIXED), epoch, "main")
    lake.append(
        "t",
        pl.DataFrame({"path": [None], "n": [4], "later": [7]}).cast({"path": pl.String}).with_columns(_FIXED),
        4,
        "main",
    )
    lake.append("t", pl.DataFrame({"x": [0.0]}).with_columns(_FIXED), 5, "main")
    table = DeltaTable(tmp_path / "t")
    nulls = table.to_pyarrow_dataset()
    for column, number in (("later", 4), ("n", 1), ("path", 2), ("x", 1)):
        assert nulls.filter(pyarrow.dataset.field(column).is_null()).count_rows() == number, column
    for filters, expected in (
        ([("path", ">", "a")], [2, 3]),
        ([("path", "==", "b" * 99)], [2]),
        ([("x", ">", 0.5)], [1, 3]),
        ([("n", ">=", 2)], [2, 3, 4]),
        ([("later", "==", 7)], [4]),
    ):
        assert sorted(table.to_pyarrow_table(filters=filters)["n"].to_pylist()) == expected


def test_readers_do_skip(tmp_path: Path) -> None:
    """The statistics are used at all: a file that cannot hold the answer is not even opened."""
    lake = Lake(tmp_path)
    for epoch in (1, 2):
        lake.append("t", pl.DataFrame({"id": [epoch]}).with_columns(_FIXED), epoch, "main")
    next(tmp_path.rglob("part-0000000001-*")).write_bytes(b"unreadable")
    assert lake.scan("t").filter(pl.col("id") == 2).collect()["id"].to_list() == [2]
