"""Every kind of database passes the same battery: a new one is one more parameter here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hackwatch.store import Store, open_store


@pytest.fixture(params=["sqlite"])
def reopen(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens the test's store once more, as another process would."""
    opened: list[Store] = []

    def another() -> Store:
        opened.append(open_store(tmp_path / "data" / "store.sqlite", site="here"))
        return opened[-1]

    yield another
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Store:
    return reopen()
