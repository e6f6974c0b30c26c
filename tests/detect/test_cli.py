"""The commands on simulated records, as a person would call them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from hackwatch.cli import main
from tests.third.support import labelled, shop_all_along

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shop_all_along: None) -> Path:
    """Labelled files, and a data folder with a trained model per stream."""
    folder = tmp_path_factory.mktemp("cli")
    labelled("login", 3, 6000).write_ndjson(folder / "login.ndjson")
    labelled("visit", 3, 6000).write_csv(folder / "visit.csv")
    for stream, file in (("login", "login.ndjson"), ("visit", "visit.csv")):
        found = _run(folder, "train", "--as", stream, str(folder / file), "--trees", "10", "--alert-budget", "0.01")
        assert found.exit_code == 0, found.output
    return folder


def _run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--data", str(folder / "data"), *arguments])


def _json(folder: Path, *arguments: str) -> dict[str, object]:
    found = _run(folder, *arguments, "--json")
    assert found.exit_code == 0, found.output
    document: dict[str, object] = json.loads(found.stdout)
    return document


def test_train_says_what_it_did(folder: Path) -> None:
    found = _run(folder, "train", "--as", "login", str(folder / "login.ndjson"), "--no-promote", "--trees", "5")
    assert "supervised, 6,000 records" in found.output
    assert "attack type never seen" in found.output
    assert "not promoted" in found.output


def test_train_on_a_simulation(folder: Path, tmp_path: Path) -> None:
    document = _json(
        folder, "train", "--as", "visit", "--simulated", "--records", "3000", "--trees", "5", "-o", str(tmp_path / "b")
    )
    assert document["records"] == 3000
    assert document["promoted"] is False
    assert (tmp_path / "b/bundle.json").is_file()


@pytest.mark.parametrize("arguments", [(), ("--simulated", "--lake")], ids=["none", "two"])
def test_train_wants_exactly_one_source(folder: Path, arguments: tuple[str, ...]) -> None:
    found = _run(folder, "train", "--as", "login", *arguments)
    assert found.exit_code == 2
    assert "--simulated" in found.output


def test_evaluate_measures_and_reports(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    document = _json(folder, "evaluate", "--as", "visit", str(folder / "visit.csv"), "--html", str(page))
    assert document["rows"] == 6000
    assert isinstance(document["roc_auc"], float)
    assert document["roc_auc"] > 0.9
    assert page.read_text().startswith("<!doctype html>")
    found = _run(folder, "evaluate", "--as", "visit", str(folder / "visit.csv"))
    assert "recall at 0.1 % FPR" in found.output


@pytest.mark.parametrize("ending", ["parquet", "csv", "ndjson"])
def test_detect_writes_every_form(folder: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"scored.{ending}"
    document = _json(folder, "detect", str(folder / "login.ndjson"), "--as", "login", "-o", str(out), "--drivers")
    if ending == "parquet":
        rows = pl.read_parquet(out).height
    elif ending == "ndjson":
        rows = len(out.read_text().splitlines())
    else:
        with out.open() as file:
            rows = sum(1 for _ in csv.DictReader(file))
    assert rows == document["records"] == 6000


def test_detect_suspects_only_with_their_drivers(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "suspects.parquet"
    arguments = ["detect", str(folder / "login.ndjson"), "--as", "login", "-o", str(out), "--suspects", "--drivers"]
    document = _json(folder, *arguments)
    found = pl.read_parquet(out)
    assert found.height == document["suspects"]
    assert found.height > 0
    assert found["drivers"].str.contains("usual").all()


def test_detect_takes_normalised_parquet_and_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    _json(folder, "detect", str(folder / "visit.csv"), "--as", "visit", "-o", str(first))
    _json(folder, "detect", str(first), "--as", "visit", "-o", str(second))
    assert pl.read_parquet(second)["score"].equals(pl.read_parquet(first)["score"])
    found = _run(folder, "detect", str(first), "--as", "login", "-o", str(tmp_path / "x.csv"))
    assert found.exit_code != 0
    assert "gate" in str(found.exception) + found.output


def test_no_records_at_all_are_no_mistake_in_any_form(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none.csv").touch()
    assert _run(folder, "normalise", str(tmp_path / "none.csv"), "--as", "login", "-o", str(tmp_path / "none.parquet"))
    for name in ("none.csv", "none.parquet"):
        found = _run(folder, "detect", str(tmp_path / name), "--as", "login", "-o", str(tmp_path / "out.csv"))
        assert found.exit_code == 0, found.output
        assert found.stdout.startswith("0 records")


def test_models_list_show_promote_rollback_import(folder: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    _json(folder, "train", "--as", "login", str(folder / "login.ndjson"), "--trees", "5", "-o", str(bundle))
    found = _run(folder, "models", "import", str(bundle))
    assert found.exit_code == 0, found.output
    version = found.output.split()[-1]
    before = _json(folder, "models", "show", "login")["version"]
    assert _run(folder, "models", "promote", version).exit_code == 0
    assert _json(folder, "models", "show", "login")["version"] == version
    assert f"* {version}" in _run(folder, "models", "list").output
    assert _run(folder, "models", "rollback", "login").exit_code == 0
    assert _json(folder, "models", "show", "login")["version"] == before


def test_roles(folder: Path) -> None:
    """Promoted beside the champion, which stays; whoever promotes hears when no engine looks at the role."""
    before = _json(folder, "models", "show", "login")["version"]
    made = _run(
        folder,
        "train",
        "--as",
        "login",
        str(folder / "login.ndjson"),
        "--trees",
        "5",
        "--role",
        "content",
        "--json",
    )
    assert 'engines look at content once [streams.login] says detectors = ["content"]' in made.stderr
    document = json.loads(made.stdout)
    version = document["version"]
    assert (document["promoted"], document["role"]) == (True, "content")
    assert _json(folder, "models", "show", "login")["version"] == before
    listed = {
        entry["version"]: entry
        for entry in map(json.loads, _run(folder, "models", "list", "--json").stdout.splitlines())
    }
    assert (listed[version]["current"], listed[version]["roles"]) == (False, ["content"])
    assert any(
        version in line and line.endswith("content") for line in _run(folder, "models", "list").output.splitlines()
    )
    assert _run(folder, "models", "promote", str(before), "--role", "content").stdout == (
        f"engines use {before} as content now\n"
    )
    assert _run(folder, "models", "rollback", "login", "--role", "content").stdout == (
        f"engines use {version} as content again\n"
    )
    refused = _run(folder, "models", "promote", version, "--role", "../x")
    assert refused.exit_code == 2
    assert "small letters" in refused.output


def test_drift_without_a_lake_says_what_to_do(folder: Path) -> None:
    found = _run(folder, "drift", "login")
    assert found.exit_code != 0
    assert "run the engine" in str(found.exception) + found.output


def test_drift_of_the_lake(folder: Path, tmp_path: Path) -> None:
    from hackwatch.lake import Lake

    scored = tmp_path / "scored.parquet"
    _json(folder, "detect", str(folder / "login.ndjson"), "--as", "login", "-o", str(scored))
    frame = pl.read_parquet(scored).with_columns(date=pl.col("event_time").dt.date(), site=pl.lit("local"))
    Lake(folder / "data" / "lake").append("login", frame, 1, "main")
    document = _json(folder, "drift", "login")
    assert document["rows"] == 6000
    assert document["state"] in ("steady", "watch", "drifted")
    assert "PSI" in _run(folder, "drift", "login").output
