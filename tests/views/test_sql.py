"""Cursors: rows come as they are read, from the lake and from the store, and no further than somebody asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow  # type: ignore[import-untyped]  # it ships no types
import pyarrow.dataset as ds  # type: ignore[import-untyped]  # it ships no types
import pytest

from hackwatch.errors import ConfigurationError, ResourceError
from hackwatch.lake import Lake
from hackwatch.store import Store, open_store
from hackwatch.views.sql import BATCH_ROWS, Tables, query
from tests.lake.support import records
from tests.store.support import alert, commit, windows

ROWS = 3 * BATCH_ROWS


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tables]:
    folder = tmp_path_factory.mktemp("sql")
    lake = Lake(folder / "lake")
    lake.append("visit", records(ROWS), 1, "main")
    lake.append("visit", records(ROWS, first=ROWS, days=2), 2, "main")
    lake.append("visited", records(1), 1, "main")
    counted = windows(*(("visit", f"192.0.2.{n}", 0, 120, n, 1, 1, True) for n in range(ROWS)))
    with open_store(folder / "store.sqlite") as store:
        store.checkpoints.commit_epoch("main", commit(1, 1, counted=counted))
        store.checkpoints.log_batches("main", (), [alert(1)])
        yield Tables(lake, store)


def one(tables: Tables, text: str, *parameters: object) -> object:
    ((value,),) = query(tables, text, parameters).rows()
    return value


def test_rows_come_in_batches(tables: Tables) -> None:
    for table in ("visit", "windows"):
        sizes = [batch.num_rows for batch in query(tables, f"FROM {table}")]
        assert sum(sizes) == ROWS * (2 if table == "visit" else 1)
        assert max(sizes) <= BATCH_ROWS


def test_order_is_kept(tables: Tables) -> None:
    ids = [row[0] for row in query(tables, "SELECT id FROM visit ORDER BY id DESC").rows()]
    assert ids == list(range(2 * ROWS))[::-1]


def test_a_cursor_is_what_arrow_takes(tables: Tables) -> None:
    frame = pl.DataFrame(query(tables, "SELECT id, rules FROM visit WHERE id < 3 ORDER BY id"))
    assert frame.rows() == [(0, ["r1", "r2"]), (1, []), (2, [])]
    assert pyarrow.table(query(tables, "SELECT 1 AS n")).to_pylist() == [{"n": 1}]


def test_parameters(tables: Tables) -> None:
    assert one(tables, "SELECT count(*) FROM visit WHERE path = ?", "'; DROP TABLE visit; --") == 0
    assert one(tables, "SELECT count(*) FROM visit WHERE id < ?", 7) == 7


@pytest.mark.parametrize(
    "text", ["SELECT count(*) FROM windows a JOIN windows b USING (entity)", "FROM windows LIMIT 1"]
)
def test_a_table_of_the_store_is_read_by_each_scan_anew(tables: Tables, text: str) -> None:
    assert len(list(query(tables, text).rows())) == 1


def test_who_reads_no_further_holds_nothing(tables: Tables) -> None:
    assert tables.store is not None
    database = tables.store.database
    before = len(database._connections)  # type: ignore[attr-defined]  # SQLite's
    for table in ("windows", "visit"):
        with query(tables, f"FROM {table}") as cursor:
            assert next(cursor.rows()) is not None
    del cursor
    assert len(database._connections) == before  # type: ignore[attr-defined]  # SQLite's


def test_only_what_is_asked_for_reaches_the_files(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, str]] = []
    scanner = ds.FileSystemDataset.scanner

    class Seen(type(tables.lake.dataset("visit"))):  # type: ignore[misc]  # pyarrow ships no types
        def scanner(self, **options: object) -> ds.Scanner:
            asked.append((options["columns"], str(options["filter"])))
            return scanner(self, **options)

    def dataset(name: str) -> ds.Dataset:
        table = Lake.dataset(tables.lake, name)
        return Seen(list(table.get_fragments()), table.schema, table.format, table.filesystem)

    monkeypatch.setattr(tables.lake, "dataset", dataset)
    assert one(tables, "SELECT max(score) > 1 FROM visit WHERE id = 4") is False
    assert asked == [(["score"], "(id == 4)")]


@pytest.mark.parametrize(
    ("text", "named"),
    [("FROM visit", {"visit"}), ("from VISITED", {"visited"}), ("SELECT 'windows'", {"windows"}), ("SELECT 1", set())],
)
def test_only_the_tables_that_are_named_are_opened(tables: Tables, text: str, named: set[str]) -> None:
    class Registering:
        def __init__(self) -> None:
            self.names: set[str] = set()

        def register(self, name: str, _: object) -> None:
            self.names.add(name)

    seen = Registering()
    tables.register(seen, text)  # type: ignore[arg-type]  # what it needs of a connection
    assert seen.names == named


def test_a_store_that_cannot_be_read_on_says_so(tmp_path: Path) -> None:
    class Broken:
        def stream(self, *_: object, rows: int) -> Iterator[list[tuple[object, ...]]]:
            raise ResourceError("the server is away", where="db")
            yield []

    with open_store(tmp_path / "store.sqlite") as opened:
        store = Store(opened.database, "here")
        store.database = Broken()  # type: ignore[assignment]  # all that is asked of it
        with pytest.raises(ResourceError, match="the server is away"):
            list(query(Tables(Lake(tmp_path / "lake"), store), "FROM windows"))


def test_an_error_behind_the_first_rows_is_explained(tables: Tables) -> None:
    rows = query(tables, "SELECT CASE WHEN range > 300000 THEN error('late') ELSE range END FROM range(400000)").rows()
    assert next(rows) == (0,)
    with pytest.raises(ConfigurationError, match="late"):
        list(rows)
