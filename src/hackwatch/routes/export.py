"""Alerts written out as JSON, NDJSON or CSV."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from hackwatch.alerts.alert import Alert
from hackwatch.alerts.forms import FORMS, Form, encode
from hackwatch.text import csv_cell, csv_line, printable, spreadsheet_safe

__all__ = ["FORMATS", "export"]

FORMATS = ("ndjson", "json", "csv")


def export(alerts: Iterable[Alert], out: TextIO, form: Form = "native", fmt: str = "ndjson") -> None:
    """Write the alerts to `out` in one of FORMS, as one of FORMATS: one by one, but CSV at the end.

    CSV has a header, nested fields under dotted names, lists as JSON, and is safe to open in a spreadsheet.
    """
    if fmt == "csv":
        _write_csv([dict(_flat(FORMS[form](alert))) for alert in alerts], out)
        return
    lines = (encode(alert, form) for alert in alerts)
    if fmt == "ndjson":
        out.writelines(f"{line}\n" for line in lines)
    else:
        out.write("[")
        out.writelines(line if number == 0 else f",\n {line}" for number, line in enumerate(lines))
        out.write("]\n")


def _write_csv(rows: Sequence[Mapping[str, Any]], out: TextIO) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    shown = printable if out.isatty() else str

    def cell(value: Any) -> str:
        if value is None:
            return ""
        return csv_cell(shown(spreadsheet_safe(value) if isinstance(value, str) else str(value)))

    out.write(csv_line([cell(column) for column in columns]))
    out.writelines(csv_line([cell(row.get(column)) for column in columns]) for row in rows)


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list) else value
