"""Where each key of a TOML text stands: tomllib gives values without lines, and people need lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["KeyLines", "KeyPath", "dotted", "find_lines"]

#: Keys from the top, array elements by number: ("routes", 0, "url").
KeyPath = tuple[str | int, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"^\s*(\[\[?)\s*({_KEY})\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"^\s*({_KEY})\s*=(.*)$")
_TOKENS = re.compile(
    r'"""(?:\\.|[^\\])*?"""|' + r"'''.*?'''|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'|#[^\n]*|[\[\]{}]",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class KeyLines:
    """Line (from 1) of each key and table; `repeated` lists keys that are set twice as (path, first, again)."""

    lines: dict[KeyPath, int] = field(default_factory=dict)
    repeated: list[tuple[KeyPath, int, int]] = field(default_factory=list)

    def line(self, path: KeyPath) -> int | None:
        """The line of a key, or of the nearest table around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None

    def add(self, path: KeyPath, line: int) -> None:
        if path in self.lines:
            self.repeated.append((path, self.lines[path], line))
        self.lines.setdefault(path, line)


def dotted(path: KeyPath) -> str:
    """`routes[0].url` for ("routes", 0, "url")."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def find_lines(text: str) -> KeyLines:
    """The lines of all keys of a TOML text, also of one that is not valid."""
    found, table, arrays = KeyLines(), (), {}  # type: KeyLines, KeyPath, dict[KeyPath, int]
    for number, line in _statements(text):
        if header := _HEADER.match(line):
            table = _parts(header[2])
            if header[1] == "[[":
                arrays[table] = arrays.get(table, -1) + 1
                table = (*table, arrays[table])
                found.lines.setdefault(table, number)
            else:
                table = _inside_arrays(table, arrays)
                found.add(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            found.add((*table, *_parts(assignment[1])), number)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The lines that start a statement: not those within a multi-line string, array or inline table."""
    lines, skip_to = text.splitlines(keepends=True), 0
    start = 0
    for number, line in enumerate(lines, 1):
        if start >= skip_to:
            yield number, line.rstrip("\r\n")
            equals = line.find("=")
            if not line.lstrip().startswith(("[", "#")) and equals >= 0:
                skip_to = _value_end(text, start + equals + 1)
        start += len(line)


def _value_end(text: str, start: int) -> int:
    """Where the value that starts here ends: the end of the line on which its brackets and quotes are closed."""
    position, depth = start, 0
    while True:
        line_end = text.find("\n", position)
        line_end = len(text) if line_end < 0 else line_end
        token = _TOKENS.search(text, position)
        if token is None or token.start() >= line_end:
            if depth <= 0 or line_end == len(text):
                return line_end
            position = line_end + 1
            continue
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        position = token.end()


def _parts(key: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, key))


def _inside_arrays(table: KeyPath, arrays: dict[KeyPath, int]) -> KeyPath:
    """`[routes.headers]` after `[[routes]]` belongs to its last element."""
    path: KeyPath = ()
    for part in table:
        path = (*path, part)
        if path in arrays:
            path = (*path, arrays[path])
    return path
