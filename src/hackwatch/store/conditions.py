"""The WHERE part of a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Conditions"]


class Conditions:
    """The WHERE part of a query, from the filters that were given."""

    def __init__(self) -> None:
        self.clauses: list[str] = []
        self.values: list[Any] = []

    def add(self, clause: str, *values: Any) -> None:
        """A clause with its placeholders' values; nothing if the (first) value is None."""
        if values[0] is not None:
            self.clauses.append(clause)
            self.values.extend(values)

    def among(self, column: str, values: Sequence[str] | None) -> None:
        if values is not None:
            self.clauses.append(f"{column} IN ({', '.join('?' * len(values))})" if values else "1 = 0")
            self.values.extend(values)

    @property
    def where(self) -> str:
        return f" WHERE {' AND '.join(self.clauses)}" if self.clauses else ""
