"""How much the longest tests do: all of it where nobody waits (CI), a share of it for `make test` by hand."""

from __future__ import annotations

from tests.conftest import STRICT

__all__ = ["size"]


def size(whole: int, share: int) -> int:
    """`whole` in a strict run, else `share`."""
    return whole if STRICT else share
