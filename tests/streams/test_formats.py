"""Lines that are not JSON: how they are known, read by the formats of their stream, and taken out of envelopes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from hackwatch.streams.formats import CSV, JSON, matching, recognised
from hackwatch.streams.stream import Decoded, DecodeOptions
from tests.streams.request import REQUEST, STREAM, short, wrapped
from tests.streams.support import messages


def decode(*lines: bytes | dict[str, Any] | list[Any], **options: Any) -> Decoded:
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return STREAM.decode(messages(texts), DecodeOptions(**options))


def seen(decoded: Decoded) -> list[tuple[Any, ...]]:
    return decoded.records.select("source", "client", "when", "bot", "bytes", "path").rows()


AT = 971211336.0
ONE = ("here", "192.0.2.1", AT, False, 512, "/index")
WRAPPED = ("web-1", *ONE[1:])
TABBED = b"[10/Oct/2000:13:55:36 -0700\t192.0.2.1\tF\t512\t/index]"

#: What a message is, and what becomes of it.
READ: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "JSON": (REQUEST, ONE),
    "a line of the first format": (short(), ONE),
    "a line of the second, which begins as JSON does": (TABBED, ONE),
    "a carriage return at its end": (short() + b"\r", ONE),
    "a hyphen for what does not apply": (short(bytes="-"), (*ONE[:4], None, ONE[5])),
    "another way to print each value": (
        short(client="2001:DB8::0:1", when="2000-10-10 20:55:36.5", bot="YES"),
        ("here", "2001:db8::1", AT + 0.5, True, 512, "/index"),
    ),
    "what is no UTF-8 is kept as escapes": (short(path="/x") + b"\xff", (*ONE[:5], "/x\\xff")),
    "a line in an envelope": (wrapped(short().decode()), WRAPPED),
    "its parts in another order": (dict(reversed(wrapped(short().decode()).items())), WRAPPED),
    "JSON in an envelope": (wrapped(json.dumps(REQUEST), "json"), WRAPPED),
    "JSON over several lines in an envelope": (wrapped(json.dumps(REQUEST, indent=1), "json"), WRAPPED),
    "an envelope knows its source better than the line": (
        wrapped(json.dumps({"source": "liar", **REQUEST}), "json"), WRAPPED
    ),
    "an envelope without a source": (wrapped(short().decode(), source=None), ONE),
}  # fmt: skip


@pytest.mark.parametrize(("message", "expected"), READ.values(), ids=READ)
def test_a_message_is_read_by_what_it_is(message: Any, expected: tuple[Any, ...]) -> None:
    decoded = decode(message)
    assert decoded.rejected["reason"].to_list() == []
    assert seen(decoded) == [expected]
    assert not decoded.unknown_fields


@pytest.mark.parametrize("name", READ)
def test_what_stands_beside_it_changes_nothing(name: str) -> None:
    """Whatever comes first, and however many there are: each message is read alike."""
    others, rows = zip(*READ.values(), strict=True)
    message, expected = READ[name]
    decoded = decode(message, *others, b"junk", {}, *others[::-1])
    assert seen(decoded) == [expected, *rows, *rows[::-1]]
    assert decoded.rejected.height == 2


NOT_JSON = "message is not JSON: "
#: What no format knows, and what is said of it.
REJECTED: dict[str, tuple[Any, str]] = {
    "a line of no format": (b"hello", "line is of none of the formats short, tabbed"),
    "a number, which is JSON but no record": (b"5", "line is of none of the formats short, tabbed"),
    "a broken object": (b"{", NOT_JSON),
    "nothing": (b" ", "message is empty"),
    "an impossible value": (short(client="192.0.2.256"), "client: not an IP address"),
    "several of them": (
        short(when="yesterday", bot="maybe"),
        "when: not a time from 1 to 8589934592 Unix seconds, nor a date and time of that range; "
        "bot: neither true nor false",
    ),
    "a format that the stream lacks": (wrapped("x", "xml"), "format: there is no format 'xml'; use json,"),
    "a line that is not of the format named": (wrapped(short().decode(), "tabbed"), "line: not of the format tabbed"),
    "no JSON in an envelope of it": (wrapped("{", "json"), NOT_JSON),
    "an envelope in an envelope": (wrapped(json.dumps(wrapped(short().decode())), "json"), "client: missing or null"),
    "an envelope without a line": (wrapped(None), "client: missing or null"),  # type: ignore[arg-type]  # on purpose
    "an envelope with more in it": ({**wrapped(short().decode()), "more": 1}, "client: missing or null"),
    "an array of envelopes": ([wrapped(short().decode())], "client: missing or null"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "says"), REJECTED.values(), ids=REJECTED)
def test_what_no_format_knows_is_rejected_as_it_came(message: Any, says: str) -> None:
    decoded = decode(message, short())
    assert seen(decoded) == [ONE]
    [(reason, raw)] = decoded.rejected.select("reason", "raw").rows()
    assert reason.startswith(says)
    [record] = message if isinstance(message, list) else [message]
    assert raw == (record.decode() if isinstance(record, bytes) else json.dumps(record))


def test_what_begins_as_json_says_both_that_it_is_none_and_what_was_tried() -> None:
    [reason] = decode(b"[Wed Oct 11] error").rejected["reason"]
    assert reason.startswith(NOT_JSON)
    assert reason.endswith("; line is of none of the formats short, tabbed")


@pytest.mark.parametrize(
    ("formats", "first", "tried"),
    [((), "short", "short, tabbed"), (("tabbed", "short"), "tabbed", "tabbed, short"), (("short",), "short", "short")],
)
def test_lines_are_tried_against_the_formats_that_are_named_in_their_order(
    formats: tuple[str, ...], first: str, tried: str
) -> None:
    decoded = decode(short(), TABBED, b"junk", formats=formats)
    assert decoded.records.height == (2 if "tabbed" in tried else 1)
    assert decoded.rejected["reason"][-1] == f"line is of none of the formats {tried}"


def test_a_position_can_be_the_key_of_duplicates() -> None:
    lines = [wrapped(short().decode(), position=f"log:{number}") for number in (1, 2, 2)]
    keys = decode(*lines, short(), wrapped(json.dumps(REQUEST), "json", position=9), key="position").records["key"]
    assert keys.to_list() == ["log:1", "log:2", "log:2", None, "9"]


def test_truth_is_what_the_stream_says_it_is() -> None:
    decoded = decode({**REQUEST, "verdict": "normal"}, {**REQUEST, "verdict": "scan"}, REQUEST, short(), labels=True)
    assert decoded.records.select("label", "type").rows() == [
        (0, "normal"), (1, "scan"), (None, None), (None, None)
    ]  # fmt: skip
    assert decode({**REQUEST, "verdict": "scan"}).unknown_fields == {}


def test_unknown_fields_are_counted_for_each_message() -> None:
    more = {**REQUEST, "colour": 1, "size": 2}
    lines: list[Any] = [short(), more, REQUEST, [more, {**REQUEST, "size": 0}], wrapped(json.dumps(more), "json"), b"{"]
    decoded = decode(*lines)
    assert decoded.unknown_by_message is not None
    assert decoded.unknown_by_message.tolist() == [0, 2, 0, 3, 2, 0]
    assert dict(decoded.unknown_fields) == {"colour": 3, "size": 4}
    assert decode(short(), REQUEST).unknown_by_message is None


def test_many_lines_keep_their_order_and_positions() -> None:
    kinds = [(short(bytes=n), json.dumps({**REQUEST, "bytes": n}).encode(), b"no") for n in range(3000)]
    lines = [one[n % 3] for n, one in enumerate(kinds)]
    decoded = decode(*lines)
    expected = [n for n in range(3000) if n % 3 < 2]
    assert decoded.records["bytes"].to_list() == expected
    assert np.array_equal(decoded.records["offset"].to_numpy(), messages(lines).offsets[expected])
    assert decoded.rejected["offset"].to_list() == messages(lines).offsets[2::3].tolist()


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b'{"client":', "json"),
        (b"client,when\n", "csv"),
        (short() + b"\n", "short"),
        (b"\xef\xbb\xbf" + short() + b"\r\n", "short"),
        (b"GET / of a stranger\n" * 3 + short() + b"\n", "short"),
        (TABBED + b"\n", "tabbed"),
        (b"junk\n", None),
    ],
)
def test_a_file_s_beginning_tells_its_format(head: bytes, form: str | None) -> None:
    found = recognised(STREAM.formats, head)
    assert (found and found.name) == form


def test_a_pattern_must_match_the_whole_line() -> None:
    form = matching("pair", r"(?P<a>\w+)=(?P<b>\w+)?")
    assert form.columns is not None
    columns, matched = form.columns(pl.Series(["x=1", "x=", "x=1 ", " x=1", "x=1\r", "x=1\n"]))
    assert matched.to_list() == [True, True, False, False, True, False]
    assert columns.filter(matched).rows() == [("x", "1"), ("x", None), ("x", "1")]
    assert [one.name for one in (JSON, CSV) if one.columns is not None] == []
