"""A second decoder in plain Python, one record at a time and without Polars: what the real one must agree with."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson

PROCESS: dict[str, tuple[str, float, float]] = {
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
MEMORY: dict[str, tuple[str, float, float]] = {
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
REQUEST: dict[str, tuple[str, float, float]] = {
    "source": ("name", 1, 255),
    "client": ("address", -math.inf, math.inf),
    "when": ("moment", 1, 2**33),
    "bot": ("boolean", -math.inf, math.inf),
    "bytes": ("integer?", 0, 2**53),
    "path": ("name", 1, 4096),
}
VISIT: dict[str, tuple[str, float, float]] = {
    "client": ("text", 1, 64),
    "server": ("text", 1, 255),
    "path": ("name", 1, 4096),
    "agent": ("text", 1, 256),
    "status": ("integer", 100, 599),
    "bytes": ("size", 0, 2**50),
    "seconds": ("fraction", 0, 86_400),
    "ts": ("time", 1, 2**33),
}
LOGIN: dict[str, tuple[str, float, float]] = {
    "client": ("text", 1, 64),
    "gate": ("text", 1, 255),
    "user": ("text", 1, 255),
    "agent": ("text", 1, 256),
    "failed": ("integer", 0, 1),
    "waited": ("fraction?", 0, 86_400),
    "ts": ("time", 1, 2**33),
}
FIELDS = {"process": PROCESS, "memory": MEMORY, "request": REQUEST, "visit": VISIT, "login": LOGIN}
OPTIONAL = {"request": {"source"}}
#: Those that have the option; to others it means nothing.
LETTERLESS = {"memory"}
#: The columns of truth, where they are not the usual ones.
TRUTH = {"request": {"verdict"}}
USUAL_TRUTH = {"label", "attack", "type"}
#: The formats of lines, in their order.
FORMATS: dict[str, dict[str, re.Pattern[str]]] = {
    "request": {
        "short": re.compile(r"(?P<client>\S+) \[(?P<when>[^\]]+)\] (?P<bot>\S+) (?P<bytes>\S+) (?P<path>.+)"),
        "tabbed": re.compile(
            r"\[(?P<when>[^\t]+)\t(?P<client>[^\t]+)\t(?P<bot>[^\t]+)\t(?P<bytes>[^\t]+)\t(?P<path>[^\t]+)\]"
        ),
    }
}
ENVELOPE = {"source", "position", "format", "line"}
ISO = re.compile(r"([12]\d{3}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
CLF = re.compile(r"\d\d/[A-Z][a-z]{2}/[12]\d{3}:\d\d:\d\d:\d\d [+-]\d\d:?\d\d", re.ASCII)
BOOLEANS = dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True) | dict.fromkeys(
    ("false", "f", "no", "n", "off", "0"), False
)
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
    unknown_of: Counter[int] = field(default_factory=Counter)


def decode(lines: list[bytes], stream: str, *, letterless_kib: bool = False, longest: int = 1 << 20) -> Expected:
    out = Expected()
    letterless_kib = letterless_kib and stream in LETTERLESS
    for number, line in enumerate(lines):
        before = out.unknown.total()
        if len(line) > longest:
            out.rejected.append((number, None, "message is longer"))
        else:
            _line(line, number, stream, letterless_kib, out)
        out.unknown_of[number] = out.unknown.total() - before
    return out


def _line(
    line: bytes, number: int, stream: str, letterless_kib: bool, out: Expected, outer: dict[str, Any] | None = None
) -> None:
    """A message, or (with `outer`) the JSON of an envelope."""
    if not line.strip(b" \t\r"):
        out.rejected.append((number, None, "message is empty"))
        return
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        value: Any = None
        reason = "message is not JSON"
    else:
        value = json.loads(line, object_pairs_hook=Pairs)
        reason = "message is neither"
    if isinstance(value, list):
        if isinstance(value, Pairs) and outer is None and _is_envelope(value, stream):
            _unwrap(dict(value), number, stream, letterless_kib, out)
        else:
            _message(value, number, stream, letterless_kib, out, outer)
    elif stream in FORMATS and outer is None:
        _bare(line.decode(errors="backslashreplace"), number, stream, list(FORMATS[stream]), out, {})
    else:
        out.rejected.append((number, None, reason))


def _is_envelope(pairs: Pairs, stream: str) -> bool:
    values = dict(pairs)
    return (
        stream in FORMATS
        and len(pairs) == 4
        and values.keys() == ENVELOPE
        and not any(isinstance(part, list) for part in values.values())
        and values["format"] is not None
        and values["line"] is not None
    )


def _unwrap(values: dict[str, Any], number: int, stream: str, letterless_kib: bool, out: Expected) -> None:
    form, line = _print(values["format"]), _print(values["line"])
    outer = {"source": None if values["source"] is None else _print(values["source"])}
    if form == "json":
        _line(line.encode().replace(b"\n", b" "), number, stream, letterless_kib, out, outer)
    elif form in FORMATS[stream]:
        _bare(line, number, stream, [form], out, outer)
    else:
        out.rejected.append((number, None, "format: there is no format"))


def _bare(line: str, number: int, stream: str, formats: list[str], out: Expected, outer: dict[str, Any]) -> None:
    for name in formats:
        if found := FORMATS[stream][name].fullmatch(line.removesuffix("\r")):
            pairs = Pairs({**found.groupdict(), **outer}.items())
            _records([pairs], number, stream, False, out)
            return
    out.rejected.append((number, None, "line"))


def _message(
    value: Any, number: int, stream: str, letterless_kib: bool, out: Expected, outer: dict[str, Any] | None
) -> None:
    records = [value] if isinstance(value, Pairs) else value
    if not records and not isinstance(value, Pairs):
        out.rejected.append((number, None, "message is an empty array"))
    elif any(_depth(record) > 64 for record in records):
        out.rejected.append((number, None, "message is nested deeper"))
    else:
        _records(records, number, stream, letterless_kib, out, outer)


def _records(
    records: list[Any], number: int, stream: str, kib: bool, out: Expected, outer: dict[str, Any] | None = None
) -> None:
    for index, record in enumerate(records):
        try:
            normal = _record(record, stream, kib, out.unknown, outer)
            out.records.append({**normal, "message": number, "index": index})
        except Impossible as problem:
            out.rejected.append((number, index, str(problem)))


def _depth(value: Any) -> int:
    if isinstance(value, Pairs):
        return 1 + max((_depth(item) for _, item in value), default=0)
    return 1 + max((_depth(item) for item in value), default=0) if isinstance(value, list) else 0


def _record(
    pairs: Any, stream: str, letterless_kib: bool, unknown: Counter[str], outer: dict[str, Any] | None = None
) -> dict[str, Any]:
    if not isinstance(pairs, Pairs):
        raise Impossible("record is not an object")
    fields = FIELDS[stream]
    known = fields.keys() | TRUTH.get(stream, USUAL_TRUTH)
    seen = Counter(name for name, _ in pairs)
    unknown.update({name: times for name, times in seen.items() if name not in known})
    values = dict(reversed(pairs))
    for name, _ in pairs:
        if name in fields and seen[name] > 1:
            raise Impossible(f"{name}: occurs more than once")
    for name, (kind, _, _) in fields.items():
        if kind in ("text", "text?", "name", "address") and isinstance(values.get(name), list):
            raise Impossible(f"{name}: not a text")
    values |= outer or {}
    optional = OPTIONAL.get(stream, set())
    out: dict[str, Any] = {
        name: None
        if name in optional and values.get(name) is None
        else _value(name, kind, low, high, values, letterless_kib)
        for name, (kind, low, high) in fields.items()
    }
    out["event_time"] = EPOCH + timedelta(microseconds=round(out[TIMES.get(stream, "ts")] * 1e6))
    return out | DERIVED[stream](out)


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
    if base in ("address", "boolean"):
        found = _address(text.strip(SPACES)) if base == "address" else BOOLEANS.get(text.strip(SPACES).lower())
        if found is None:
            raise Impossible(f"{name}: n")
        return found
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
    if kind == "moment" and (found := _moment(text)) is not None:
        return found
    if kind == "fraction" and text.endswith("%"):
        number = _float(text[:-1].rstrip(SPACES))
        return None if number is None else number / 100
    return _float(text)


def _address(text: str) -> str | None:
    """Of the standard library, but for zones; an IPv4 address within an IPv6 one is that address."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return None if found.scope_id else str(found.ipv4_mapped or found)
    return str(found)


