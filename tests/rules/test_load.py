"""Rule files: what they may hold, and that every problem is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hackwatch import streams
from hackwatch.detect.rules import RuleSet, load_rules
from hackwatch.errors import ConfigurationError

STREAMS = {name: streams.get(name) for name in ("process", "memory")}
GOOD = """
[[rule]]
id = "mine"
title = "Mine"
stream = "process"
where = "CMD = 'mine' AND CPU > 0.5"
severity = "high"
technique = "T1059.004"
tactic = "execution"
must_fire = [{ CMD = "mine", CPU = 0.9 }]
must_not_fire = [{ CMD = "mine" }]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "own.toml"


def problems(*files: Path, shipped: bool = False) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load_rules(files, STREAMS, shipped=shipped)
    return caught.value.problems


def load(file: Path, text: str, *, shipped: bool = False) -> RuleSet:
    file.write_text(text)
    return load_rules([file], STREAMS, shipped=shipped)


def test_a_rule_is_loaded_with_its_fields(file: Path) -> None:
    rules = load(file, GOOD.replace('severity = "high"', 'severity = "high"\nat_least = 5\nwithin = "2m"'))
    rule = rules["mine"]
    assert (rule.id, rule.stream, rule.severity, rule.technique) == ("mine", "process", "high", "T1059.004")
    assert (rule.at_least, rule.within_seconds) == (5, 120.0)
    assert rule.source == f"{file}:3"
    assert len(rules) == 1
    assert list(rules) == [rule]
    assert "mine" in rules
    assert "other" not in rules


@pytest.mark.parametrize(
    ("old", "new", "line", "complaint"),
    [
        ('id = "mine"', 'id = "My Rule"', 3, "id must be lower-case words joined by dashes"),
        ('id = "mine"', "id = 5", 3, "a rule needs an id"),
        ('title = "Mine"', "", 2, "'title' is missing"),
        ('title = "Mine"', 'title = " "', 4, "title must be a text that is not empty"),
        ('stream = "process"', 'stream = "dns"', 5, "unknown stream 'dns'; known are memory, process"),
        ('stream = "process"', "stream = []", 5, "stream must be a text"),
        ("CPU > 0.5", "cpu > 0.5", 6, "unknown column 'cpu'"),
        ("CPU > 0.5", "CPU > (SELECT 1)", 6, "unknown column 'SELECT'"),
        ('severity = "high"', 'severity = "bad"', 7, "severity must be one of informational, low"),
        ('severity = "high"', "severity = ['high']", 7, "severity must be one of"),
        ("T1059.004", "T1059.4", 8, "technique must be an ATT&CK technique id"),
        ("T1059.004", "1059", 8, "technique must be an ATT&CK technique id"),
        ('tactic = "execution"', 'tactic = "running"', 9, "tactic must be one of reconnaissance"),
        ("CPU = 0.9", "CPU = 0.1", 10, "sample 1 of must_fire does not fire"),
        ("CPU = 0.9", 'CPU = "much"', 10, "sample 1 of must_fire: value of the wrong type"),
        ("CPU = 0.9", "LOAD = 0.9", 10, "sample 1 of must_fire: unknown column 'LOAD'"),
        ('[{ CMD = "mine" }]', '[{ CMD = "x" }, { CMD = "mine", CPU = 2.0 }]', 11, "sample 2 of must_not_fire fires"),
        ('must_not_fire = [{ CMD = "mine" }]', "must_not_fire = []", 11, "must_not_fire must be a list of at least"),
        ('must_not_fire = [{ CMD = "mine" }]', "", 2, "'must_not_fire' is missing"),
        ('severity = "high"', 'severity = "high"\nat_least = 0\nwithin = "1m"', 8, "at_least must be a whole number"),
        ('severity = "high"', 'severity = "high"\nat_least = true', 8, "at_least must be a whole number"),
        ('severity = "high"', 'severity = "high"\nat_least = 5', 8, "need each other"),
        ('severity = "high"', 'severity = "high"\nwithin = "60s"', 2, "need each other"),
        ('severity = "high"', 'severity = "high"\nat_least = 5\nwithin = "60"', 9, "within must be a time such as"),
        ('severity = "high"', 'severity = "high"\nenabled = "no"', 8, "enabled must be true or false"),
        ('severity = "high"', 'severity = "high"\nseverty = 1', 8, "unknown key 'severty'"),
    ],
)
def test_a_problem_is_told_with_file_and_line(file: Path, old: str, new: str, line: int, complaint: str) -> None:
    assert old in GOOD
    file.write_text(GOOD.replace(old, new))
    found = problems(file)
    assert len(found) == 1
    assert found[0].startswith(f"{file}:{line}: ")
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[rule]]\nid =", "2: not TOML"),
        ("rule = 5", "1: unknown table or key 'rule'"),
        ("[rules]\nid = 1", "1: unknown table or key 'rules'"),
        ("rule = [{ id = 'x' }]", "1: 'title' is missing"),
        ("[[override]]\nid = 'none'", "2: there is no rule 'none' to override"),
    ],
)
def test_a_file_of_another_shape_is_told(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    assert any(f"{file}:{complaint}" in problem for problem in problems(file))


def test_the_problems_of_all_files_come_together(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("a.toml", "b.toml", "c.toml"))
    first.write_text(GOOD.replace("high", "bad").replace("T1059.004", "x"))
    second.write_text("[[rule]\n")
    found = problems(first, second, third)
    assert [problem.split(": ")[0].rsplit("/", 1)[1] for problem in found] == [
        "b.toml:1",
        "c.toml:1",
        "a.toml:7",
        "a.toml:8",
    ]


def test_an_id_is_used_once(tmp_path: Path) -> None:
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    for path in (first, second):
        path.write_text(GOOD)
    assert problems(first, second) == (f"{second}:3: rule 'mine' exists already at {first}:3; use [[override]]",)


def test_a_shipped_rule_can_be_disabled_and_changed(file: Path) -> None:
    before = load_rules([], STREAMS)
    rules = load(
        file,
        """
        [[override]]
        id = "network-scanner"
        enabled = false

        [[override]]
        id = "crypto-miner"
        severity = "critical"
        """,
        shipped=True,
    )
    assert "network-scanner" in before
    assert "network-scanner" not in rules
    assert before["crypto-miner"].severity == "high"
    assert rules["crypto-miner"].severity == "critical"
    assert rules["crypto-miner"].where == before["crypto-miner"].where
    assert len(rules) == len(before) - 1


def test_an_override_is_checked_against_the_samples_of_the_rule(file: Path) -> None:
    file.write_text("[[override]]\nid = 'crypto-miner'\nwhere = \"CMD = 'other'\"\n")
    found = problems(file, shipped=True)
    assert len(found) == 3
    assert all(problem.startswith("host/rules.toml:") and "does not fire" in problem for problem in found)


def test_a_folder_gives_its_rule_files(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(GOOD.replace('"mine"', '"second"', 1))
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "notes.txt").write_text("no rules")
    assert [rule.id for rule in load_rules([tmp_path], STREAMS, shipped=False)] == ["mine", "second"]


def test_shipped_rules_of_streams_that_are_not_watched_are_left_out() -> None:
    rules = load_rules([], {"process": STREAMS["process"]})
    assert {rule.stream for rule in rules} == {"process"}
