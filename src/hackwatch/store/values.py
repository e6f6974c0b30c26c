"""What goes into the columns of the store: JSON, and texts that an index can take."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

__all__ = ["indexed", "to_json"]

_LONGEST = 512


def to_json(value: Any) -> str:
    """JSON text; what JSON does not know (times, bytes) becomes text, NaN becomes null."""
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return orjson.dumps(value, default=_plain, option=options).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return list(value)
    return str(value)


def indexed(text: str) -> str:
    """A text that fits into an index (PostgreSQL takes 2.7 kB): what is longer is cut, and told apart by its hash.

    Names of machines come from the machines: a sender may write anything there.
    """
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 17]}~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
