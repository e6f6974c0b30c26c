"""The risk of an alert, 0..100, and the severity that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

from hackwatch.words import Severity

__all__ = ["risk_of", "severity_of"]


@dataclass(frozen=True, slots=True)
class _Level:
    """`least`: the least risk of a severity. `typical`: that of what has a severity and no risk of its own."""

    least: int
    typical: int


#: The worst first.
_LEVELS: dict[Severity, _Level] = {
    "critical": _Level(90, 95),
    "high": _Level(70, 80),
    "medium": _Level(40, 55),
    "low": _Level(20, 30),
    "informational": _Level(0, 10),
}


def risk_of(severity: Severity) -> int:
    """The risk of a rule of that severity."""
    return _LEVELS[severity].typical


def severity_of(risk: int) -> Severity:
    """How bad a risk is; one below 0 is informational.

    >>> severity_of(69), severity_of(70)
    ('medium', 'high')
    """
    return next((severity for severity, level in _LEVELS.items() if risk >= level.least), "informational")
