"""`hackwatch sql` and `hackwatch lake`: the tables of lake and store, and nothing else of the machine."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from hackwatch.cli import main
from hackwatch.lake import Lake
from hackwatch.store import open_store
from tests.lake.support import records
from tests.store.support import alert, commit, windows

EVIL = "=cmd|'/c calc'!A1\x1b[31m\u202e"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    lake = Lake(folder / "lake")
    lake.append("process", records(10), 1, "main")
    lake.append("process", records(1, first=10).with_columns(pl.lit(EVIL).alias("path")), 2, "main")
    with open_store(folder / "store.sqlite") as store:
        store.checkpoints.log_batches("main", [], [alert(1, created=1_700_000_000.5)])
        counted = windows(("process", "4", 120, 240, 9, 2, 1, False))
        store.checkpoints.commit_epoch("main", commit(1, 1, counted=counted))
    return folder


def hackwatch(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--data", str(data), *arguments])


def files(data: Path) -> list[Path]:
    """All files but those by which SQLite's readers and writers find each other."""
    return sorted(path for path in data.rglob("*") if not path.name.endswith(("-wal", "-shm")))


def ask(data: Path, query: str, *more: str) -> list[dict[str, object]]:
    result = hackwatch(data, "sql", query, "--format", "json", *more)
    assert result.exit_code == 0, result.output
    rows: list[dict[str, object]] = json.loads(result.stdout)
    return rows


def test_lake_and_store_in_one_query(data: Path) -> None:
    rows = ask(data, "SELECT a.rule, w.suspects, count(p.id) AS n FROM alerts a, windows w, process p GROUP BY ALL")
    assert rows == [{"rule": "correlated-suspects", "suspects": 2, "n": 11}]


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("SELECT max(event_time) AS v FROM process", "2031-05-01T12:00:00.000010+00:00"),
        ("SELECT created AS v FROM alerts", "2023-11-14T22:13:20.500000+00:00"),
        ("SELECT start_time AS v FROM windows", "1970-01-01T00:02:00+00:00"),
        ("FROM process SELECT rules AS v WHERE id = 3", ["r1", "r2"]),
        ("SELECT count(*) AS v FROM Process", 11),
        ("SELECT 1.50::DECIMAL(9,2) AS v", "1.50"),
        ("SELECT 'nan'::DOUBLE AS v", None),
        ("SELECT {'a': [1]} AS v", {"a": [1]}),
    ],
)
def test_values(data: Path, query: str, value: object) -> None:
    assert ask(data, query) == [{"v": value}]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('{data}/store.sqlite')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM parquet_scan('{data}/lake/process/*/*/*.parquet')",
        "COPY (SELECT 1) TO '{data}/stolen.csv'",
        "ATTACH '{data}/other.db'",
        "INSTALL httpfs",
        "LOAD sqlite",
        "SET enable_external_access = true",
        "EXPORT DATABASE '{data}/export'",
        "CREATE TABLE x AS SELECT 1",
        "DROP VIEW process",
        "SELECT 1; SELECT 2",
        "SELECT * FROM lake",
        "SELECT nope FROM process",
        "SELEC 1",
        "",
    ],
)
def test_what_a_query_may_not_do(data: Path, query: str) -> None:
    before = files(data)
    result = hackwatch(data, "sql", query.format(data=data))
    assert result.exit_code == 2
    assert "next:" in result.stderr
    assert "Traceback" not in result.output
    assert files(data) == before


def test_an_error_names_tables_and_columns(data: Path) -> None:
    result = hackwatch(data, "sql", "SELECT nope FROM process")
    assert "process(id, path, score" in result.stderr
    assert "windows(site, stream" in result.stderr


@pytest.mark.parametrize("table", ["attacks", "Rejected", "memory"])
def test_a_table_that_the_engine_has_not_made_yet_is_no_mistake_of_the_query(data: Path, table: str) -> None:
    result = hackwatch(data, "sql", f"SELECT count(*) FROM {table}")
    assert result.exit_code == 3
    assert f"the table {table.lower()} is not there yet" in result.stderr


