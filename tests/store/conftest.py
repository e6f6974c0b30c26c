"""Every kind of database passes the same battery: a new one is one more parameter here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hackwatch.store import Store, open_store

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the test's store is, or will be."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return str(tmp_path / "data" / "store.sqlite")


@pytest.fixture
def reopen(address: str) -> Iterator[Callable[[], Store]]:
    """Opens the test's store once more, as another process would."""
    opened: list[Store] = []

    def another() -> Store:
        opened.append(open_store(address, site="here"))
        return opened[-1]

    yield another
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Store:
    return reopen()
