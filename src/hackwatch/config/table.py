"""What every table of hackwatch.toml has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

__all__ = ["LOCATION", "Location", "Name", "Role", "Table"]

#: Names that become file names, table partitions and metric labels.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

#: Roles of detectors beside the champion: parts of column names and of file names.
Role = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}$")]

#: A path that may have a scheme (`spool:PATH`, `sqlite:PATH`); relative ones start at the settings file, as paths do.
LOCATION = "location"
Location = Annotated[str, LOCATION]


class Table(BaseModel):
    """One table of hackwatch.toml: immutable, unknown keys refused, secrets hidden in every message."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)
