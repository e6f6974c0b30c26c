"""The lake belongs to its owner: what an engine wrote is read by Polars, DuckDB and pandas where no hackwatch is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import polars as pl
import pytest

from tests.engine.processes import Folder, Outcome, feed, until
from tests.third.support import SHOP, shop_all_along

__all__ = ["shop_all_along"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shop_all_along")]

RECORDS = 4_000
TABLES = (*SHOP, "takeovers", "rejected")
#: Run by itself, with hackwatch out of reach: what each reader makes of each table.
SCRIPT = """
import json, sys
sys.modules["hackwatch"] = None
import duckdb, polars
from deltalake import DeltaTable

lake, number = sys.argv[1], {"visit": "bytes", "login": "waited", "takeovers": "visit_bytes", "rejected": "raw_bytes"}

def facts(table, column):
    path = f"{lake}/{table}"
    lazy = polars.scan_delta(path)
    lists = [name for name, kind in lazy.collect_schema().items() if kind == polars.List(polars.String)]
    rows = lazy.collect()
    words = sum(rows[name].list.len().sum() for name in lists)
    yield "polars", len(rows), rows[column].sum(), words, rows["date"].min()
    dataset = DeltaTable(path).to_pyarrow_dataset()
    words = " + ".join(f"sum(len({name}))" for name in lists) or "0"
    with duckdb.connect() as connection:
        connection.register("t", dataset)
        query = f"SELECT count(*), sum({column}), {words}, min(date) FROM t"
        yield "duckdb", *connection.execute(query).fetchone()
    frame = DeltaTable(path).to_pandas()
    words = sum(int(frame[name].map(len).sum()) for name in lists)
    yield "pandas", len(frame), frame[column].sum(), words, min(frame["date"])

def told(table, column):
    return {name: [int(rows), float(total), int(words), str(day)[:10]]
            for name, rows, total, words, day in facts(table, column)}

print(json.dumps({table: told(table, column) for table, column in number.items()}))
"""


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory, shop_all_along: None) -> Folder:
    """A folder in which an engine has written some epochs, joined some of their files, and written more."""
    folder = Folder.make(tmp_path_factory.mktemp("readers") / "run", epoch_seconds=0.2, shop=True)
    with folder.service():
        for part in (1, 2, 3):
            feed(folder, RECORDS, seed=part)
            until(folder.worked_off, "everything is committed")
            if part == 2:
                for table in folder.lake.tables():
                    folder.lake.compact(table)
    return folder


@pytest.fixture(scope="module")
def read(worked: Folder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[Any]]]:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(worked.data / "lake")]
    done = subprocess.run(
        command, cwd=tmp_path_factory.mktemp("elsewhere"), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, list[Any]]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("table", TABLES)
def test_every_reader_sees_every_row(table: str, worked: Folder, read: dict[str, dict[str, list[Any]]]) -> None:
    rows = Outcome.of(worked).tables[table]
    assert set(read[table]) == {"polars", "duckdb", "pandas"}
    for name, (count, total, words, day) in read[table].items():
        assert count == len(rows) > 10, name
        assert total == pytest.approx(read[table]["polars"][1]), name
        assert [words, day] == read[table]["polars"][2:], name
    if table in SHOP:
        assert read[table]["polars"][2] == rows["rules"].list.len().sum()
        assert read["visit"]["polars"][2] > 0
        assert read[table]["polars"][3] == str(rows.select(pl.col("event_time").dt.date().min()).item())
