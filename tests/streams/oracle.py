"""A second decoder in plain Python, one record at a time and without Polars: what the real one must agree with."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson

PROCESS = {
    "sequence": ("integer", 0, 2**53),
    "machine": ("text", 1, 255),
    "PID": ("integer", 0, 2**22),
    "TRUN": ("integer", 0, 2**22),
    "TSLPI": ("integer", 0, 2**22),
    "TSLPU": ("integer", 0, 2**22),
    "POLI": ("text?", 1, 32),
    "NICE": ("integer?", -20, 20),
    "PRI": ("integer?", 0, 139),
    "RTPR": ("integer?", 0, 139),
    "CPUNR": ("integer?", 0, 65535),
    "Status": ("text", 1, 32),
    "EXC": ("integer", -(2**31), 2**31 - 1),
    "State": ("text", 1, 32),
    "CPU": ("fraction", 0, 1024),
    "CMD": ("name", 1, 4096),
    "ts": ("time", 1, 2**33),
}
MEMORY = {
    "sequence": ("integer", 0, 2**53),
    "machine": ("text", 1, 255),
    "PID": ("integer", 0, 2**22),
    "MINFLT": ("count", 0, 2**53),
    "MAJFLT": ("count", 0, 2**53),
    "VSTEXT": ("size", 0, 2**60),
    "VSIZE": ("size", 0, 2**60),
    "RSIZE": ("size", 0, 2**60),
    "VGROW": ("size", -(2**60), 2**60),
    "RGROW": ("size", -(2**60), 2**60),
    "MEM": ("fraction", 0, 1),
    "CMD": ("name", 1, 4096),
    "ts": ("time", 1, 2**33),
}
VISIT = {
    "client": ("text", 1, 64),
    "server": ("text", 1, 255),
    "path": ("name", 1, 4096),
    "agent": ("text", 1, 256),
    "status": ("integer", 100, 599),
    "bytes": ("size", 0, 2**50),
    "seconds": ("fraction", 0, 86_400),
    "ts": ("time", 1, 2**33),
}
LOGIN = {
    "client": ("text", 1, 64),
    "gate": ("text", 1, 255),
    "user": ("text", 1, 255),
    "agent": ("text", 1, 256),
    "failed": ("integer", 0, 1),
    "waited": ("fraction?", 0, 86_400),
    "ts": ("time", 1, 2**33),
}
FIELDS = {"process": PROCESS, "memory": MEMORY, "visit": VISIT, "login": LOGIN}
TRUTH = {"label", "attack", "type"}
SPACES = " \t\r\xa0"
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
INTEGER = re.compile(r"[+-]?[0-9]+")
DECIMALS = {"K": 1e3, "M": 1e6, "G": 1e9}
BINARIES = {"K": 2.0**10, "M": 2.0**20, "G": 2.0**30, "T": 2.0**40}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Impossible(Exception):
    """A value that rejects its record."""


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it came."""


@dataclass
class Expected:
    """What the oracle makes of some messages; `rejected`: (message, index, a part of the reason)."""

    records: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[tuple[int, int | None, str]] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)


def decode(lines: list[bytes], stream: str, *, letterless_kib: bool = False, longest: int = 1 << 20) -> Expected:
    out = Expected()
    for number, line in enumerate(lines):
        if len(line) > longest:
            out.rejected.append((number, None, "message is longer"))
            continue
        if not line.strip(b" \t\r"):
            out.rejected.append((number, None, "message is empty"))
            continue
        try:
            orjson.loads(line)
        except orjson.JSONDecodeError:
            out.rejected.append((number, None, "message is not JSON"))
            continue
        _message(json.loads(line, object_pairs_hook=Pairs), number, stream, letterless_kib, out)
    return out


def _message(value: Any, number: int, stream: str, letterless_kib: bool, out: Expected) -> None:
    if not isinstance(value, list):
        out.rejected.append((number, None, "message is neither"))
        return
    records = [value] if isinstance(value, Pairs) else value
    if not records and not isinstance(value, Pairs):
        out.rejected.append((number, None, "message is an empty array"))
    elif any(_depth(record) > 64 for record in records):
        out.rejected.append((number, None, "message is nested deeper"))
    else:
        for index, record in enumerate(records):
            try:
                normal = _record(record, stream, letterless_kib, out.unknown)
                out.records.append({**normal, "message": number, "index": index})
            except Impossible as problem:
                out.rejected.append((number, index, str(problem)))


