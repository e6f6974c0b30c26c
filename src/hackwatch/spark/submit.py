"""What `spark-submit` runs: `spark-submit [OPTIONS OF SPARK] .../hackwatch/spark/submit.py --config hackwatch.toml`.

The options are those of `hackwatch` before its command and then those of `hackwatch run`, in any order; master and
configuration are what `spark-submit` was given.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["arguments", "main"]

#: Options of `hackwatch` itself, which stand before its command; those with a value.
_VALUED = ("--config", "--data", "--log-format")
_BEFORE = (*_VALUED, "--debug", "--verbose", "-v")


def arguments(given: Sequence[str]) -> list[str]:
    """The command line of `hackwatch` for what stands after the script.

    >>> arguments(["--config", "a.toml", "--duration=60"])
    ['--config', 'a.toml', 'run', '--engine', 'spark', '--duration=60']
    """
    before: list[str] = []
    after: list[str] = []
    rest = list(given)
    while rest:
        word = rest.pop(0)
        mine = before if word.partition("=")[0] in _BEFORE else after
        mine.append(word)
        if word in _VALUED and rest:
            mine.append(rest.pop(0))
    return [*before, "run", "--engine", "spark", *after]


def main(given: Sequence[str]) -> None:
    """Run the pipeline on the Spark that runs this script; it ends the process with an exit code."""
    from hackwatch.cli import main as command

    sys.argv = ["hackwatch", *arguments(given)]
    command()


if __name__ == "__main__":
    # Python puts the script's folder first, whose modules would hide others of the same names.
    sys.path.pop(0)
    main(sys.argv[1:])
