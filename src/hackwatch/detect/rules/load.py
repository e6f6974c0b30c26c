"""Loading rule files: every problem of every file is collected and reported together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import polars as pl

from hackwatch.detect.rules.condition import compile_condition
from hackwatch.detect.rules.files import Entry, read_entries, shipped_files
from hackwatch.detect.rules.ruleset import Rule, RuleSet
from hackwatch.detect.rules.tactics import TACTICS
from hackwatch.errors import ConfigurationError
from hackwatch.streams.stream import Stream
from hackwatch.words import SEVERITIES, Severity

__all__ = ["load_rules"]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_SAMPLES = ("must_fire", "must_not_fire")
_REQUIRED = ("id", "title", "stream", "where", "severity", *_SAMPLES)
_ALLOWED = frozenset((*_REQUIRED, "technique", "tactic", "description", "at_least", "within", "enabled"))


def load_rules(paths: Iterable[Path | str], streams: Mapping[str, Stream], *, shipped: bool = True) -> RuleSet:
    """Load the shipped rules (unless told not to) and then `paths`, files or folders of them, in that order.

    Shipped rules of a stream that is not among `streams` are left out.
    Raises ConfigurationError with every problem as `file:line: what is wrong`.
    """
    entries, problems = _read(paths, shipped)
    merged: dict[str, Entry] = {}
    for entry in entries:
        problems += _merge(merged, entry)
    idle = {e.values["id"] for e in entries if e.shipped and e.kind == "rule" and e.values["stream"] not in streams}
    rules: list[Rule] = []
    for entry in (entry for identity, entry in merged.items() if identity not in idle):
        found = list(_problems(entry, streams))
        if not found and entry.values.get("enabled", True):
            rules.append(_rule(entry))
        problems += found
    if problems:
        raise ConfigurationError(
            f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the rules",
            next_step="correct the lines named below; `hackwatch rules check FILE` checks a file alone",
            problems=tuple(problems),
        )
    return RuleSet(rules, streams)


def _read(paths: Iterable[Path | str], shipped: bool) -> tuple[list[Entry], list[str]]:
    entries: list[Entry] = []
    problems: list[str] = []
    for file, text in shipped_files() if shipped else ():
        entries += read_entries(file, text, shipped=True)[0]
    for path in _files(paths):
        try:
            found, wrong = read_entries(str(path), path.read_text("utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            found, wrong = [], [f"{path}:1: cannot be read: {error}"]
        entries += found
        problems += wrong
    return entries, problems


def _files(paths: Iterable[Path | str]) -> Iterable[Path]:
    for path in map(Path, paths):
        yield from sorted(path.glob("*.toml")) if path.is_dir() else [path]


def _merge(merged: dict[str, Entry], entry: Entry) -> list[str]:
    """Add a rule, or lay an override over the rule it names."""
    identity = entry.values.get("id")
    if not isinstance(identity, str):
        return [f"{entry.where('id')}: a {entry.kind} needs an id"]
    there = merged.get(identity)
    if entry.kind == "rule":
        if there:
            return [f"{entry.where('id')}: rule {identity!r} exists already at {there.where('id')}; use [[override]]"]
        merged[identity] = entry
        return []
    if there is None:
        return [f"{entry.where('id')}: there is no rule {identity!r} to override"]
    # The line of a key is where it was last set: an override names its own file for what it changes.
    lines = {
        **{key: there.where(key) for key in there.values},
        **{key: entry.where(key) for key in entry.values},
    }
    merged[identity] = replace(there, values={**there.values, **entry.values}, places=lines)
    return []


def _problems(entry: Entry, streams: Mapping[str, Stream]) -> Iterable[str]:
    values = entry.values
    for key in values:
        if key not in _ALLOWED:
            yield f"{entry.where(key)}: unknown key {key!r}"
    missing = [key for key in _REQUIRED if key not in values]
    for key in missing:
        yield f"{entry.where()}: {key!r} is missing"
    wrong = {key: message for key, check in _CHECKS.items() if key in values and (message := check(values[key]))}
    for key, message in wrong.items():
        yield f"{entry.where(key)}: {key} {message}"
    if not wrong and (values.get("at_least", 1) > 1) != ("within" in values):
        yield f"{entry.where('at_least')}: at_least (above 1) and within need each other"
    if "stream" in values and "stream" not in wrong and values["stream"] not in streams:
        yield f"{entry.where('stream')}: unknown stream {values['stream']!r}; known are {', '.join(sorted(streams))}"
    elif not missing and not wrong:
        yield from _unfulfilled(entry, streams[values["stream"]].schema)


def _text(value: object) -> str:
    return "" if isinstance(value, str) and value.strip() else "must be a text that is not empty"


def _pattern(pattern: str, meaning: str) -> Callable[[object], str]:
    return lambda value: "" if isinstance(value, str) and re.fullmatch(pattern, value) else f"must be {meaning}"


def _one_of(choices: Sequence[str]) -> Callable[[object], str]:
    return lambda value: "" if value in choices else f"must be one of {', '.join(choices)}"


def _samples(value: object) -> str:
    good = isinstance(value, list) and value and all(isinstance(sample, dict) and sample for sample in value)
    return "" if good else "must be a list of at least one sample record"


_CHECKS: Mapping[str, Callable[[object], str]] = {
    "id": _pattern(r"[a-z0-9]+(-[a-z0-9]+)*", "lower-case words joined by dashes"),
    "title": _text,
    "stream": _text,
    "where": _text,
    "severity": _one_of(SEVERITIES),
    "technique": _pattern(r"T\d{4}(\.\d{3})?", "an ATT&CK technique id such as T1496 or T1059.004"),
    "tactic": _one_of(tuple(TACTICS)),
    "description": _text,
    "must_fire": _samples,
    "must_not_fire": _samples,
    "at_least": lambda value: "" if type(value) is int and value >= 1 else "must be a whole number from 1",
    "within": lambda value: "" if _seconds(value) > 0 else 'must be a time such as "60s", "5m" or "1h"',
    "enabled": lambda value: "" if isinstance(value, bool) else "must be true or false",
}


def _seconds(value: object) -> float:
    if isinstance(value, str) and (match := _SPAN.fullmatch(value.strip())):
        return float(match.group(1)) * _SECONDS[match.group(2)]
    return 0.0


def _unfulfilled(entry: Entry, schema: pl.Schema) -> Iterable[str]:
    """What is wrong with the condition, or which samples it judges wrongly."""
    try:
        condition = compile_condition(entry.values["where"], schema)
    except ValueError as error:
        yield f"{entry.where('where')}: {error}"
        return
    for key, expected in zip(_SAMPLES, (True, False), strict=True):
        for number, sample in enumerate(entry.values[key], start=1):
            try:
                fired = _sample(sample, schema).select(condition.expression).item()
            except ValueError as error:
                yield f"{entry.where(key)}: sample {number} of {key}: {error}"
                continue
            if fired != expected:
                yield f"{entry.where(key)}: sample {number} of {key} {'fires' if fired else 'does not fire'}"


def _sample(sample: Mapping[str, Any], schema: pl.Schema) -> pl.DataFrame:
    """One row: the sample's values, and neutral ones (0, empty text, false) for the columns it does not name."""
    if unknown := [column for column in sample if column not in schema]:
        raise ValueError(f"unknown column {unknown[0]!r}")
    neutral = {column: "" if dtype == pl.String else 0 for column, dtype in schema.items()}
    try:
        return pl.DataFrame(
            {
                column: pl.Series([sample.get(column, value)]).cast(schema[column])
                if column not in sample
                else pl.Series([sample[column]], dtype=schema[column], strict=True)
                for column, value in neutral.items()
            }
        )
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"value of the wrong type: {str(error).splitlines()[0]}") from error


def _rule(entry: Entry) -> Rule:
    values = entry.values
    return Rule(
        id=values["id"],
        title=values["title"].strip(),
        stream=values["stream"],
        where=values["where"].strip(),
        severity=cast(Severity, values["severity"]),
        technique=values.get("technique"),
        tactic=values.get("tactic"),
        description=" ".join(values.get("description", "").split()),
        must_fire=tuple(values["must_fire"]),
        must_not_fire=tuple(values["must_not_fire"]),
        at_least=values.get("at_least", 1),
        within_seconds=_seconds(values["within"]) if "within" in values else 0.0,
        source=entry.where("id"),
    )
