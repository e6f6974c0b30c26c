"""Occurrences of rules, put together by entity and interval of event time: what suppression counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["SUBJECTS_KEPT", "Key", "Occurrences", "Shown", "Threshold"]

SUBJECTS_KEPT = 10


class Key(NamedTuple):
    """What is one alert: a rule on an entity in one suppression interval (event time // its length)."""

    stream: str
    entity: str
    rule: str
    interval: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """How many occurrences within so many microseconds make an alert."""

    at_least: int = 1
    within: int = 0


@dataclass(frozen=True, slots=True)
class Occurrences:
    """Occurrences of one key. `times`: event times in microseconds, in no order. `first`: the row of the first one.

    `late`: those of late records, which raise an alert that is not there yet and are not counted.
    """

    key: Key
    times: Sequence[int]
    subjects: Sequence[str]
    late: bool = False
    first: int = 0

    @property
    def counted(self) -> Sequence[int]:
        """The times that an alert begins with."""
        return self.times[:1] if self.late else self.times


@dataclass(slots=True)
class _Group:
    first: int
    times: list[int] = field(default_factory=list)
    subjects: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Rows that show rules, as columns. `times`: in microseconds. `rules`: those that each row shows."""

    stream: str
    entities: Sequence[str]
    subjects: Sequence[str]
    times: Sequence[int]
    rules: Sequence[Sequence[str]]
    late: Sequence[bool]

    def by_key(self, length: int) -> Iterator[Occurrences]:
        """The occurrences of each key, those of late records by themselves and last. `length`: of an interval."""
        groups: dict[tuple[bool, str, str, int], _Group] = {}
        rows = zip(self.late, self.entities, self.rules, self.times, self.subjects, strict=True)
        for row, (late, entity, rules, time, subject) in enumerate(rows):
            interval = time // length
            for rule in rules:
                place = (late, entity, rule, interval)
                group = groups.get(place)
                if group is None:
                    group = groups[place] = _Group(row)
                group.times.append(time)
                group.subjects.add(subject)
        for late, entity, rule, interval in sorted(groups, key=lambda place: place[0]):
            group = groups[late, entity, rule, interval]
            few = sorted(group.subjects)[:SUBJECTS_KEPT]
            yield Occurrences(Key(self.stream, entity, rule, interval), group.times, few, late, group.first)
