"""An alert as a syslog message (RFC 5424)."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from datetime import UTC, datetime

from hackwatch.alerts.alert import Alert
from hackwatch.alerts.forms import Form, encode, summary
from hackwatch.text import printable

__all__ = ["format_message"]

#: Ours by severity: the numbers of RFC 5424 table 2.
_SEVERITY = {"critical": 2, "high": 3, "medium": 4, "low": 5, "informational": 6}
#: hackwatch has no enterprise number; this one is set apart for examples (RFC 5612).
_SD_ID = "alert@32473"


def format_message(alert: Alert, form: Form = "native", facility: int = 13, hostname: str | None = None) -> bytes:
    """The whole message without framing.

    Structured data `alert@32473` holds what one filters by; the text is one line for people (form native) or the
    JSON of the other forms, in UTF-8.
    """
    priority = facility * 8 + _SEVERITY[alert.severity]
    stamp = datetime.fromtimestamp(alert.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    head = " ".join(
        (
            f"<{priority}>1",
            stamp,
            _name(socket.gethostname() if hostname is None else hostname, 255),
            "hackwatch",
            str(os.getpid()),
            _name(alert.kind, 32),
        )
    )
    message = summary(alert) if form == "native" else encode(alert, form)
    # The byte order mark says that the text is UTF-8 (section 6.4).
    return f"{head} {_structured(_parameters(alert))} \ufeff{message}".encode(errors="backslashreplace")


def _parameters(alert: Alert) -> dict[str, str]:
    values: dict[str, object] = {
        "id": alert.id,
        "rule": alert.rule,
        "severity": alert.severity,
        "risk": alert.risk,
        "stream": alert.stream,
        "entity": alert.entity,
        "subject": alert.subject,
        "count": alert.count,
        "site": alert.site,
        "technique": alert.technique,
        "tactic": alert.tactic,
    }
    return {name: printable(str(value)) for name, value in values.items() if value is not None}


def _structured(parameters: Mapping[str, str]) -> str:
    # Quote, backslash and closing bracket are escaped by a backslash (section 6.3.3).
    escaped = {name: re.sub(r'(["\\\]])', r"\\\1", value) for name, value in parameters.items()}
    pairs = " ".join(f'{name}="{value}"' for name, value in escaped.items())
    return f"[{_SD_ID} {pairs}]"


def _name(text: str, longest: int) -> str:
    """A header field: printable ASCII without blanks, `-` for nothing."""
    return re.sub(r"[^\x21-\x7e]", "?", text)[:longest] or "-"
