"""Alerts written out as JSON, NDJSON or CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from hackwatch.alerts.alert import Alert
from hackwatch.alerts.forms import FORMS, Form, encode
from hackwatch.text import printable

__all__ = ["FORMATS", "export", "safe_cell"]

FORMATS = ("ndjson", "json", "csv")
#: What makes a spreadsheet take a text for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def export(alerts: Sequence[Alert], out: TextIO, form: Form = "native", fmt: str = "ndjson") -> None:
    """Write the alerts to `out` in one of FORMS, as one of FORMATS.

    CSV has a header, nested fields under dotted names, lists as JSON, and is safe to open in a spreadsheet.
    """
    if fmt == "csv":
        _write_csv([dict(_flat(FORMS[form](alert))) for alert in alerts], out)
        return
    lines = (encode(alert, form) for alert in alerts)
    if fmt == "ndjson":
        out.writelines(f"{line}\n" for line in lines)
    else:
        out.write("[" + ",\n ".join(lines) + "]\n")


def safe_cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe; control characters are escaped.

    >>> safe_cell("=HYPERLINK(1)"), safe_cell(-1.5), safe_cell("nc")
    ("'=HYPERLINK(1)", -1.5, 'nc')
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if value.lstrip(" ").startswith(_FORMULA) else text


def _write_csv(rows: Sequence[Mapping[str, Any]], out: TextIO) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([safe_cell(column) for column in columns])
    writer.writerows([safe_cell(row.get(column)) for column in columns] for row in rows)


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list) else value
