"""SECURITY.md is honest: what is said to hold has its tests, and what is said not to hold yet does not.

A row whose attempt is mended fails here until the page says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from hackwatch import streams
from hackwatch.config import Settings
from hackwatch.detect.rules import load_rules
from tests.conftest import ROOT
from tests.streams.support import decode, record

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[tuple[str, ...]]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines if "---" not in line]


ATTEMPTS = {what: (holds, why) for what, holds, why in rows("Hostile senders")}


def test_what_holds_has_tests_and_what_does_not_has_advice() -> None:
    assert len(ATTEMPTS) >= 12
    for what, (holds, why) in ATTEMPTS.items():
        assert holds in ("yes", "in part", "no"), what
        assert len(why) > 40, what
        if holds == "yes":
            assert re.search(r"\]\(tests/[\w/]+\.py\)", why), what


def imitation_is_found() -> bool:
    process = streams.get("process")
    rules = load_rules([], {"process": process, "memory": streams.get("memory")})
    names = ["nc\u200b", "n\u0441", "\uff4e\uff43"]  # invisible, Cyrillic, full width
    record = {name: None if kind.is_temporal() else kind.to_python()() for name, kind in process.schema.items()}
    frame = pl.DataFrame([{**record, "CMD": name} for name in names], schema=process.schema)
    return bool((rules.match("process", frame).list.len() > 0).all())


def neighbours_of_nan_are_kept() -> bool:
    good = json.dumps(record("request")).encode()
    decoded = decode("request", b"[" + good + b"," + good.replace(b"512", b"NaN") + b"]")
    assert decoded.rejected.height == 1
    return decoded.records.height == 1


@pytest.mark.parametrize(
    ("attempt", "mended"),
    [
        ("names that imitate others by invisible or foreign letters", imitation_is_found),
        ("one bad element in an array of records", neighbours_of_nan_are_kept),
    ],
)
def test_the_page_is_neither_ahead_nor_behind(attempt: str, mended: Callable[[], bool]) -> None:
    holds, _ = ATTEMPTS[attempt]
    assert mended() == (holds == "yes")


def test_nothing_listens_that_nobody_asked_for(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    assert (settings.metrics.port, settings.metrics.host) == (None, "127.0.0.1")
    listening = re.compile(r"\.listen\(|HTTPServer\(|start_http_server\(|start_server\(")
    source = ROOT / "src" / "hackwatch"
    found = {path.name for path in source.rglob("*.py") if listening.search(path.read_text(encoding="utf-8"))}
    assert found == {"metrics.py"}
    assert {what for what, *_ in rows("On the network")} >= {"metrics (`metrics.port`)", "Kafka", "webhook", "syslog"}
