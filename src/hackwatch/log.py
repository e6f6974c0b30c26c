"""The log: lines for people or JSON objects for machines, on standard error, safe against what attackers write."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from hackwatch.text import printable

__all__ = ["HumanFormatter", "JsonFormatter", "logger", "setup"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def logger(name: str) -> logging.Logger:
    """A logger of hackwatch; give values as `log.info("epoch committed", extra={"epoch": 7})`."""
    return logging.getLogger(name if name.startswith("hackwatch") else f"hackwatch.{name}")


def setup(level: str = "info", form: Literal["human", "json"] = "human", stream: TextIO | None = None) -> None:
    """Write hackwatch's log to standard error (or `stream`); calling it again replaces the earlier set-up."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else HumanFormatter())
    root = logging.getLogger("hackwatch")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


class HumanFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.123Z info engine: epoch committed epoch=7`; control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = _stamp(record).replace("T", " ")
        name = record.name.removeprefix("hackwatch").lstrip(".")
        fields = "".join(f" {key}={_value(value)}" for key, value in _extra(record).items())
        where = f" {name}" if name else ""
        line = printable(f"{stamp} {record.levelname.lower()}{where}: {record.getMessage()}{fields}")
        if record.exc_info:
            line += "\n" + printable(self.formatException(record.exc_info), keep_lines=True)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the given values, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"time": _stamp(record), "level": record.levelname.lower(), "logger": record.name}
        entry |= {"message": record.getMessage(), **_extra(record)}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _stamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")}


def _value(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return json.dumps(text) if " " in text or not text else text