def test_so_it_is_before_the_first_epoch(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    open_store(tmp_path / "data" / "store.sqlite").close()
    assert "the table process is not there yet" in hackwatch(tmp_path / "data", "sql", "FROM process").stderr


def test_memory_is_bounded(data: Path) -> None:
    result = hackwatch(data, "sql", "SELECT range FROM range(50000000) ORDER BY random()", "--memory", "50MB")
    assert result.exit_code == 4
    assert "--memory" in result.stderr
    assert hackwatch(data, "sql", "SELECT 1", "--memory", "lots").exit_code == 2


def test_tables_are_listed(data: Path) -> None:
    rows = hackwatch(data, "sql", "--tables", "--format", "json")
    listed = {(row["table_name"], row["column_name"], row["type"]) for row in json.loads(rows.stdout)}
    assert {("process", "event_time", "Datetime (UTC)"), ("alerts", "risk", "Int64")} <= listed


def test_before_the_first_run_there_is_nothing(tmp_path: Path) -> None:
    assert json.loads(hackwatch(tmp_path, "sql", "--tables", "--format", "json").stdout) == []
    result = hackwatch(tmp_path, "sql", "SELECT * FROM process")
    assert result.exit_code == 2
    assert "hackwatch run" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["table", "csv"])
def test_what_attackers_wrote_is_harmless(data: Path, form: str) -> None:
    result = hackwatch(data, "sql", "SELECT path, -1 AS n FROM process WHERE id = 10", "--format", form)
    assert result.exit_code == 0
    if form == "table":
        assert "\x1b" not in result.stdout
        assert "\u202e" not in result.stdout
        assert "\\x1b[31m\\u202e" in result.stdout
    else:
        assert list(csv.reader(io.StringIO(result.stdout))) == [["path", "n"], [f"'{EVIL}", "-1"]]


@pytest.mark.parametrize("form", ["table", "csv", "ndjson", "json"])
def test_limits(data: Path, form: str) -> None:
    result = hackwatch(data, "sql", "SELECT id FROM process ORDER BY id", "--format", form, "--limit", "3")
    assert [word for word in result.stdout.replace("}", " ").replace(":", " ").split() if word.isdigit()] == [
        "0",
        "1",
        "2",
    ]
    assert ("--limit 0" in result.stderr) == (form == "table")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("out.parquet", pl.read_parquet),
        ("out.csv", pl.read_csv),
        ("out.json", pl.read_json),
        ("out.ndjson", pl.read_ndjson),
    ],
)
def test_results_in_files(data: Path, tmp_path: Path, name: str, read: object) -> None:
    target = tmp_path / name
    result = hackwatch(data, "sql", "SELECT id, score FROM process ORDER BY id", "-o", str(target), "--limit", "4")
    assert result.exit_code == 0, result.output
    assert callable(read)
    assert read(target)["id"].to_list() == [0, 1, 2, 3]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_failed_query_leaves_the_file_before(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("before")
    assert hackwatch(data, "sql", "SELECT error('late') FROM process", "-o", str(target)).exit_code == 2
    assert target.read_text() == "before"


def test_a_pipe_is_written_to_and_never_replaced(data: Path, tmp_path: Path) -> None:
    """As /dev/null must not be, which root could replace by a file of his own."""
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert hackwatch(data, "sql", "SELECT 7 AS n", "-o", str(pipe)).exit_code == 0
        assert os.read(reader, 100) == b"n\n7\n"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_link_goes_on_to_name_its_file(data: Path, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    assert hackwatch(data, "sql", "SELECT 7 AS n", "-o", str(tmp_path / "link.csv")).exit_code == 0
    assert (tmp_path / "target.csv").read_text() == "n\n7\n"


def test_parquet_needs_a_file(data: Path) -> None:
    assert hackwatch(data, "sql", "SELECT 1", "--format", "parquet").exit_code == 2


# ---------------------------------------------------------------------- hackwatch lake


def test_lake_commands(data: Path) -> None:
    (before,) = (json.loads(line) for line in hackwatch(data, "lake", "statistics", "--json").stdout.splitlines())
    assert (before["table"], before["rows"], before["files"]) == ("process", 11, 2)
    assert "2 files" in hackwatch(data, "lake", "compact").stdout
    assert json.loads(hackwatch(data, "lake", "compact", "process", "--json").stdout)["removed"] == 0
    assert "0 files would be deleted" in hackwatch(data, "lake", "vacuum", "--dry-run").stdout
    assert "process" in hackwatch(data, "lake", "statistics").stdout


def test_lake_commands_name_the_tables(data: Path) -> None:
    result = hackwatch(data, "lake", "compact", "nope")
    assert result.exit_code == 2
    assert "the tables are: process" in result.stderr
