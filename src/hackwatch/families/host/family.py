"""The family `host`: what Linux machines do, and all that is declared about it."""

from __future__ import annotations

from hackwatch.families.host.correlations import ATTACKS
from hackwatch.streams.declarations import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="host",
    streams=("process", "memory"),
    correlations=(ATTACKS,),
    simulator="hackwatch.families.host.simulate.simulator:SIMULATOR",
    collectors={"collect": "hackwatch.families.host.collect.collector:COLLECTOR"},
    watch="collect",
    demo=True,
    rules="hackwatch.families.host:rules.toml",
)
