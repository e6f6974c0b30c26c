"""The family `shop` as if its package were installed: here, and in every process that tests start meanwhile."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hackwatch import streams
from hackwatch.config import registered

__all__ = ["LOGIN", "SHOP", "SITE", "VISIT", "installed", "shop", "shop_all_along"]

SITE = Path(__file__).parent / "site"
#: The streams of the family.
SHOP = ("visit", "login")


@contextmanager
def installed() -> Iterator[None]:
    """Within, the family is registered; what hackwatch remembers of the registered ones is asked before and after.

    Safe within itself, so that fixtures of a module and of a test may both want it.
    """
    if str(SITE) in sys.path:
        yield
        return
    paths = os.environ.get("PYTHONPATH")
    sys.path.append(str(SITE))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SITE), paths)))
    _ask_anew()
    try:
        yield
    finally:
        sys.path.remove(str(SITE))
        if paths is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = paths
        _ask_anew()


#: The real ones, though a test may have put others in their place.
_REMEMBERED = (streams.get, streams.family, streams.families, streams._registered, registered.stream_names)


def _ask_anew() -> None:
    for remembered in _REMEMBERED:
        remembered.cache_clear()


@pytest.fixture
def shop() -> Iterator[None]:
    """The family is installed during a test."""
    with installed():
        yield


@pytest.fixture(scope="module")
def shop_all_along() -> Iterator[None]:
    """The family is installed during all tests of a module."""
    with installed():
        yield


#: The streams themselves, for whoever needs no registered ones.
with installed():
    VISIT, LOGIN = (streams.get(name) for name in SHOP)