def _moment(text: str) -> float | None:
    """Of the standard library, once the form is right; to nanoseconds, which it does not know."""
    try:
        if iso := ISO.fullmatch(text):
            date, clock, fraction, zone = iso.groups()
            zone = "+00:00" if zone in (None, "Z", "z") else zone
            return datetime.fromisoformat(f"{date}T{clock}{zone}").timestamp() + float(f"0.{fraction or 0}")
        if CLF.fullmatch(text):
            return datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z").timestamp()
    except ValueError:
        pass
    return None


def _host(out: dict[str, Any]) -> dict[str, Any]:
    finished = out["CMD"].startswith("<") and out["CMD"].endswith(">") and len(out["CMD"]) > 2
    command = out["CMD"][1:-1] if finished else out["CMD"]
    return {"finished": finished, "CMD": command, "CMD_PID": f"{command}_{out['PID']}"}


def _process(out: dict[str, Any]) -> dict[str, Any]:
    restored = out["PRI"] is not None and (out["PRI"] == 0 or out["PRI"] >= 100)
    nice = {"NICE": 0 if out["PRI"] == 0 else out["PRI"] - 120} if restored else {}
    return _host(out) | nice


#: The field that holds a record's own time, where it is not `ts`.
TIMES = {"request": "when"}
#: What follows of the fields of a record, of each stream.
DERIVED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "process": _process,
    "memory": _host,
    "request": lambda out: {"source": out["source"] or "here"},
    "visit": lambda out: {"client_path": f"{out['client']} {out['path']}"},
    "login": lambda out: {},
}
