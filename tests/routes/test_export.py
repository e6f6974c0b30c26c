"""Export: every format of every form reads back, and a spreadsheet finds no formula."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.alerts.forms import FORMS, Form, encode
from hackwatch.routes.export import FORMATS, export
from hackwatch.text import spreadsheet_safe
from tests.routes.support import HOSTILE, alert

ALERTS = [
    alert(1),
    alert(2, kind="window", evidence={}, drivers={}, technique=None),
    alert(3, subject=HOSTILE, title=HOSTILE),
]


def written(form: Form, fmt: str, alerts: Any = ALERTS) -> str:
    out = io.StringIO()
    export(alerts, out, form, fmt)
    return out.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_json_and_ndjson_hold_the_same_alerts(form: Form) -> None:
    expected = [json.loads(encode(each, form)) for each in ALERTS]
    assert [json.loads(line) for line in written(form, "ndjson").splitlines()] == expected
    assert json.loads(written(form, "json")) == expected


@pytest.mark.parametrize("form", FORMS)
def test_csv_has_one_row_for_each_alert_under_one_header(form: Form) -> None:
    rows = list(csv.DictReader(io.StringIO(written(form, "csv"))))
    assert len(rows) == len(ALERTS)
    identity = {"native": "id", "ocsf": "finding_info.uid", "ecs": "event.id"}[form]
    assert [row[identity] for row in rows] == [each.id for each in ALERTS]
    assert all(None not in row for row in rows)


@pytest.mark.parametrize("fmt", FORMATS)
def test_no_alerts_are_an_empty_export(fmt: str) -> None:
    assert written("native", fmt, []).strip() in ("", "[]")


@given(name=st.text())
def test_whatever_a_program_is_called_no_cell_is_a_formula(name: str) -> None:
    document = written("native", "csv", [alert(1, subject=name, title=name, evidence={name: name})])
    for row in csv.reader(io.StringIO(document)):
        for cell in row:
            assert spreadsheet_safe(cell) == cell or cell.lstrip("-").replace(".", "").isdigit()


def test_on_a_terminal_no_cell_steers_it() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    export([alert(1, subject="nc\x1b[2J")], out, "native", "csv")
    assert "\x1b" not in out.getvalue()
    assert "nc\\x1b[2J" in out.getvalue()
