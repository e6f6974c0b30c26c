"""One guard for cells of spreadsheets and one for terminals, whoever writes."""

from __future__ import annotations

import csv
import io
import json
import unicodedata

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hackwatch.tables import formula_safe
from hackwatch.text import csv_cell, csv_line, printable, printable_json, spreadsheet_safe

ANY = st.text(st.characters(codec="utf-8"))


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("nc", False), ("", False), ("-", False), (" - ", True), ("a=1", False), ("1-2", False), ("'=1", False),
        ("=1+1", True), ("+1", True), ("-1", True), ("-l", True), ("-\n", True), ("@SUM(A1)", True), (" =1+1", True),
        ("\u00a0=1", True), ("\u3000=1", True), ("\x01=1", True), ("\t1", True), ("\r1", True), ("\n1", True),
        ("\uff1d1", True), ("\uff0b1", True), ("\uff0d1", True), ("\uff20A1", True), (" \t=1", True), (" \t1", False),
    ],
)  # fmt: skip
def test_what_a_spreadsheet_takes_for_a_formula_gets_an_apostrophe(text: str, formula: bool) -> None:
    assert spreadsheet_safe(text) == ("'" if formula else "") + text


@given(texts=st.lists(ANY | st.builds(str.__add__, st.sampled_from(["=", " -", "\x1c+", "\u2003@", "\t", "-"]), ANY)))
def test_whole_columns_are_guarded_as_single_texts_are(texts: list[str]) -> None:
    frame = pl.DataFrame({"text": pl.Series(texts, dtype=pl.String), "n": pl.Series([-1] * len(texts), dtype=pl.Int8)})
    assert formula_safe(frame).rows() == [(spreadsheet_safe(text), -1) for text in texts]


@given(text=ANY)
def test_guarded_is_guarded(text: str) -> None:
    assert spreadsheet_safe(spreadsheet_safe(text)) == spreadsheet_safe(text)


@given(text=ANY)
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    assert not any(unicodedata.category(letter) == "Cc" for letter in printable(text))


@given(text=ANY)
def test_nor_in_json_which_means_what_it_meant(text: str) -> None:
    document = json.dumps({"text": text}, ensure_ascii=False, indent=1)
    shown = printable_json(document)
    assert json.loads(shown) == {"text": text}
    assert {letter for letter in shown if unicodedata.category(letter) == "Cc"} <= {"\n"}


@given(rows=st.lists(st.lists(ANY | st.sampled_from(["a\r=1", "\r", "", '"', ","]), min_size=2, max_size=2)))
def test_a_row_of_csv_stays_a_row(rows: list[list[str]]) -> None:
    """Also where a text has a carriage return of its own, which would begin a row of the attacker's."""
    document = "".join(csv_line([csv_cell(text) for text in row]) for row in rows)
    assert list(csv.reader(io.StringIO(document, newline=""))) == rows
    table = formula_safe(pl.DataFrame(rows, schema=["a", "b"], orient="row")) if rows else pl.DataFrame()
    guarded = [[spreadsheet_safe(text) for text in row] for row in rows]
    assert list(csv.reader(io.StringIO(table.write_csv(include_header=False), newline=""))) == guarded


def test_an_empty_cell_alone_is_a_row_too() -> None:
    assert csv_line([""]) == '""\n'
