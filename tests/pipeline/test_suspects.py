"""What makes a record a suspect: its score, or a rule that needs no other record."""

from __future__ import annotations

import pytest

from hackwatch.detect.panel import Panel
from hackwatch.detect.rules import Rule, RuleSet
from hackwatch.pipeline.detection import score_records
from tests.streams.support import decode, record
from tests.third.shop import VISIT

RULES = RuleSet(
    [
        Rule(id="storm", title="", stream="visit", where="status = 404", severity="low", at_least=3, within_seconds=10),
        Rule(id="alone", title="", stream="visit", where="path = '/.env'", severity="low"),
    ],
    {"visit": VISIT},
)


@pytest.mark.parametrize(
    ("path", "status", "matched", "suspect"),
    [
        ("/", 200, [], 0),
        ("/x", 404, ["storm"], 0),
        ("/.env", 200, ["alone"], 1),
        ("/.env", 404, ["storm", "alone"], 1),
    ],
)
def test_one_record_of_a_storm_is_no_suspect(path: str, status: int, matched: list[str], suspect: int) -> None:
    visits = [(path, status), ("/x", 404), ("/", 200), ("/.env", 200)]
    records = decode("visit", *(record("visit", path=path, status=status) for path, status in visits)).records
    scored = score_records(VISIT, records, Panel(), RULES)
    assert scored["rules"].to_list() == [matched, ["storm"], [], ["alone"]]
    assert scored["prediction"].to_list() == [suspect, 0, 0, 1]
