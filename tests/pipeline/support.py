"""Where scored records of hosts were before; `tests.families.host.scored` has them now."""

from tests.families.host.scored import PROCESS, START, Record, pipeline, run

__all__ = ["PROCESS", "START", "Record", "pipeline", "run"]
