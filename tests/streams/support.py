"""Records as they come, and short ways to decode them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from hackwatch import streams
from hackwatch.streams.stream import Decoded, DecodeOptions, Messages, Stream
from tests.streams import request
from tests.streams.request import REQUEST
from tests.third import shop

PROCESS: dict[str, Any] = {
    "sequence": 17,
    "machine": "4",
    "PID": 3081,
    "TRUN": 1,
    "TSLPI": 5,
    "TSLPU": 0,
    "POLI": "norm",
    "NICE": 0,
    "PRI": 120,
    "RTPR": 0,
    "CPUNR": 2,
    "Status": "-",
    "EXC": 0,
    "State": "S",
    "CPU": 0.04,
    "CMD": "apache2",
    "ts": 1554218915.25,
}
MEMORY: dict[str, Any] = {
    "sequence": 17,
    "machine": "4",
    "PID": 3081,
    "MINFLT": 24,
    "MAJFLT": 0,
    "VSTEXT": "193K",
    "VSIZE": "519.1M",
    "RSIZE": "88680K",
    "VGROW": "0K",
    "RGROW": "-12K",
    "MEM": 0.01,
    "CMD": "mysqld",
    "ts": 1554218915.25,
}
#: Those of a third party's family, `tests.third`.
VISIT: dict[str, Any] = {
    "client": "203.0.113.7",
    "server": "www-1",
    "path": "/item/17",
    "agent": "Firefox/128.0",
    "status": 200,
    "bytes": "12.5K",
    "seconds": 0.25,
    "ts": 1554218915.25,
}
LOGIN: dict[str, Any] = {
    "client": "203.0.113.7",
    "gate": "gate-a",
    "user": "ada",
    "agent": "Firefox/128.0",
    "failed": 0,
    "waited": 12.5,
    "ts": 1554218915.25,
}
BASE = {"process": PROCESS, "memory": MEMORY, "request": REQUEST, "visit": VISIT, "login": LOGIN}
_OWN = {"request": request.STREAM, "visit": shop.VISIT, "login": shop.LOGIN}


def named(name: str) -> Stream:
    """A registered stream, or one of the tests."""
    return _OWN.get(name) or streams.get(name)


def messages(lines: Sequence[bytes], *, partition: int = 3) -> Messages:
    """Lines as a run of messages at their byte offsets (from 1000 on)."""
    lengths = np.array([0, *(len(line) + 1 for line in lines)], np.int64)
    offsets = 1000 + np.cumsum(lengths)
    return Messages("topic", partition, b"".join(line + b"\n" for line in lines), offsets[:-1], int(offsets[-1]))


def kib(letterless: bool) -> frozenset[str]:
    """The streams' own options: sizes without a letter are KiB, or are not."""
    return frozenset({"letterless_kib"} if letterless else ())


def decode(stream: str, *lines: bytes | dict[str, Any] | list[Any], **options: Any) -> Decoded:
    """Decode JSON lines, or values printed as JSON."""
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return named(stream).decode(messages(texts), DecodeOptions(**options))


def record(stream: str, **changes: Any) -> dict[str, Any]:
    """A sound record with some fields changed."""
    return BASE[stream] | changes


def value(stream: str, column: str, **changes: Any) -> Any:
    """What becomes of one column of a record with these changes; the reason if it is rejected."""
    decoded = decode(stream, record(stream, **changes))
    return decoded.records[column][0] if decoded.records.height else decoded.rejected["reason"][0]
