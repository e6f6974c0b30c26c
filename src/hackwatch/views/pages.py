"""Pages of a list: so many rows, and a cursor to ask for the next ones with."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from hackwatch.errors import ConfigurationError

__all__ = ["MOST", "Page", "cursor_of", "every", "key_of", "page_size"]

Row = TypeVar("Row")

#: The most rows of a page.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows of a list. `next`: the cursor of the page behind it, which may turn out empty; None at the end."""

    rows: tuple[Row, ...]
    next: str | None = None

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def every(ask: Callable[[str | None], Page[Row]]) -> Iterator[Row]:
    """All rows of all pages; only one page is held at a time. `ask` gives the page of a cursor."""
    cursor: str | None = None
    while True:
        page = ask(cursor)
        yield from page.rows
        if (cursor := page.next) is None:
            return


def page_size(limit: int) -> int:
    """The rows of a page, if so many were asked for. ConfigurationError below 1."""
    if limit < 1:
        raise ConfigurationError(f"a page of {limit} rows is none", next_step=f"ask for 1 to {MOST:,} rows")
    return min(limit, MOST)


def cursor_of(name: str, key: Sequence[Any]) -> str:
    """The cursor behind the row of that key (JSON values), in the list of that name."""
    return base64.urlsafe_b64encode(orjson.dumps([name, *key])).rstrip(b"=").decode()


def key_of(name: str, cursor: str | None, *kinds: type) -> tuple[Any, ...] | None:
    """The key in a cursor of that list; None for the first page. ConfigurationError for another text."""
    if cursor is None:
        return None
    try:
        said, *key = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if said == name and [type(value) for value in key] == list(kinds):
            return tuple(key)
    except (binascii.Error, ValueError, TypeError):
        pass  # told below
    raise ConfigurationError(
        f"this is no cursor of {name}", where=cursor[:80], next_step="take `next` of a page, or None for the first one"
    )
