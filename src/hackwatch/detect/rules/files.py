"""Rule files: TOML read into entries that know the line of each of their keys."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from hackwatch.errors import ConfigurationError
from hackwatch.streams import families
from hackwatch.streams.declarations import Family

__all__ = ["Entry", "read_entries", "shipped_files"]

_HEADER = re.compile(r"^\s*\[\[\s*(rule|override)\s*\]\]")
_KEY = re.compile(r'^\s*"?(\w+)"?\s*=')


@dataclass(frozen=True, slots=True)
class Entry:
    """One `[[rule]]` or `[[override]]` table of a file. `place`: `file:line` of its header; `places`: of its keys."""

    kind: str
    place: str
    values: Mapping[str, Any]
    places: Mapping[str, str]
    shipped: bool = False

    def where(self, key: str = "") -> str:
        """`file:line` of a key, or of the entry if it has no such key."""
        return self.places.get(key, self.place)


def shipped_files() -> tuple[tuple[str, str], ...]:
    """(name, text) of the rule file of every family that ships one, by the family's name.

    Raises ConfigurationError if a family names a file that is not there.
    """
    return tuple((f"{one.name}/{name}", _shipped(one.name, package, name)) for one, package, name in _declared())


def _declared() -> Iterator[tuple[Family, str, str]]:
    for one in families():
        if one.rules is not None:
            package, _, name = one.rules.partition(":")
            yield one, package, name


def _shipped(family: str, package: str, name: str) -> str:
    try:
        return (files(package) / name).read_text("utf-8")
    except (ImportError, OSError) as error:
        raise ConfigurationError(
            f"the rules of the family {family!r} cannot be read: {error}",
            where=f"{package}:{name}",
            next_step='give `rules` of the family as "package:file", and see that the file is installed with it',
        ) from error


def read_entries(file: str, text: str, *, shipped: bool = False) -> tuple[list[Entry], list[str]]:
    """The entries of a rule file in order, and the problems that keep it from being read."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = at.group(1) if at else str(text.count("\n") + 1)
        return [], [f"{file}:{line}: not TOML: {error}"]
    problems = [
        f"{file}:1: unknown table or key {key!r}; a rule file holds [[rule]] and [[override]] tables"
        for key, value in document.items()
        if key not in ("rule", "override") or not _tables(value)
    ]
    if problems:
        return [], problems
    entries: list[Entry] = []
    remaining = {kind: list(document.get(kind, [])) for kind in ("rule", "override")}
    for kind, line, lines in _sections(text):
        if remaining[kind]:
            places = {key: f"{file}:{number}" for key, number in lines.items()}
            entries.append(Entry(kind, f"{file}:{line}", remaining[kind].pop(0), places, shipped))
    # Tables written another way than under a header of their own (`rule = [{...}]`) have no line to tell.
    entries += [Entry(kind, f"{file}:1", values, {}, shipped) for kind, left in remaining.items() for values in left]
    return entries, []


def _tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _sections(text: str) -> list[tuple[str, int, dict[str, int]]]:
    sections: list[tuple[str, int, dict[str, int]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            sections.append((header.group(1), number, {}))
        elif sections and key:
            sections[-1][2].setdefault(key.group(1), number)
    return sections
