"""What can go wrong, split by who must act.

    HackwatchError
    |-- ConfigurationError   the person who wrote hackwatch.toml, a rule file or a flag
    |-- DataError            the person who owns the data: a file, message or bundle is not what it claims to be
    |-- ResourceError        the person who runs the machine: disk, permission, port, missing extra, data in use
    `-- InternalError        us: an invariant of hackwatch is broken; please report it

Every error says *where* (file:line, key, topic/partition/offset, path) and what to do *next*.
Exit codes of the command line: 2 configuration, 3 data, 4 environment, 70 internal.
"""

from __future__ import annotations

__all__ = ["ConfigurationError", "DataError", "HackwatchError", "InternalError", "ResourceError"]


class HackwatchError(Exception):
    """Base of all errors of hackwatch: what happened, where, and what to do next."""

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, next_step: str | None = None) -> None:
        self.what, self.where, self.next_step = what, where, next_step
        super().__init__(what)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  next: {self.next_step}" if self.next_step else ""
        return f"{place}{self.what}{advice}"


class ConfigurationError(HackwatchError):
    """A setting, rule or flag is wrong; `problems` lists all of them, one line each."""

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        next_step: str | None = None,
        problems: tuple[str, ...] = (),
    ) -> None:
        super().__init__(what, where=where, next_step=next_step)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  - {problem}" for problem in self.problems)])


class DataError(HackwatchError):
    """A file, message or bundle is not what it claims to be."""

    exit_code = 3


class ResourceError(HackwatchError):
    """The machine cannot do what was asked: disk, permission, port, missing extra, data folder in use."""

    exit_code = 4
    #: Whether it may pass: a running engine then waits and tries again instead of ending.
    passing = True


class InternalError(HackwatchError):
    """An invariant of hackwatch is broken: a bug."""

    exit_code = 70
