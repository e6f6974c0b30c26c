"""Rule files: what they may hold, and that every problem is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hackwatch.detect.rules import RuleSet, load_rules
from hackwatch.errors import ConfigurationError
from tests.third.shop import LOGIN, VISIT

STREAMS = {"visit": VISIT, "login": LOGIN}
GOOD = """
[[rule]]
id = "mine"
title = "Mine"
stream = "visit"
where = "agent = 'mine' AND seconds > 0.5"
severity = "high"
technique = "T1059.004"
tactic = "execution"
must_fire = [{ agent = "mine", seconds = 0.9 }]
must_not_fire = [{ agent = "mine" }]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "own.toml"


def problems(*files: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load_rules(files, STREAMS, shipped=False)
    return caught.value.problems


def load(file: Path, text: str) -> RuleSet:
    file.write_text(text)
    return load_rules([file], STREAMS, shipped=False)


def test_a_rule_is_loaded_with_its_fields(file: Path) -> None:
    rules = load(file, GOOD.replace('severity = "high"', 'severity = "high"\nat_least = 5\nwithin = "2m"'))
    rule = rules["mine"]
    assert (rule.id, rule.stream, rule.severity, rule.technique) == ("mine", "visit", "high", "T1059.004")
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
        ('stream = "visit"', 'stream = "dns"', 5, "unknown stream 'dns'; known are login, visit"),
        ('stream = "visit"', "stream = []", 5, "stream must be a text"),
        ("seconds > 0.5", "Seconds > 0.5", 6, "unknown column 'Seconds'"),
        ("seconds > 0.5", "seconds > (SELECT 1)", 6, "unknown column 'SELECT'"),
        ('severity = "high"', 'severity = "bad"', 7, "severity must be one of informational, low"),
        ('severity = "high"', "severity = ['high']", 7, "severity must be one of"),
        ("T1059.004", "T1059.4", 8, "technique must be an ATT&CK technique id"),
        ("T1059.004", "1059", 8, "technique must be an ATT&CK technique id"),
        ('tactic = "execution"', 'tactic = "running"', 9, "tactic must be one of reconnaissance"),
        ("seconds = 0.9", "seconds = 0.1", 10, "sample 1 of must_fire does not fire"),
        ("seconds = 0.9", 'seconds = "much"', 10, "sample 1 of must_fire: value of the wrong type"),
        ("seconds = 0.9", "load = 0.9", 10, "sample 1 of must_fire: unknown column 'load'"),
        (
            '[{ agent = "mine" }]',
            '[{ agent = "x" }, { agent = "mine", seconds = 2.0 }]',
            11,
            "sample 2 of must_not_fire fires",
        ),
        ('must_not_fire = [{ agent = "mine" }]', "must_not_fire = []", 11, "must_not_fire must be a list of at least"),
        ('must_not_fire = [{ agent = "mine" }]', "", 2, "'must_not_fire' is missing"),
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


@pytest.mark.parametrize(("changes", "severities"), [("enabled = false", []), ('severity = "low"', ["low"])])
def test_another_file_disables_and_changes_a_rule(tmp_path: Path, changes: str, severities: list[str]) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "b.toml").write_text(f'[[override]]\nid = "mine"\n{changes}\n')
    rules = load_rules([tmp_path], STREAMS, shipped=False)
    assert [rule.severity for rule in rules] == severities


def test_a_folder_gives_its_rule_files(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(GOOD.replace('"mine"', '"second"', 1))
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "notes.txt").write_text("no rules")
    assert [rule.id for rule in load_rules([tmp_path], STREAMS, shipped=False)] == ["mine", "second"]
