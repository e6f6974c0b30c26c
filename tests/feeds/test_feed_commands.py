"""`hackwatch feed`: ways in of any stream, as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hackwatch.cli import main
from hackwatch.topics.spool import SpoolReader
from tests.third.shop import shop_all_along
from tests.topics.support import everything

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--data", str(data), "feed", *arguments])


def test_follow_goes_on_where_it_was(tmp_path: Path) -> None:
    csv = tmp_path / "visits.csv"
    csv.write_text("client,server,path,agent,status,bytes,seconds,ts\n1,s,/,a,200,1,0,1e9\n2,s,/,a,200,1,0,1e9\n")
    asked = ("follow", str(csv), "--as", "visit", "--from-start", "--duration", "0.3", "--json")
    first = run(tmp_path / "data", *asked)
    assert first.exit_code == 0, first.output
    with csv.open("a") as file:
        file.write("3,s\n")
    assert json.loads(run(tmp_path / "data", *asked).stdout)["records"] == 1
    sent = map(json.loads, everything(SpoolReader(tmp_path / "data" / "spool" / "visit")))
    assert [record["client"] for record in sent] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("arguments", "code", "names"),
    [
        (("replay", "visit", "--csv", __file__), 2, "visit"),
        (("replay", "disk", "--csv", __file__), 2, "disk"),
        (("follow", "x", "--as", "nothing"), 2, "nothing"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else str(value),
)
def test_what_cannot_be_is_said(tmp_path: Path, arguments: tuple[str, ...], code: int, names: str) -> None:
    result = run(tmp_path, *arguments)
    assert (result.exit_code, names in result.output) == (code, True), result.output
