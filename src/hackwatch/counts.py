"""What is counted of the records of a topic partition: the one list of counters, which all others derive from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

__all__ = ["COUNTERS", "OUTCOMES", "Counts"]


def _outcome() -> int:
    """A counter of records to which the same happened: every record is in exactly one of them."""
    counter: int = field(default=0, metadata={"outcome": True})
    return counter


@dataclass(slots=True)
class Counts:
    """Where the records of one topic partition went: records = on_time + late + duplicate + rejected.

    A new counter goes to the end, as snapshots are lists of values, and needs a migration of the store's table
    `accounting`, whose columns have these names.
    """

    messages: int = 0
    records: int = 0
    on_time: int = _outcome()
    late: int = _outcome()
    duplicate: int = _outcome()
    rejected: int = _outcome()
    unknown_fields: int = 0
    suspects: int = 0

    def add(self, other: Counts) -> None:
        for name in COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def copy(self) -> Counts:
        return replace(self)


COUNTERS = tuple(counter.name for counter in fields(Counts))
#: What becomes of a record.
OUTCOMES = tuple(counter.name for counter in fields(Counts) if "outcome" in counter.metadata)
