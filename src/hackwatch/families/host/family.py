"""The family `host`: its streams, and the correlation that makes an attack of two suspects."""

from __future__ import annotations

from hackwatch.streams.declarations import Correlation, Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="host",
    streams=("process", "memory"),
    correlations=(
        Correlation(
            name="attacks",
            left="process",
            right="memory",
            keys=("machine", "CMD", "PID", "CMD_PID"),
            seconds=30.0,
        ),
    ),
    simulator="hackwatch.families.host.simulate.simulator:SIMULATOR",
    rules="hackwatch.families.host:rules.toml",
)
