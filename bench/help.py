"""How long `hackwatch --help` takes, from the start of the process to its end.

python -m bench.help [--json]
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from bench.support import Figure, Workspace, main

__all__ = ["measure"]


def once() -> float:
    """Seconds of one call."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "hackwatch", "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def measure(workspace: Workspace) -> list[Figure]:
    """The median, after one call that warms the caches."""
    once()
    return [Figure("hackwatch --help", median(once() for _ in range(workspace.sizes.help_rounds)), "s", 0.3)]


if __name__ == "__main__":
    main(measure, __doc__)
