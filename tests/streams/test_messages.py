"""Messages: one object or an array of them; what is rejected, with what reason, and where it was."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest

from hackwatch.errors import InternalError
from hackwatch.streams import structure
from hackwatch.streams.stream import DecodeOptions, Messages
from tests.streams.support import BASE, VISIT, decode, messages, record
from tests.third import shop

DEEP = b'{"a":' * 100 + b"1" + b"}" * 100


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "message is empty"),
        (b" \t\r", "message is empty"),
        (b"[]", "message is an empty array"),
        (b"5", "message is neither an object nor an array of objects"),
        (b"null", "message is neither an object nor an array of objects"),
        (b'"text"', "message is neither an object nor an array of objects"),
        (b"{", "message is not JSON: "),
        (b"{}{}", "message is not JSON: "),
        (b'{"ts":NaN}', "message is not JSON: "),
        (b'{"ts":Infinity}', "message is not JSON: "),
        (b'{"ts":1e999}', "message is not JSON: "),
        (b'{"path":"\xff"}', "message is not JSON: "),
        (b'{"path":"\\ud800"}', "message is not JSON: "),
        (b'{"path":"a\x01b"}', "message is not JSON: "),
        (b"\xef\xbb\xbf{}", "message is not JSON: "),
        (b"[" * 100_000, "message is not JSON: "),
        (b'{"a":' * 100_000, "message is not JSON: "),
        (b'{"a":' + DEEP + b',"a":1}', "message is nested deeper than 64 levels"),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, "message is nested deeper than 64 levels"),
        (DEEP, "message is nested deeper than 64 levels"),
        (b"x" * (1 << 20) + b"yz", "message is longer than 1048576 bytes"),
    ],
    ids=lambda text: str(text[:20]),
)
def test_what_is_no_message_is_rejected_whole(message: bytes, reason: str) -> None:
    decoded = decode("visit", VISIT, message, VISIT)
    assert decoded.records.height == 2
    [one] = decoded.rejected.to_dicts()
    assert one["reason"].startswith(reason)
    assert (one["stream"], one["topic"], one["partition"], one["index"]) == ("visit", "topic", 3, None)
    assert one["offset"] == 1000 + len(json.dumps(VISIT)) + 1
    assert one["raw"] == message[: 64 * 1024].decode(errors="backslashreplace")
    assert one["raw_bytes"] == len(message)


@pytest.mark.parametrize("column", ["status", "path", "new"])
@pytest.mark.parametrize(("levels", "deep"), [(63, False), (64, True)])
@pytest.mark.parametrize("around", [0, 40], ids=["alone", "among others"])
def test_nesting_is_judged_alike_in_every_field(column: str, levels: int, deep: bool, around: int) -> None:
    text = json.dumps({name: value for name, value in VISIT.items() if name != column})
    nested = f'{{"{column}":{"[" * levels}{"]" * levels},{text[1:]}'.encode()
    decoded = decode("visit", *[nested] * 3, *[VISIT] * around, [VISIT, VISIT])
    whole = decoded.rejected.filter(reason="message is nested deeper than 64 levels").height
    assert whole == (3 if deep else 0)
    assert decoded.records.height + decoded.rejected.height == 3 + around + 2


def test_ten_megabytes_in_a_line_are_cut() -> None:
    decoded = decode("visit", b'{"path":"' + b"x" * 10_000_000 + b'"}', VISIT)
    assert decoded.records.height == 1
    assert decoded.rejected["raw"].str.len_bytes().to_list() == [64 * 1024]
    assert decoded.rejected["raw_bytes"].to_list() == [10_000_011]


def test_the_limit_of_a_message_is_inclusive() -> None:
    size = len(json.dumps(VISIT))
    assert decode("visit", VISIT, max_message_bytes=size).records.height == 1
    assert decode("visit", VISIT, max_message_bytes=size - 1).records.height == 0


@pytest.mark.parametrize("comma", [b",", b", ", b" ,\t"], ids=["tight", "spaced", "odd"])
def test_records_of_an_array_are_placed_and_rejected_one_by_one(comma: bytes) -> None:
    texts = [json.dumps(record("visit", bytes=n, status=-1 if n == 1 else 200)).encode() for n in range(4)]
    array = b"[" + comma.join(texts) + b"]"
    decoded = decode("visit", VISIT, array, VISIT)
    second = 1000 + len(json.dumps(VISIT)) + 1
    third = second + len(array) + 1
    assert decoded.records.select("offset", "index", "bytes").rows() == [
        (1000, 0, 12_800),
        (second, 0, 0),
        (second, 2, 2),
        (second, 3, 3),
        (third, 0, 12_800),
    ]
    [rejected] = decoded.rejected.to_dicts()
    assert (rejected["offset"], rejected["index"], rejected["raw"]) == (second, 1, texts[1].decode())


def test_an_element_that_is_no_object_rejects_itself_alone() -> None:
    decoded = decode("visit", [VISIT, 5, VISIT, [VISIT]])
    assert decoded.records["index"].to_list() == [0, 2]
    assert decoded.rejected.select("index", "reason").rows() == [
        (1, "record is not an object"),
        (3, "record is not an object"),
    ]


@pytest.mark.parametrize("other", [b"[%s],[%s]", b"[%s]]", b"[%s},{%s]", b"%s,%s", b"[%s", b"%s]", b"[%s,]"])
def test_no_array_is_made_of_what_is_none(other: bytes) -> None:
    text = json.dumps(VISIT).encode()
    broken = other.replace(b"%s", text)
    decoded = decode("visit", [VISIT, VISIT], broken, [VISIT])
    assert (decoded.records.height, decoded.rejected.height) == (3, 1)


@pytest.mark.parametrize("stream", ["visit", "login"])
def test_a_field_that_occurs_twice_rejects_the_record(stream: str) -> None:
    text = json.dumps(BASE[stream]).encode()
    doubled = b'{"client":1,' + text[1:]
    escaped = b'{"\\u0063lient":1,' + text[1:]
    instead = text.replace(b'"client": "203.0.113.7"', b'"agent": "a:b"')
    decoded = decode(stream, text, doubled, escaped, instead, text)
    assert decoded.records.height == 2
    assert decoded.rejected["reason"].to_list() == [
        "client: occurs more than once",
        "client: occurs more than once",
        "agent: occurs more than once",
    ]


@pytest.mark.parametrize("nested", [["x"], {"path": "[x"}, [], {}, [[1]]], ids=str)
@pytest.mark.parametrize("column", ["path", "server", "agent"])
def test_an_array_or_object_is_no_text(column: str, nested: Any) -> None:
    decoded = decode("visit", VISIT, record("visit", **{column: nested}), VISIT)
    assert decoded.records.height == 2
    assert decoded.rejected["reason"].to_list() == [f"{column}: not a text but an array or object"]


def test_texts_that_only_look_nested_are_texts() -> None:
    names = ["[kworker/0:1]", "{x}", '["x"]', '{"path": "[x"}', "},{", "}, {", '"', "\\u0041", ":::"]
    decoded = decode("visit", *[record("visit", path=name) for name in names], [record("visit", path=names[4])])
    assert decoded.records["path"].to_list() == [*names, "},{"]
    assert not decoded.unknown_fields


@pytest.mark.parametrize(
    ("extra", "counted"),
    [
        ([{"rack": "a"}, {"rack": "b"}, {"rack": "c"}], {"rack": 3}),
        ([{"rack": "a"}, {}, {"rack": None}], {"rack": 2}),
        ([{}, {}, {"rack": {"a": 1, "b": [1, {"c": 2}]}}], {"rack": 1}),
        ([{"a:b": ":"}, {"c": "::"}, {"c": "\u0663", "d": 1}], {"a:b": 1, "c": 2, "d": 1}),
        ([{"label": 1}, {"attack": 0, "type": "xss"}, {}], {}),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["array", "objects"])
def test_unknown_fields_are_ignored_and_counted(
    extra: list[dict[str, Any]], counted: dict[str, int], together: bool
) -> None:
    records = [record("visit", **fields) for fields in extra]
    decoded = decode("visit", records) if together else decode("visit", *records)
    assert decoded.records.height == 3
    assert dict(decoded.unknown_fields) == counted


def test_names_of_unknown_fields_are_bounded() -> None:
    # 100 names in each of 20 records
    flood = [
        record("visit", **{f"{'x' * 100}{n}": 1 for n in range(50)}, **{f"n{k}-{n}": 1 for n in range(50)})
        for k in range(20)
    ]
    unknown = decode("visit", *flood).unknown_fields
    assert sum(unknown.values()) == 20 * 100
    assert len(unknown) <= 257
    assert max(map(len, unknown)) == 64


def test_truth_is_kept_on_request() -> None:
    rows: list[dict[str, Any]] = [
        {"label": 1, "type": "scraping"},
        {"attack": "0", "type": " normal "},
        {"label": None, "attack": 1},
        {},
    ]
    decoded = decode("visit", *[record("visit", **row) for row in rows], labels=True)
    assert decoded.records["label"].to_list() == [1, 0, 1, None]
    assert decoded.records["type"].to_list() == ["scraping", "normal", None, None]
    assert decoded.records.schema["label"] == pl.Int8
    assert "label" not in decode("visit", record("visit", label=1)).records.columns
    bad = decode("visit", record("visit", label=2), labels=True)
    assert bad.rejected["reason"].to_list() == ["label: not a whole number from 0 to 1"]


@pytest.mark.parametrize(
    ("key", "values", "kept"),
    [
        ("uuid", [{"uuid": "a"}, {"uuid": "b:c"}, {}], ["a", "b:c", None]),
        ("uuid", [{}, {"uuid": 5}, {"uuid": None}], [None, "5", None]),
        ("status", [{"status": 201}, {"status": "202"}, {"status": 203.0}], ["201", "202", "203"]),
    ],
)
def test_a_key_is_kept_as_text(key: str, values: list[dict[str, Any]], kept: list[str | None]) -> None:
    decoded = decode("visit", *[record("visit", **one) for one in values], key=key)
    assert decoded.records["key"].to_list() == kept
    assert not decoded.unknown_fields


def test_one_broken_line_costs_only_itself() -> None:
    lines = [json.dumps(record("visit", bytes=n)).encode() for n in range(500)]
    for position in range(7, 500, 100):
        lines[position] = lines[position][:50]
    decoded = decode("visit", *lines)
    assert decoded.records["bytes"].to_list() == [n for n in range(500) if n % 100 != 7]
    assert decoded.rejected.height == 5


@pytest.mark.parametrize(("alone", "parts"), [(1, 99), (3, 99), (64, 99), (1, 4), (1, 0)])
def test_what_the_fast_parser_alone_refuses_is_isolated_by_halving(alone: int, parts: int) -> None:
    # JSON to orjson and Python, an error to the parser behind Polars: an integer beyond 128 bits.
    big: dict[str, Any] = {"big": 10**60}
    records = [record("visit", bytes=n, **(big if n % 37 == 5 else {})) for n in range(100)]
    with patch.object(structure, "_ALONE", alone), patch.object(structure, "_MOST_PARTS", parts):
        decoded = decode("visit", *records)
    assert decoded.records["bytes"].to_list() == list(range(100))
    assert dict(decoded.unknown_fields) == {"big": 3}


def test_a_last_message_without_its_newline_counts() -> None:
    one = messages([json.dumps(VISIT).encode()])
    cut = Messages(one.topic, one.partition, one.payload[:-1], one.offsets, one.next_offset)
    assert shop.VISIT.decode(cut, DecodeOptions()).records.height == 1


def test_offsets_that_do_not_fit_the_payload_are_our_bug() -> None:
    one = messages([b"{}"])
    wrong = Messages(one.topic, one.partition, one.payload * 2, one.offsets, one.next_offset)
    with pytest.raises(InternalError, match="1 offsets for 2 messages"):
        shop.VISIT.decode(wrong, DecodeOptions())
