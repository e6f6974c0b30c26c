"""Text that came from outside, made safe to show: in a terminal or a log line, and in the cells of a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["FORMULA", "csv_cell", "csv_line", "printable", "printable_json", "spreadsheet_safe"]

# Control characters (C0, DEL, C1), line and paragraph separators, and the marks that turn the reading direction:
# a program's name may hold any of them, and a terminal obeys them.
_DANGEROUS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x200E, 0x200F, *range(0x202A, 0x202F)]
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _DANGEROUS}
_ESCAPES |= {code: f"\\u{code:04x}" for code in (*range(0x2066, 0x206A), *range(0xD800, 0xE000))}
_KEEP_LINES = {code: text for code, text in _ESCAPES.items() if code not in (0x09, 0x0A)}
_IN_JSON = {code: f"\\u{code:04x}" for code in _KEEP_LINES}

#: Text that a spreadsheet takes for a formula: the first character, after blanks, is `=`, `+`, `-` or `@`, of full
#: width too, or it begins with a tab or the end of a line; a lone `-` stands for nothing
#: (https://owasp.org/www-community/attacks/CSV_Injection). Python and Polars read the expression alike.
FORMULA = r"(?s)^[\x00-\x20\x7f-\xa0\s]*(?:[=+@\uff1d\uff0b\uff0d\uff20]|-.)|^[\t\r\n]"
_FORMULA = re.compile(FORMULA)
_QUOTED = re.compile(r'[",\r\n]')


def printable(text: str, *, keep_lines: bool = False) -> str:
    """Control, direction and surrogate characters become escapes (`\\x1b`); `keep_lines` keeps \\n and \\t."""
    return text.translate(_KEEP_LINES if keep_lines else _ESCAPES)


def printable_json(text: str) -> str:
    """The same of JSON text, which means what it meant: `\\u009b`."""
    return text.translate(_IN_JSON)


def spreadsheet_safe(text: str) -> str:
    """Text that no spreadsheet runs as a formula: an apostrophe before what looks like one. Numbers need none.

    >>> spreadsheet_safe("=HYPERLINK(1)"), spreadsheet_safe("nc -l"), spreadsheet_safe("-")
    ("'=HYPERLINK(1)", 'nc -l', '-')
    """
    return f"'{text}" if _FORMULA.match(text) else text


def csv_cell(text: str) -> str:
    """A cell of CSV (RFC 4180), in quotes where it needs them.

    Python's own writer leaves a lone carriage return without, before 3.13: what follows it would begin a row.
    """
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def csv_line(cells: Sequence[str]) -> str:
    """A line of such cells; an empty one is not an empty line."""
    return f"{','.join(cells)}\n" if len(cells) != 1 or cells[0] else '""\n'
