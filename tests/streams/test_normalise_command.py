"""`hackwatch normalise`: a file in, a table and its rejected records out."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from hackwatch.cli import main
from hackwatch.streams.stream import REJECTED_SCHEMA
from hackwatch.tables import TableFile
from tests.streams.support import record
from tests.third.shop import shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")

RECORDS = [
    record("visit", client="=cmd|'/c calc'!A1", bytes="612", label=1),
    record("visit", label=0, rack="x\x1b"),
    record("visit", status=-1),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "visit.ndjson"
    path.write_text("".join(json.dumps(one) + "\n" for one in RECORDS))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["normalise", *map(str, arguments)])


@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson"])
def test_a_table_is_written_with_the_rejected_beside_it(tmp_path: Path, source: Path, form: str) -> None:
    out = tmp_path / f"out.{form}"
    result = run(source, "--as", "visit", "-o", out, "--option", "letterless_mib", "--labels")
    assert result.exit_code == 0, result.output
    assert "2 records -> " in result.stdout
    assert "1 rejected -> " in result.stdout
    assert "rack (1)" in result.stderr
    table: pl.DataFrame = getattr(pl, f"read_{form}")(out)
    assert table["bytes"].to_list() == [612 * 2.0**20, 12.5 * 1024]
    assert table["label"].to_list() == [1, 0]
    rejected = pl.read_ndjson(tmp_path / "out.rejected.ndjson", schema=REJECTED_SCHEMA)
    assert rejected.select("offset", "reason").rows() == [
        (sum(len(json.dumps(one)) + 1 for one in RECORDS[:2]), "status: not a whole number from 100 to 599")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"out.{form}", "out.rejected.ndjson", "visit.ndjson"]


def test_no_name_becomes_a_formula_in_a_spreadsheet(tmp_path: Path, source: Path) -> None:
    run(source, "--as", "visit", "-o", tmp_path / "out.csv")
    table = pl.read_csv(tmp_path / "out.csv")
    assert table["client"].to_list() == ["'=cmd|'/c calc'!A1", "203.0.113.7"]
    assert table["client_path"][0].startswith("'=")


def test_the_summary_can_be_json_and_no_empty_file_is_left(tmp_path: Path, source: Path) -> None:
    source.write_text(json.dumps(RECORDS[0]))
    result = run(source, "--as", "visit", "-o", tmp_path / "out.parquet", "--json")
    assert json.loads(result.stdout) == {
        "records": 1,
        "rejected": 0,
        "unknown_fields": {},
        "out": str(tmp_path / "out.parquet"),
        "rejected_out": None,
    }
    assert not (tmp_path / "out.rejected.ndjson").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--as", "disk", "-o", "out.csv"], 2, "there is no stream 'disk'"),
        (["--as", "visit", "-o", "out.csv", "--option", "kib"], 2, "visit has no option 'kib'"),
        (["--as", "visit", "-o", "out.xlsx"], 2, "cannot tell the form of out.xlsx"),
        (["--as", "visit", "-o", "/proc/nowhere/out.csv"], 4, "cannot be written"),
    ],
)
def test_errors_say_what_to_do(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(source, *arguments)
    assert result.exit_code == code
    assert says in result.stderr
    assert "next: " in result.stderr


def test_a_file_of_no_format_of_the_stream_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text('192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 2326\n')
    result = run(log, "--as", "visit", "-o", tmp_path / "out.parquet")
    assert result.exit_code == 3
    assert "this is no file of visit" in result.stderr
    assert "visit reads json, csv" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["access.log"]


def test_a_table_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    frame = pl.DataFrame({"a": [1]})

    def half() -> None:
        with TableFile(out, frame.schema) as table:
            table.append(frame)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert out.read_text() == "old"
