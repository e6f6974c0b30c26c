"""What makes an attack of two suspects: one program, suspect in what it does and in what it occupies."""

from __future__ import annotations

from hackwatch.streams.declarations import Correlation

__all__ = ["ATTACKS"]

ATTACKS = Correlation(
    name="attacks",
    left="process",
    right="memory",
    keys=("machine", "CMD", "PID", "CMD_PID"),
    seconds=30.0,
)
