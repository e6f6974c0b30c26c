"""What makes a record a suspect: its score, or a rule that needs no other record."""

from __future__ import annotations

import numpy as np
import orjson
import polars as pl
import pytest

from hackwatch import streams
from hackwatch.detect.panel import Panel
from hackwatch.detect.rules import Rule, RuleSet
from hackwatch.pipeline.detection import score_records
from hackwatch.streams.base import DecodeOptions, Messages

PROCESS = streams.get("process")
RULES = RuleSet(
    [
        Rule(id="storm", title="", stream="process", where="finished", severity="low", at_least=3, within_seconds=10),
        Rule(id="alone", title="", stream="process", where="CMD = 'nmap'", severity="low"),
    ],
    {"process": PROCESS},
)


@pytest.mark.parametrize(
    ("command", "finished", "matched", "suspect"),
    [
        ("cron", False, [], 0),
        ("sh", True, ["storm"], 0),
        ("nmap", False, ["alone"], 1),
        ("nmap", True, ["storm", "alone"], 1),
    ],
)
def test_one_record_of_a_storm_is_no_suspect(command: str, finished: bool, matched: list[str], suspect: int) -> None:
    others = [("sh", True), ("cron", False), ("nmap", False)]
    records = pl.concat([record(*each) for each in [(command, finished), *others]])
    scored = score_records(PROCESS, records, Panel(), RULES)
    assert scored["rules"].to_list() == [matched, ["storm"], [], ["alone"]]
    assert scored["prediction"].to_list() == [suspect, 0, 0, 1]


def record(command: str, finished: bool) -> pl.DataFrame:
    values: dict[str, object] = {
        "sequence": 1,
        "machine": "m",
        "PID": 7,
        "TRUN": 0,
        "TSLPI": 1,
        "TSLPU": 0,
        "POLI": "norm",
        "NICE": 0,
    }
    values |= {"PRI": 120, "RTPR": 0, "CPUNR": 0, "Status": "-", "EXC": 0, "State": "S", "CPU": 0.0, "ts": 1e9}
    values |= {"CMD": f"<{command}>" if finished else command}
    payload = orjson.dumps(values) + b"\n"
    return PROCESS.decode(Messages("t", 0, payload, np.array([0]), len(payload)), DecodeOptions()).records