def _depth(value: Any) -> int:
    if isinstance(value, Pairs):
        return 1 + max((_depth(item) for _, item in value), default=0)
    return 1 + max((_depth(item) for item in value), default=0) if isinstance(value, list) else 0


def _record(pairs: Any, stream: str, letterless_kib: bool, unknown: Counter[str]) -> dict[str, Any]:
    if not isinstance(pairs, Pairs):
        raise Impossible("record is not an object")
    fields = FIELDS[stream]
    seen = Counter(name for name, _ in pairs)
    unknown.update({name: times for name, times in seen.items() if name not in fields and name not in TRUTH})
    values = dict(reversed(pairs))
    for name, _ in pairs:
        if name in fields and seen[name] > 1:
            raise Impossible(f"{name}: occurs more than once")
    for name, (kind, _, _) in fields.items():
        if kind in ("text", "text?", "name") and isinstance(values.get(name), list):
            raise Impossible(f"{name}: not a text")
    out = {name: _value(name, kind, low, high, values, letterless_kib) for name, (kind, low, high) in fields.items()}
    out["event_time"] = EPOCH + timedelta(microseconds=round(out["ts"] * 1e6))
    if stream == "visit":
        out["client_path"] = f"{out['client']} {out['path']}"
    return _derive(out) if "CMD" in out else out


def _value(name: str, kind: str, low: float, high: float, values: dict[str, Any], letterless_kib: bool) -> Any:
    raw = values.get(name)
    if (
        kind.endswith("?")
        and name in values
        and (raw is None or (isinstance(raw, str) and raw.strip(SPACES) in ("", "-")))
    ):
        return None
    if raw is None:
        raise Impossible(f"{name}: missing or null")
    text = _print(raw)
    base = kind.rstrip("?")
    if base in ("text", "name"):
        value: Any = text if base == "name" else text.strip(SPACES)
        magnitude: float | None = len(value.encode())
    else:
        value = magnitude = _number(base, text, letterless_kib)
    if magnitude is None or not math.isfinite(magnitude) or not low <= magnitude <= high:
        raise Impossible(f"{name}: not ")
    return value


def _print(raw: Any) -> str:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, float):
        return format(Decimal(repr(raw)), "f").removesuffix(".0")
    return str(raw)


def _float(text: str) -> float | None:
    return float(text) if NUMBER.fullmatch(text) else None


def _number(kind: str, text: str, letterless_kib: bool) -> float | int | None:
    text = text.strip(SPACES)
    if kind in ("integer", "count"):
        if INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
            return int(text)
        number = _float(text)
        if number is not None and math.isfinite(number) and number == int(number) and abs(number) <= 2**53:
            return int(number)
        if kind == "count" and text[-1:] in DECIMALS:
            number = _float(text[:-1])
            scaled = None if number is None else number * DECIMALS[text[-1]]
            if scaled is None or not math.isfinite(scaled) or abs(scaled) > 2**62:
                return None
            return math.floor(scaled + 0.5) if scaled >= 0 else -math.floor(-scaled + 0.5)
        return None
    if kind == "size":
        if text[-1:] in BINARIES:
            number = _float(text[:-1])
            return None if number is None else number * BINARIES[text[-1]]
        number = _float(text)
        return None if number is None else number * (1024.0 if letterless_kib else 1.0)
    if kind == "fraction" and text.endswith("%"):
        number = _float(text[:-1].rstrip(SPACES))
        return None if number is None else number / 100
    return _float(text)


def _derive(out: dict[str, Any]) -> dict[str, Any]:
    """What follows of a process of a host."""
    name = out["CMD"]
    out["finished"] = name.startswith("<") and name.endswith(">") and len(name) > 2
    out["CMD"] = name[1:-1] if out["finished"] else name
    out["CMD_PID"] = f"{out['CMD']}_{out['PID']}"
    if out.get("PRI") is not None and (out["PRI"] == 0 or out["PRI"] >= 100):
        out["NICE"] = 0 if out["PRI"] == 0 else out["PRI"] - 120
    return out
